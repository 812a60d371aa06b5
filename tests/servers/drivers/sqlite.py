"""SQLite as Python brings it, with a rollback journal or a write-ahead log (--mode DELETE or WAL) and several writing processes."""

import itertools
import sqlite3
import sys
import time

from . import driver

KEEP = 40  # the last so many of a client keep their content


def open_database(place):
    db = sqlite3.connect(place.directory / "data.db", timeout=driver.PATIENCE, isolation_level=None)
    db.execute("PRAGMA synchronous = FULL")
    return db


def prepare(place):
    db = open_database(place)
    (mode,) = db.execute(f"PRAGMA journal_mode = {place.mode}").fetchone()
    if mode.upper() != place.mode:
        sys.exit(f"the journal mode is {mode}")
    db.execute("CREATE TABLE entry (client TEXT, number INTEGER, PRIMARY KEY (client, number)) WITHOUT ROWID")
    db.execute("CREATE TABLE content (client TEXT, number INTEGER, bytes BLOB)")
    db.execute("CREATE INDEX content_of ON content (client, number)")


def insert(place, name, dice):
    """Each transaction adds an entry and its content, and removes an old content: its pages are used again."""
    db = open_database(place)
    for number in itertools.count(1):
        db.execute("BEGIN IMMEDIATE")
        db.execute("INSERT INTO entry VALUES (?, ?)", (name, number))
        db.execute("INSERT INTO content VALUES (?, ?, ?)", (name, number, driver.content(name, number)))
        db.execute("DELETE FROM content WHERE client = ? AND number <= ?", (name, number - KEEP))
        if dice.random() < 0.1:
            # Something that the next transaction must not find.
            db.execute("SAVEPOINT mistake")
            db.execute("DELETE FROM content")
            db.execute("ROLLBACK TO mistake")
        db.execute("COMMIT")
        yield number
        # SQLite's processes wait for each other by sleeping and trying again. One without a pause would starve the rest.
        time.sleep(dice.uniform(0, 0.01))


def keep_house(place, name, dice):
    """Checkpoints the log, or rewrites the whole database."""
    db = open_database(place)
    yield 0
    while True:
        time.sleep(dice.uniform(0, 0.5))
        db.execute(dice.choice(["PRAGMA wal_checkpoint(TRUNCATE)", "PRAGMA wal_checkpoint(PASSIVE)", "VACUUM"]))


def check(place, acknowledged):
    db = open_database(place)
    for (said,) in db.execute("PRAGMA integrity_check"):
        if said != "ok":
            yield f"integrity_check: {said}"
    for name, last in acknowledged.items():
        numbers = [number for (number,) in db.execute("SELECT number FROM entry WHERE client = ? ORDER BY number", (name,))]
        yield from driver.gaps(name, numbers, last)
        contents = db.execute("SELECT number, bytes FROM content WHERE client = ? ORDER BY number", (name,)).fetchall()
        if [number for number, _ in contents] != numbers[-KEEP:]:
            yield f"{name}: there are the contents of {[number for number, _ in contents]}"
        for number, held in contents:
            if held != driver.content(name, number):
                yield f"{name}: the content of {number} is another one"


LOADS = [insert, insert, keep_house]

if __name__ == "__main__":
    driver.main(sys.modules[__name__])
