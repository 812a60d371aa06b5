"""Commits of ZODB on a FileStorage, directly or through a ZEO server.

KIND small changes one object of 200 bytes, large 200 objects of 5 KB, blob writes a blob of 256 KB. With CLIENTS 0 this process opens the
storage itself; otherwise an unmodified ZEO server does, and so many processes are its clients, each with objects of its own.
"""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import ZODB
import ZODB.blob
import ZODB.FileStorage
from persistent.mapping import PersistentMapping

import measure

CONFIG = """\
<zeo>
  address 127.0.0.1:{port}
</zeo>
<filestorage 1>
  path {directory}/Data.fs
  blob-dir {directory}/blobs
</filestorage>
"""


def committer(db, kind):
    """A step that commits once."""
    connection = db.open()
    manager = connection.transaction_manager
    top = connection.root()[f"client{os.getpid()}"] = PersistentMapping()
    objects = [PersistentMapping() for _ in range(200 if kind == "large" else 1)]
    top["objects"] = PersistentMapping(enumerate(objects))
    top["blob"] = blob = ZODB.blob.Blob()
    with blob.open("w") as file:
        file.write(b"x")
    manager.commit()
    size = {"small": 200, "large": 5_000, "blob": 256_000}[kind]
    noise = os.urandom(2 * size)
    count = 0

    def change():
        nonlocal count
        count += 1
        value = noise[count % size:][:size]
        if kind == "blob":
            with blob.open("w") as file:
                file.write(value)
        else:
            for each in objects:
                each["value"] = value
        manager.commit()

    return change


def direct(directory, kind, seconds, pids):
    db = ZODB.DB(ZODB.FileStorage.FileStorage(str(directory / "Data.fs"), blob_dir=str(directory / "blobs")))
    measure.Sample(seconds, pids).run(committer(db, kind)).print()
    db.close()


def client(port, kind, seconds, blobs):
    """One client of a ZEO server. It says when it is ready and begins when it is told."""
    import ZEO.ClientStorage
    db = ZODB.DB(ZEO.ClientStorage.ClientStorage(("127.0.0.1", port), blob_dir=blobs, blob_cache_size=64 << 20))
    step = committer(db, kind)
    print("ready", flush=True)
    sys.stdin.readline()
    measure.Sample(seconds).run(step).print()
    db.close()


def through_zeo(directory, kind, seconds, clients, pids):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    local = Path(os.environ["TMPDIR"])
    config = local / "zeo.conf"
    config.write_text(CONFIG.format(port=port, directory=directory))
    with open(local / "zeo.log", "wb") as log:
        server = subprocess.Popen([Path(sys.executable).with_name("runzeo"), "-C", config], stdout=log, stderr=log, cwd=local)
    children = []
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if server.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"runzeo does not answer: {(local / 'zeo.log').read_text()}") from None
                time.sleep(0.02)
        for n in range(clients):
            blobs = local / f"blobs{n}"
            children.append(subprocess.Popen(
                [sys.executable, __file__, "--client", str(port), kind, str(seconds), str(blobs)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
            # One after the other: what they set up conflicts.
            if children[-1].stdout.readline() != "ready\n":
                raise SystemExit("a client does not become ready")
        used, own = measure.cpu_seconds(pids), measure.cpu_seconds([server.pid])
        for child in children:
            child.stdin.write("go\n")
            child.stdin.flush()
        samples = [json.loads(child.stdout.readline()) for child in children]
        # The warm-up is in it, and taken out by its part of the time.
        part = seconds / (seconds * 4 / 3)
        total = measure.Sample(seconds, pids)
        total.latency = [ns for sample in samples for ns in sample["latency"]]
        total.took = sum(sample["seconds"] for sample in samples) / len(samples)
        total.load_cpu = sum(sample["load_cpu"] for sample in samples) + (measure.cpu_seconds([server.pid]) - own) * part
        total.server_cpu = (measure.cpu_seconds(pids) - used) * part
        total.print()
    finally:
        for child in children:
            child.stdin.close()
            child.wait(30)
        server.terminate()
        server.wait(30)


if __name__ == "__main__":
    if sys.argv[1] == "--client":
        client(int(sys.argv[2]), sys.argv[3], float(sys.argv[4]), sys.argv[5])
    else:
        directory, kind, seconds, clients, pids = measure.arguments()
        if clients:
            through_zeo(directory, kind, seconds, clients, pids)
        else:
            direct(directory, kind, seconds, pids)
