"""What a client writes into the database, and how its promises are written down.

A client commits numbered entries, each a persistent object of its own, and with
every few of them a blob. A number that was acknowledged goes into the client's
journal, a plain file outside of the replicated volume. Whoever holds the journals
can say of any copy of the database whether something acknowledged is missing.
"""

import json
import os
import random
from pathlib import Path

import ZODB.blob
from BTrees.LOBTree import LOBTree
from persistent.mapping import PersistentMapping
from ZODB.POSException import POSKeyError

BLOB_EVERY = 5  # entries
LARGEST_BLOB = 200_000  # bytes: more than one FUSE write of the usual 128 KiB


def open_ledger(root, client):
    """Returns client's ledger, a new one where root has none."""
    if client not in root:
        root[client] = PersistentMapping(
            entries=LOBTree(), blobs=LOBTree(), undone=LOBTree())
    return root[client]


def blob_content(client, number):
    """The bytes of the blob that client commits with an entry. The first line names both, so that a blob explains itself."""
    dice = random.Random(f"{client}/{number}")
    return b"%s %d\n" % (client.encode(), number) + dice.randbytes(dice.randrange(LARGEST_BLOB))


def write_entry(ledger, client, number, keep):
    """Adds entry number to the ledger, not yet committed, and returns (entry, slot of its blob or None).

    A client keeps its last `keep` blobs: a later one takes the place of an earlier
    one as a new revision of the same object, which gives a pack something to remove.
    """
    entry = ledger["entries"][number] = PersistentMapping(number=number)
    if number % BLOB_EVERY:
        return entry, None
    slot = number // BLOB_EVERY % keep
    blob = ledger["blobs"].get(slot)
    if blob is None:
        blob = ledger["blobs"][slot] = ZODB.blob.Blob()
    with blob.open("w") as f:
        f.write(blob_content(client, number))
    return entry, slot


class Journal:
    """The acknowledged entries of one client, one JSON line each, on stable storage before append returns."""

    def __init__(self, path):
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def append(self, **line):
        os.write(self._fd, json.dumps(line).encode() + b"\n")
        os.fsync(self._fd)


def read_journal(path):
    """Returns the lines of a journal. A last line without its end was never promised to anybody and is left out."""
    return [json.loads(line) for line in Path(path).read_text().splitlines(keepends=True) if line.endswith("\n")]


def missing(root, journals):
    """Compares a database with the journals {client: lines}. Returns one sentence for every broken promise."""
    found = []
    for client, lines in journals.items():
        if lines and client not in root:
            found.append(f"{client}: the whole ledger is missing, with {len(lines)} acknowledgements")
            continue
        newest = {}  # blob slot -> its last acknowledged entry; it may hold a later one, never an earlier
        for line in lines:
            if line.get("slot") is not None:
                newest[line["slot"]] = line["number"]
        checks = [(_check_undo if "undone" in line else _check_entry, line) for line in lines]
        checks += [(_check_blob, blob) for blob in newest.items()]
        for check, promise in checks:
            try:
                check(root[client], client, promise)
            except (Broken, POSKeyError) as err:
                found.append(f"{client}: {promise} was acknowledged: {err}")
    return found


class Broken(Exception):
    """A promise that was not kept. The text says what is there instead."""


def _check_entry(ledger, client, line):
    entry = ledger["entries"].get(line["number"])
    if entry is None:
        raise Broken("there is no such entry")
    entry._p_activate()
    if entry._p_serial.hex() != line["tid"]:
        raise Broken(f"the entry is of transaction {entry._p_serial.hex()}")


def _check_undo(ledger, client, line):
    cell = ledger["undone"].get(line["undone"])
    if cell is None or cell["value"] != "right":
        raise Broken(f"what the undo restored is {cell}")


def _check_blob(ledger, client, promise):
    slot, number = promise
    blob = ledger["blobs"].get(slot)
    if blob is None:
        raise Broken("there is no such blob")
    with blob.open("r") as f:
        content = f.read()
    owner, _, held = content.split(b"\n", 1)[0].decode(errors="replace").partition(" ")
    if owner != client or not held.isdigit() or int(held) < number:
        raise Broken(f"the blob holds {owner!r} {held!r}")
    if content != blob_content(client, int(held)):
        raise Broken(f"the blob of entry {held} has other bytes than were committed")
