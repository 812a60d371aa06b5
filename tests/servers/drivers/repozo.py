"""repozo backs up ZEO's FileStorage from a mirror's replica while clients commit, and the blobs are copied after it.

A mirror's replica is a prefix of the order of changes, and repozo copies to the end of the last whole transaction. So what it
recovers to is the database as it was at one moment, and holds whatever was acknowledged before repozo began. The blob of a
transaction is in place before that transaction ends, so a copy of the blobs that begins after repozo has ended has all that
are referred to, unless a pack has removed them meanwhile.
"""

import shutil
import sys
import time

import ZODB
import ZODB.FileStorage

from . import driver
from .zeo import check, commit, prepare, serve, zeo, zeopack  # noqa: F401


# The series of one round: what is done before, and repozo's options.
STEPS = [
    (None, ["--full"]), (None, []), (None, ["--quick", "--gzip"]),
    (zeopack, []),  # it has returned, so every mirror has the new file in its place: repozo sees that it must begin anew
    (None, []),
]


def backup(place, acknowledged, replica, step):
    before, options = STEPS[step]
    if before:
        before(place)
    repository, recovered = place.run / "repository", place.run / f"recovered{step}"
    repository.mkdir(exist_ok=True)
    recovered.mkdir()
    names = set(repository.iterdir())
    repozo("--backup", "--repository", repository, "--file", replica / "Data.fs", *options)
    if set(repository.iterdir()) <= names:
        yield "there is nothing new in the repository"
    # Without blobs that are still being written.
    shutil.copytree(replica / "blobs", recovered / "blobs", ignore=lambda folder, names: {"tmp"} & set(names))
    repozo("--recover", "--with-verify", "--repository", repository, "--output", recovered / "Data.fs")
    yield from zeo.check_files(recovered)[0]
    with open(recovered / "Data.fs", "rb") as ours, open(replica / "Data.fs", "rb") as theirs:
        text = ours.read()
        if text != theirs.read(len(text)):
            yield "it is not how the mirror's file begins"
    db = ZODB.DB(ZODB.FileStorage.FileStorage(str(recovered / "Data.fs"), read_only=True, blob_dir=str(recovered / "blobs")))
    with db.transaction() as connection:
        for name, last in acknowledged.items():
            there = list(connection.root()[name]["entries"]) if name in connection.root() else []
            # Others were acknowledged while repozo ran.
            yield from driver.gaps(name, there, last, in_flight=len(there))
    db.close()


def repozo(*args):
    # It names its files by the second.
    second = time.time() // 1
    driver.run(driver.scripts() / "repozo", *args)
    while time.time() // 1 == second:
        time.sleep(0.05)


LOADS = [commit, commit]

if __name__ == "__main__":
    driver.main(sys.modules[__name__])
