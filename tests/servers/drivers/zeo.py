"""ZEO with a FileStorage and blobs. `zeopack` packs it again and again while clients commit.

Server, ledger and checks are those of demo/. tests/zodb has rounds with clients that live through a failover.
"""

import contextlib
import socket
import subprocess
import sys
import time

import transaction
import ZEO.ClientStorage
import ZODB
import ZODB.FileStorage
from BTrees.LOBTree import LOBTree
from ZODB.POSException import ConflictError

from . import driver

sys.path.insert(0, str(driver.ROOT / "demo"))

import ledger  # noqa: E402
import zeo  # noqa: E402

KEEP = 20  # blobs of a client; the older revisions are what a pack removes


def prepare(place):
    # Two clients that open an empty storage at once get in each other's way.
    storage = ZODB.FileStorage.FileStorage(str(place.directory / "Data.fs"), blob_dir=str(place.directory / "blobs"))
    ZODB.DB(storage).close()


def serve(place):
    zeo.finish_pack(place.directory)
    config = place.run / "zeo.conf"
    config.write_text(zeo.CONFIG.format(directory=place.directory, address=socket_of(place)))
    with open(place.run / "zeo.log", "ab") as log:
        server = subprocess.Popen([driver.scripts() / "runzeo", "-C", config], stdout=log, stderr=log, cwd=place.run)
    driver.until(socket_of(place).exists, "ZEO listens", server)
    return server


def socket_of(place):
    return place.run / "zeo.sock"


def connect(place, name):
    # A client whose server is gone waits for the next one. Here it shall end.
    blobs = place.run / f"{name}-blobs"
    return ZODB.DB(ZEO.ClientStorage.ClientStorage(str(socket_of(place)), wait_timeout=5, blob_dir=str(blobs), blob_cache_size=64 << 20))


def commit(place, name, dice):
    connection = connect(place, name).open()
    number = 1
    while True:
        transaction.begin()
        try:
            if name not in connection.root():
                ledger.open_ledger(connection.root(), name)
                transaction.commit()
            ledger.write_entry(connection.root()[name], name, number, KEEP)
            transaction.commit()
        except ConflictError:  # another client has made its own ledger
            transaction.abort()
            continue
        yield number
        number += 1
        time.sleep(dice.uniform(0, 0.02))


def pack(place, name, dice):
    yield 0
    while True:
        time.sleep(dice.uniform(0, 1))
        zeopack(place)


def zeopack(place):
    """Packs. zeopack tries for a minute to reach a server, so one that has gone is noticed here."""
    packing = subprocess.Popen([driver.scripts() / "zeopack", "--unix", socket_of(place), "--days", "0"], stdin=subprocess.DEVNULL)
    while packing.poll() is None:
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(socket_of(place))):
                packing.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            packing.wait(0.5)
    if packing.returncode:
        sys.exit(f"zeopack ended with {packing.returncode}")


def check(place, acknowledged):
    db = connect(place, "check")
    with db.transaction() as connection:
        yield from missing(connection.root(), acknowledged)
    db.close()
    # Nobody writes to the files meanwhile.
    yield from zeo.check_files(place.directory)[0]


def missing(root, acknowledged):
    """Yields what is wrong with the ledgers in root."""
    for name, last in acknowledged.items():
        there = root.get(name, {"entries": LOBTree(), "blobs": {}})
        numbers = list(there["entries"])
        yield from driver.gaps(name, numbers, last)
        for slot, blob in there["blobs"].items():
            number = max(n for n in numbers if n % ledger.BLOB_EVERY == 0 and n // ledger.BLOB_EVERY % KEEP == slot)
            with blob.open("r") as f:
                if f.read() != ledger.blob_content(name, number):
                    yield f"{name}: the blob of {number} is another one"


LOADS = [commit, commit, pack]

if __name__ == "__main__":
    driver.main(sys.modules[__name__])
