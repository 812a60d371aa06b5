"""The ZEO side: an unmodified server on a directory, clients of it, and what is checked in its files."""

import ast
import contextlib
import io
import json
import os
import re
import socket
import sys
from pathlib import Path

import ZEO.ClientStorage
import ZODB
import ZODB.blob
import ZODB.FileStorage
import ZODB.scripts.fstest

import ledger
from process import Failure, Process, wait_until

HERE = Path(__file__).parent

CONFIG = """\
<zeo>
  address {address}
  transaction-timeout 20
</zeo>
<filestorage 1>
  path {directory}/Data.fs
  blob-dir {directory}/blobs
</filestorage>
<eventlog>
  level info
  <logfile>
    path STDERR
    format %(asctime)s %(levelname)s %(name)s %(message)s
  </logfile>
</eventlog>
"""


def free_address():
    """A TCP address on this machine that nobody listens on."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return "127.0.0.1:%d" % s.getsockname()[1]


def answers(address):
    host, port = address.rsplit(":", 1)
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
        return True
    return False

BYTES = r"""b(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
# What a ZEO client logs when its cache is newer than the server: the server's last transaction, then its own.
AHEAD = re.compile(rf"Server behind client, %r < %r, %s', {BYTES}, ({BYTES})")


class Server:
    """A `runzeo` process that serves directory at address."""

    def __init__(self, name, directory, address, work):
        self.name, self.directory, self.address, self._work = name, Path(directory), address, work
        self._process = None

    def start(self):
        finish_pack(self.directory)
        config = self._work / f"{self.name}.conf"
        config.write_text(CONFIG.format(address=self.address, directory=self.directory))
        runzeo = Path(sys.executable).with_name("runzeo")
        self._process = Process(self.name, [runzeo, "-C", config], self._work / f"{self.name}.log", cwd=self._work)
        wait_until(self._ready, f"{self.name} listens on {self.address}", 30)

    def _ready(self):
        if not self._process.running:
            raise Failure(f"{self.name} ended\n{self._process.tail()}")
        return answers(self.address)

    def kill(self):
        self._process.kill()

    def stop(self):
        if self._process:
            self._process.stop()


def finish_pack(directory):
    """Completes a pack that was killed between its two renames, as an operator would: FileStorage itself starts an empty database there.

    At that moment Data.fs.pack is complete and closed, and Data.fs has just become Data.fs.old.
    """
    data, packed = directory / "Data.fs", directory / "Data.fs.pack"
    if not data.exists() and packed.exists() and (directory / "Data.fs.old").exists():
        packed.rename(data)


class Client:
    """A client.py process. It knows every server's address and uses the one that answers."""

    def __init__(self, name, addresses, work, keep=1_000_000, pace=0.02):
        self.name = name
        self.journal = work / f"{name}.journal"
        self.servers = []  # (address, result of ZEO's cache verification) of each connection made
        self.failures = []  # of commits, as text
        self.acknowledged = 0  # as of the last report
        argv = [sys.executable, HERE / "client.py", "--name", name, "--journal", self.journal,
                "--cache", work / f"{name}.zec", "--blobs", work / f"{name}-blobs", "--keep", keep, "--pace", pace]
        for address in addresses:
            argv += ["--server", address]
        self._process = Process(name, argv, work / f"{name}.log")
        self.expect("ready")

    def tell(self, command):
        self._process.tell(command)

    def do(self, command, timeout=90):
        """Tells the client and waits until it has done it."""
        self.tell(command)
        self.expect(command, timeout)

    def expect(self, event, timeout=90):
        while (said := json.loads(self._process.line(timeout)))["event"] != event:
            if said["event"] == "connected":
                self.servers.append((said["server"], said["verify"]))
            elif said["event"] == "failed":
                self.failures.append(said["error"])
            elif said["event"] == "gave up":
                raise Failure(f"{self.name} could not {event}: {self.failures[-1]}\n{self._process.tail()}")
        self.acknowledged = said.get("acknowledged", self.acknowledged)

    def promises(self):
        """The acknowledged entries, read from the journal."""
        return ledger.read_journal(self.journal) if self.journal.exists() else []

    def ahead(self):
        """The transactions that a server has told this client of and a later server had not."""
        return {ast.literal_eval(tid).hex() for tid in AHEAD.findall(self._process.log.read_text(errors="replace"))}

    def log_tail(self):
        return self._process.tail()

    def kill(self):
        self._process.kill()

    def stop(self):
        self._process.stop()


def broken_promises(clients):
    """One sentence for each client whose cache was newer than a server by a transaction that was acknowledged.

    FileStorage.tpc_finish has ZEO tell the other clients of a transaction before it is written to its end and synced. So
    one that is killed in between, and that nobody was promised, may be known to some. That is so on any disk.
    """
    promised = {line.get("tid") for client in clients for line in client.promises()}
    return [f"{client.name} knows transaction {tid}, which was acknowledged, and a server has lost it"
            for client in clients for tid in sorted(client.ahead() & promised)]


def all_answer(clients, command, timeout=90):
    """Tells every client the same and waits for all of them."""
    for client in clients:
        client.tell(command)
    for client in clients:
        client.expect(command, timeout)


def missing_on_server(address, clients, work):
    """Asks a server for everything that was acknowledged to clients, over a new connection with nothing cached."""
    host, port = address.rsplit(":", 1)
    storage = ZEO.ClientStorage.ClientStorage((host, int(port)), blob_dir=str(work / "check-blobs"), blob_cache_size=64 << 20)
    return _missing(storage, clients)


def missing_in_files(directory, clients):
    """Reads the database in directory, on which no server may be writing, without one. Nothing there is changed."""
    storage = ZODB.FileStorage.FileStorage(str(directory / "Data.fs"), read_only=True, blob_dir=str(directory / "blobs"))
    return _missing(storage, clients)


def _missing(storage, clients):
    db = ZODB.DB(storage)
    try:
        with db.transaction() as connection:
            return ledger.missing(connection.root(), {c.name: c.promises() for c in clients})
    finally:
        db.close()


def check_files(directory):
    """Runs ZODB's fstest on Data.fs and looks for the blob of every blob record, of each revision. Returns (sentences of what is wrong, blobs found).

    No server may be writing to directory.
    """
    wrong, blobs = [], 0
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            ZODB.scripts.fstest.check(str(directory / "Data.fs"))
    except ZODB.scripts.fstest.FormatError as err:
        wrong.append(f"fstest: {err}")
        return wrong, blobs
    files = ZODB.blob.FilesystemHelper(str(directory / "blobs"))
    for transaction in ZODB.FileStorage.FileIterator(str(directory / "Data.fs")):
        for record in transaction:
            if record.data and ZODB.blob.is_blob_record(record.data):
                path = files.getBlobFilename(record.oid, record.tid)
                if os.path.exists(path):
                    blobs += 1
                else:
                    wrong.append(f"the blob record {record.oid.hex()} of transaction {record.tid.hex()} has no blob at {path}")
    return wrong, blobs
