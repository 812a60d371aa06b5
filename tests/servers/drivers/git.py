"""git: clones of a repository on the same volume commit and push, while the repository is repacked and collected."""

import contextlib
import itertools
import os
import subprocess
import sys
import time

from . import driver

# A crash leaves the lock files of what was going on, on every file system. git says so and has the user remove them.
LEFT_OVER = ("*.lock", "gc.pid")

# Whatever the machine's and the user's settings are.
os.environ.update(
    GIT_CONFIG_SYSTEM="/dev/null", GIT_CONFIG_GLOBAL="/dev/null", GIT_TERMINAL_PROMPT="0",
    GIT_AUTHOR_NAME="A", GIT_AUTHOR_EMAIL="a@example.org", GIT_COMMITTER_NAME="A", GIT_COMMITTER_EMAIL="a@example.org")
SETTINGS = ["-c", "core.fsync=all", "-c", "gc.auto=0", "-c", "maintenance.auto=false", "-c", "transfer.fsckObjects=true", "-c", "advice.detachedHead=false"]


def git(*args, within):
    return driver.run("git", "-C", within, *SETTINGS, *args)


def insist(*args, within):
    """Tries a few times. A gc that removes a directory that was empty, or packs a reference, gets in the way of a push, on any file system."""
    for _ in range(9):
        with contextlib.suppress(subprocess.CalledProcessError):
            return git(*args, within=within)
    return git(*args, within=within)


def hub(place):
    return place.directory / "hub.git"


def prepare(place):
    first = place.directory / "first"
    driver.run("git", "init", "--quiet", "--initial-branch=main", first)
    for number in range(150):
        path = first / f"folder{number % 12}" / f"file{number}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(driver.content("first", number).hex().encode())
    git("add", ".", within=first)
    git("commit", "--quiet", "--message", "the first one", within=first)
    driver.run("git", "clone", "--quiet", "--bare", first, hub(place))
    # What the hub does on its own account when somebody pushes.
    for setting, value in {"core.fsync": "all", "gc.auto": "0", "receive.autogc": "false", "receive.fsckObjects": "true"}.items():
        git("config", setting, value, within=hub(place))


def push(place, name, dice):
    clone = place.directory / name
    driver.run("git", *SETTINGS, "clone", "--quiet", "--no-local", hub(place), clone)  # copying files would race with a gc
    git("checkout", "--quiet", "-b", name, within=clone)
    for number in itertools.count(1):
        for _ in range(dice.randrange(1, 6)):
            path = clone / f"folder{dice.randrange(12)}" / f"file{dice.randrange(150)}"
            path.write_bytes(driver.content(name, number).hex().encode())
        (clone / name).write_text(f"{number}\n")
        git("add", ".", within=clone)
        git("commit", "--quiet", "--message", str(number), within=clone)
        insist("push", "--quiet", "origin", name, within=clone)
        yield number


def collect(place, name, dice):
    while True:
        insist(*dice.choice([["gc", "--quiet"], ["repack", "-a", "-d", "--quiet"], ["pack-refs", "--all"]]), within=hub(place))
        yield 0
        time.sleep(dice.uniform(0, 1))


def check(place, acknowledged):
    repositories = [hub(place), *(path for path in place.directory.iterdir() if (path / ".git").is_dir())]
    for repository in repositories:
        for pattern in LEFT_OVER:
            for path in repository.rglob(pattern):
                path.unlink()
        git("fsck", "--strict", "--no-dangling", within=repository)
    for name, last in acknowledged.items():
        if last == 0:
            continue
        subjects = git("log", "--format=%s", name, within=hub(place)).split("\n")
        numbers = [int(subject) for subject in reversed(subjects) if subject.isdigit()]
        yield from driver.gaps(name, numbers, last)
        held = git("show", f"{name}:{name}", within=hub(place)).strip()
        if held != str(numbers[-1]):
            yield f"{name}: {held} stands in the file of the last commit, {numbers[-1]}"


LOADS = [push, push, collect]

if __name__ == "__main__":
    driver.main(sys.modules[__name__])
