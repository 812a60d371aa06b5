"""LMDB with a writable map: every commit writes into shared memory and syncs it. Several processes write and read."""

import itertools
import sys

import lmdb

from . import driver

KEEP = 40  # the last so many of a client keep their content


def open_environment(place):
    return lmdb.open(str(place.directory / "lmdb"), map_size=64 << 20, max_dbs=2, writemap=True, map_async=False, sync=True, metasync=True)


def tables(environment):
    return environment.open_db(b"entries"), environment.open_db(b"contents")


def key(name, number):
    return b"%s/%08d" % (name.encode(), number)


def prepare(place):
    tables(open_environment(place))


def put(place, name, dice):
    """Each transaction adds an entry and its content, and removes an old content: its pages are used again."""
    environment = open_environment(place)
    entries, contents = tables(environment)
    for number in itertools.count(1):
        with environment.begin(write=True) as transaction:
            transaction.put(key(name, number), b"", db=entries)
            transaction.put(key(name, number), driver.content(name, number), db=contents)
            if number > KEEP:
                transaction.delete(key(name, number - KEEP), db=contents)
        yield number


def read(place, name, dice):
    """Reads everything, again and again, in transactions that keep the writers from using old pages."""
    environment = open_environment(place)
    entries, contents = tables(environment)
    while True:
        with environment.begin() as transaction:
            for table in entries, contents:
                for _ in transaction.cursor(db=table):
                    pass
        yield 0


def check(place, acknowledged):
    environment = open_environment(place)
    entries, contents = tables(environment)
    with environment.begin() as transaction:
        held = dict(transaction.cursor(db=contents))
        there = {}
        for found in transaction.cursor(db=entries).iternext(values=False):
            client, _, number = found.decode().partition("/")
            there.setdefault(client, []).append(int(number))
    for name, last in acknowledged.items():
        numbers = there.get(name, [])
        yield from driver.gaps(name, numbers, last)
        for number in numbers[-KEEP:]:
            if held.pop(key(name, number), None) != driver.content(name, number):
                yield f"{name}: the content of {number} is another one"
    if held:
        yield f"contents that are not referred to: {sorted(held)}"
    # This follows every page that is in use.
    environment.copy(str(place.run), compact=True)


LOADS = [put, put, read]

if __name__ == "__main__":
    driver.main(sys.modules[__name__])
