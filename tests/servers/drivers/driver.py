"""What the drivers of all servers share: their verbs, and what a client writes.

A driver is a module of this package with

    prepare(place)             makes an empty database in place.directory
    serve(place)               starts the server there and returns its process once it answers; a library has none
    LOADS                      one function(place, name, dice) per client process: a generator that yields n when its n-th
                               piece of work was acknowledged, and 0 where there is nothing to count
    check(place, acknowledged) yields a sentence for everything that is wrong with what is there. acknowledged has, by
                               client, how many pieces of work were acknowledged
    backup(place, acknowledged, replica, step)
                               optional: the same for a backup that it takes from a mirror's replica while clients work

The work of a client is numbered from 1 and done one after the other. So what must be there is 1 to the last number that was
acknowledged, and what may be there is the next one: of that nobody knows.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[3]  # of the project
PATIENCE = 60  # seconds for whatever must happen
LARGEST = 20_000  # bytes of content


class Place(NamedTuple):
    directory: Path  # in the volume
    run: Path  # outside of it, for sockets and logs of one round
    mode: str  # the driver's own


def content(name, number, largest=LARGEST):
    """The bytes that a client writes with a number."""
    dice = random.Random(f"{name}/{number}")
    return b"%s %d\n" % (name.encode(), number) + dice.randbytes(dice.randrange(largest))


def gaps(name, numbers, acknowledged, in_flight=1):
    """Yields what is wrong with the numbers of a client that are there, sorted, if that many can be there unacknowledged."""
    if numbers != list(range(1, len(numbers) + 1)):
        yield f"{name}: of {acknowledged} acknowledged this is there: {numbers}"
    elif not acknowledged <= len(numbers) <= acknowledged + in_flight:
        yield f"{name}: {acknowledged} were acknowledged, and {len(numbers)} are there"


def run(*argv, **options):
    """Runs a command to its end and returns what it prints. One that fails is a CalledProcessError whose output is on our stderr."""
    done = subprocess.run([str(arg) for arg in argv], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, timeout=PATIENCE * 2, **options)
    if done.returncode:
        print(*argv, done.stdout, sep=" ", file=sys.stderr)
    done.check_returncode()
    return done.stdout


def until(holds, what, process=None):
    """Polls until holds() is true. The process, if given, must live until then."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > deadline or process and process.poll() is not None:
            sys.exit(f"{what}: not within {PATIENCE} s, or what had to live has ended")
        time.sleep(0.02)


def scripts():
    """Where the programs of the Python packages are."""
    return Path(sys.executable).parent


def say(*words):
    """Prints a line at once and in one piece, whatever other threads print."""
    os.write(1, " ".join(map(str, words)).encode() + b"\n")


def load(driver, arguments, name, seed):
    """Runs a process for each of the driver's LOADS. Each says its own name and a number; here it is said who starts and who has ended.

    They say so into the pipe of whoever counts, not into one of ours: when all are killed, what was said is there to be read.
    """
    clients = {}
    for number, work in enumerate(driver.LOADS):
        client = f"{name}-{work.__name__}{number}"
        say(client, "starts")
        clients[client] = ["--name", client, "--load", str(number), "--seed", f"{seed}/{number}"]

    def attend(client):
        subprocess.run([sys.executable, "-m", driver.__spec__.name, "work", *arguments, *clients[client]], stdin=subprocess.DEVNULL)
        say(client, "ended")

    attendants = [threading.Thread(target=attend, args=(client,)) for client in clients]
    for attendant in attendants:
        attendant.start()
    for attendant in attendants:
        attendant.join()


def main(driver):
    parser = argparse.ArgumentParser(description=driver.__doc__)
    parser.add_argument("verb", choices=["prepare", "serve", "load", "work", "check", "backup"])
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--mode", default="")
    parser.add_argument("--name", help="of the clients' round, or of the client")
    parser.add_argument("--seed", help="for what the clients draw")
    parser.add_argument("--load", type=int, help="which of the driver's LOADS")
    parser.add_argument("--replica", type=Path, help="of a mirror, to back up")
    parser.add_argument("--step", type=int, help="which of a series of backups")
    options = parser.parse_args()
    os.umask(0o022)
    place = Place(options.directory, options.run, options.mode)
    if options.verb == "prepare":
        driver.prepare(place)
    elif options.verb == "serve":
        server = driver.serve(place)
        say("ready")
        sys.exit(server.wait())
    elif options.verb == "load":
        arguments = ["--directory", place.directory, "--run", place.run, "--mode", place.mode]
        load(driver, arguments, options.name, options.seed)
    elif options.verb == "work":
        for number in driver.LOADS[options.load](place, options.name, random.Random(options.seed)):
            say(options.name, number)
    elif options.verb == "check":
        report(driver.check(place, json.load(sys.stdin)))
    else:
        report(driver.backup(place, json.load(sys.stdin), options.replica, options.step))


def report(wrongs):
    for wrong in wrongs:
        say(wrong)
