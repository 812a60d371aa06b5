"""Debian's Redis with an append-only file that is synced before each reply (appendfsync always), and rewritten under load."""

import itertools
import socket
import subprocess
import sys
import time

from . import driver

KEEP = 40  # the last so many of a client keep their content

SETTINGS = {
    "port": "0", "save": "", "appendonly": "yes", "appendfsync": "always", "no-appendfsync-on-rewrite": "no",
    "auto-aof-rewrite-min-size": "1mb", "auto-aof-rewrite-percentage": "50",
}

REWRITING = [b"aof_rewrite_in_progress", b"aof_rewrite_scheduled"]


def data(place):
    return place.directory / "redis"


def prepare(place):
    data(place).mkdir()


def serve(place):
    mend(place)
    argv = ["redis-server", "--dir", data(place), "--unixsocket", place.run / "redis.sock", "--logfile", place.run / "redis.log"]
    for setting, value in SETTINGS.items():
        argv += [f"--{setting}", value]
    server = subprocess.Popen(argv)
    driver.until(lambda: answers(place), "Redis answers", server)
    return server


def mend(place):
    """Cuts off what a killed server had only half written, as an operator does.

    Redis does so itself when it loads (aof-load-truncated), but where half a MULTI is left it keeps the whole commands of it. Once
    another file has been begun behind that one, it takes this for corruption.
    """
    manifest = data(place) / "appendonlydir" / "appendonly.aof.manifest"
    if manifest.exists():
        subprocess.run(["redis-check-aof", "--fix", manifest], input="y\n", stdout=subprocess.DEVNULL, text=True, check=True)


def answers(place):
    try:
        return Connection(place).call("PING") == b"PONG"
    except (OSError, Error):  # not there yet, or it is loading
        return False


class Error(Exception):
    """What Redis answers to a command that it does not carry out."""


class Connection:
    """Redis' protocol, as far as it is needed here."""

    def __init__(self, place):
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(driver.PATIENCE)
        self._socket.connect(str(place.run / "redis.sock"))
        self._replies = self._socket.makefile("rb")

    def call(self, *words):
        words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        self._socket.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words))
        return self._reply()

    def _reply(self):
        line = self._replies.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("Redis is gone")
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise Error(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else self._replies.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return [self._reply() for _ in range(int(rest))]
        return rest


def write(place, name, dice):
    """A counter, and in one transaction with it a content, in the place of an old one. What the counter says was acknowledged."""
    redis = Connection(place)
    for number in itertools.count(1):
        redis.call("MULTI")
        redis.call("INCR", f"counter:{name}")
        redis.call("SET", f"content:{name}:{number % KEEP}", driver.content(name, number))
        counter, _ = redis.call("EXEC")
        if counter != number:
            sys.exit(f"{name}: the counter says {counter} after {number}")
        yield number


def rewrite(place, name, dice):
    redis = Connection(place)
    yield 0
    while True:
        time.sleep(dice.uniform(0, 1))
        try:
            redis.call("BGREWRITEAOF")
        except Error:
            pass  # one is running


def check(place, acknowledged):
    redis = Connection(place)
    for name, last in acknowledged.items():
        counter = int(redis.call("GET", f"counter:{name}") or 0)
        yield from driver.gaps(name, list(range(1, counter + 1)), last)
        for number in range(max(1, counter - KEEP + 1), counter + 1):
            if redis.call("GET", f"content:{name}:{number % KEEP}") != driver.content(name, number):
                yield f"{name}: the content of {number} is another one"
    # Nobody writes now, and no file is rewritten either.
    redis.call("CONFIG", "SET", "auto-aof-rewrite-percentage", 0)
    driver.until(lambda: all(b"%s:0" % what in redis.call("INFO", "persistence") for what in REWRITING), "Redis rewrites nothing")
    checked = subprocess.run(["redis-check-aof", data(place) / "appendonlydir" / "appendonly.aof.manifest"], capture_output=True, text=True)
    redis.call("CONFIG", "SET", "auto-aof-rewrite-percentage", SETTINGS["auto-aof-rewrite-percentage"])
    if checked.returncode:
        yield f"redis-check-aof: {checked.stdout}{checked.stderr}"


LOADS = [write, write, write, rewrite]

if __name__ == "__main__":
    driver.main(sys.modules[__name__])
