"""Transactions of SQLite, each an insert and an update, synchronous=FULL. KIND is the journal: delete or wal."""

import sqlite3

import measure


def main():
    directory, journal, seconds, _, pids = measure.arguments()
    db = sqlite3.connect(directory / "db", isolation_level=None)
    mode, = db.execute(f"pragma journal_mode={journal}").fetchone()
    if mode != journal:
        raise SystemExit(f"journal mode {mode}, want {journal}")
    db.execute("pragma synchronous=full")
    db.execute("create table entry (id integer primary key, text text)")
    db.execute("create table total (count integer)")
    db.execute("insert into total values (0)")
    text = "x" * 100

    def transaction():
        db.execute("begin immediate")
        db.execute("insert into entry (text) values (?)", (text,))
        db.execute("update total set count = count + 1")
        db.execute("commit")

    measure.Sample(seconds, pids).run(transaction).print()
    db.close()


main()
