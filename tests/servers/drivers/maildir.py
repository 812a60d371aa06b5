"""A Maildir as Python's mailbox module delivers into it: written and synced in tmp, linked into new. A reader moves mail into cur."""

import email
import itertools
import mailbox
import os
import sys
import time

from . import driver


def box(place):
    return mailbox.Maildir(place.directory / "Maildir", factory=None, create=True)


def prepare(place):
    box(place)


def deliver(place, name, dice):
    there = box(place)
    new = os.open(place.directory / "Maildir" / "new", os.O_RDONLY | os.O_DIRECTORY)
    for number in itertools.count(1):
        there.add(letter(name, number))
        os.fsync(new)
        yield number


def letter(name, number):
    return b"From: %s\nSubject: %d\n\n%s\n" % (name.encode(), number, driver.content(name, number).hex().encode())


def read(place, name, dice):
    """Moves what is new into cur with the flag for 'seen'."""
    there = place.directory / "Maildir"
    while True:
        for message in os.listdir(there / "new"):
            (there / "new" / message).rename(there / "cur" / f"{message}:2,S")
        yield 0
        time.sleep(dice.uniform(0, 0.1))


def check(place, acknowledged):
    found = {}
    for part in "new", "cur":
        for path in (place.directory / "Maildir" / part).iterdir():
            text = path.read_bytes()
            head = email.message_from_bytes(text)
            client, number = head["From"], int(head["Subject"] or 0)
            found.setdefault(client, []).append(number)
            if not number or text != letter(client, number):
                yield f"{path} is not whole"
    for name, last in acknowledged.items():
        yield from driver.gaps(name, sorted(found.pop(name, [])), last)
    if found:
        yield f"messages of nobody: {found}"


LOADS = [deliver, deliver, read]

if __name__ == "__main__":
    driver.main(sys.modules[__name__])
