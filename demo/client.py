"""A ZEO client process: commits entries to its ledger until it is told otherwise.

It reads commands from standard input, one a line, and reports on standard output,
one JSON object a line. A commit that fails is given up and the next one is tried:
whether the failed one happened is unknown, as it always is. ZEO's own ClientStorage
finds the server that is there; this program only tells which it was.

Commands: run, pause, undo, pack. It ends with its standard input, or by a signal.
"""

import argparse
import json
import logging
import queue
import sys
import threading
import time

import transaction
import ZEO.ClientStorage
import ZODB
from persistent.mapping import PersistentMapping

from ledger import Journal, open_ledger, write_entry

PATIENCE = 60  # seconds for an undo or a pack that others are in the way of


def report(event, **details):
    """Tells the parent, and the log for whoever looks for the reason of a failure."""
    print(json.dumps({"event": event, **details}), flush=True)
    logging.info("%s %s", event, details)


class Storage(ZEO.ClientStorage.ClientStorage):
    """ZEO's client storage, which also tells how the comparison of its cache with a server's last transaction went."""

    def notify_connected(self, connection, info):
        super().notify_connected(connection, info)
        report("connected", server=self._server_addr, verify=connection.verify_result)


class Client:
    def __init__(self, options):
        self.name = options.name
        self.keep = options.keep
        self.pace = options.pace
        self.journal = Journal(options.journal)
        self.commands = queue.SimpleQueue()
        self.storage = Storage(
            options.server, wait_timeout=PATIENCE, cache=options.cache,
            blob_dir=options.blobs, blob_cache_size=64 << 20)
        self.db = ZODB.DB(self.storage)
        self.connection = self.db.open()
        self.number = self.acknowledged = self.undos = 0

    def listen(self):
        """Hands each line of standard input to serve, and None at its end: the parent is gone."""
        for line in sys.stdin:
            self.commands.put(line.strip())
        self.commands.put(None)

    def serve(self):
        """Does what the commands say. Only the main thread uses the database."""
        threading.Thread(target=self.listen, name="commands", daemon=True).start()
        running = False
        while True:
            try:
                command = self.commands.get(timeout=self.pace if running else None)
            except queue.Empty:
                self.attempt(self.commit_entry)
                continue
            if command is None:
                return
            if command in ("run", "pause"):
                running = command == "run"
            elif command == "undo":
                self.insist(self.undo)
            elif command == "pack":
                self.insist(self.db.pack)
            report(command, acknowledged=self.acknowledged)

    def attempt(self, change):
        """Tries a change once and reports whether it was acknowledged. A failure of any kind is the server's or the network's and passes."""
        try:
            transaction.begin()
            change()
            return True
        except Exception as err:
            transaction.abort()
            # A ZEO client keeps up to 100 IDs for new objects from a server that is gone, and a second one gives the same IDs to
            # others. Each would be a conflict, which ZODB notices, and a wait: forget them.
            self.storage._oids = []
            report("failed", error=f"{type(err).__name__}: {err}")
            return False

    def insist(self, change):
        """Repeats a change that a running pack, a conflict or a lost connection is in the way of."""
        deadline = time.monotonic() + PATIENCE
        while not self.attempt(change):
            if time.monotonic() > deadline:
                report("gave up")
                return
            time.sleep(self.pace)

    def commit_entry(self):
        self.number += 1
        ledger = open_ledger(self.connection.root(), self.name)
        entry, slot = write_entry(ledger, self.name, self.number, self.keep)
        transaction.commit()
        # From here on the entry is promised.
        self.journal.append(number=self.number, tid=entry._p_serial.hex(), slot=slot)
        self.acknowledged += 1

    def undo(self):
        """Commits a right value, then a wrong one, and undoes the wrong one."""
        self.undos += 1
        ledger = open_ledger(self.connection.root(), self.name)
        cell = ledger["undone"][self.undos] = PersistentMapping(value="right")
        transaction.commit()
        cell["value"] = "wrong"
        mistake = f"{self.name} makes mistake {self.undos}"
        transaction.get().note(mistake)
        transaction.commit()
        done = next(t for t in self.db.undoLog(0, 100) if t["description"].endswith(mistake))
        self.db.undo(done["id"])
        transaction.commit()
        self.journal.append(undone=self.undos)


def address(text):
    host, _, port = text.rpartition(":")
    return host, int(port)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True)
    parser.add_argument("--server", type=address, action="append", required=True, help="HOST:PORT, once per server that may be there")
    parser.add_argument("--journal", required=True, help="file for acknowledged entries, outside of the volume")
    parser.add_argument("--cache", required=True, help="file of the client cache")
    parser.add_argument("--blobs", required=True, help="directory of the blob cache")
    parser.add_argument("--keep", type=int, default=1_000_000, help="blobs to keep")
    parser.add_argument("--pace", type=float, default=0.02, help="seconds between commits")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    client = Client(options)
    report("ready")
    client.serve()
    client.db.close()


if __name__ == "__main__":
    main()
