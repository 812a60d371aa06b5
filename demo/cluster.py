"""Machines of a volume, played by directories and standbyfs processes of this machine."""

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import compare
from process import Failure, Process, end_children, wait_until
from zeo import free_address

READY = 30  # seconds until a node answers
FIRST_SYNC = 120  # seconds until mirrors are level


class Node:
    """A machine: a replica directory, a mount point, an address for its peers and a certificate.

    Its process is `standbyfs mirror` or `standbyfs mount`; a mirror that was promoted goes on as the primary in the same process.
    """

    def __init__(self, name, work, binary, options=()):
        self.name, self._binary, self._options = name, binary, list(options)
        self.address = free_address()
        self.replica = work / name / "replica"
        self.mountpoint = work / name / "mnt"
        self.replica.mkdir(parents=True)
        self.mountpoint.mkdir()
        self._log = work / f"{name}.log"
        self._certificate = work / "ca" / name
        self._process = None

    def start_mirror(self):
        return self._start("mirror", self.replica)

    def start_mount(self, mirrors):
        return self._start("mount", self.replica, self.mountpoint, *_peers(mirrors))

    def _start(self, verb, *args):
        argv = [self._binary, verb, *args, "--listen", self.address, "--name", self.name, "--tls", self._certificate, *self._options]
        self._process = Process(f"standbyfs {verb} on {self.name}", argv, self._log)
        return self._process.line(READY)

    def promote(self, mirrors):
        """Makes this mirror the primary and returns what the command says about it."""
        return self.run("promote", self.replica, "--mount", self.mountpoint, *_peers(mirrors), timeout=60)

    def wait_in_sync(self, mirrors, timeout=FIRST_SYNC):
        """Waits, on the primary, until that many mirrors are in sync."""
        self.run("wait", self.replica, "--in-sync", mirrors, "--timeout", f"{timeout}s", timeout=timeout + 10)

    def run(self, verb, *args, timeout=60, codes=(0,)):
        """Runs a command to its end and returns its output."""
        argv = [str(arg) for arg in (self._binary, verb, *args)]
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout)
        if done.returncode not in codes:
            raise Failure(f"standbyfs {verb} on {self.name} ended with {done.returncode}:\n{done.stdout}{done.stderr}\n{self.tail()}")
        return done.stdout

    def power_off(self):
        """Kills the process without any warning. What it had mounted is gone with it, as the machine's memory would be."""
        self._process.kill()
        detach(self.mountpoint)

    def stop(self):
        if self._process:
            self._process.stop()

    def tail(self):
        return self._process.tail() if self._process else ""


def _peers(nodes):
    return [arg for node in nodes for arg in ("--mirror", node.address)]


def remaining_differences(primary, mirrors, patience=10):
    """Compares replicas that nobody writes to, and returns what still differs after patience seconds.

    A file that is neither synced nor closed has its final mtime everywhere a second after its last change.
    """
    found = []

    def level():
        found[:] = [text for mirror in mirrors for text in compare.differences(primary.replica, mirror.replica)]
        return not found

    with contextlib.suppress(Failure):
        wait_until(level, "equal replicas", patience, step=0.5)
    return found


def make_certificates(binary, work, names):
    """Makes an authority and a certificate for each name, with the commands a user would type."""
    for args in (["init"], *(["issue", name] for name in names)):
        subprocess.run([binary, "ca", *args, "--dir", work / "ca"], check=True, capture_output=True)


@contextlib.contextmanager
def work_directory(prefix):
    """A temporary directory. At the end no child process is left, whatever is mounted in it is detached, and it is removed."""
    work = Path(tempfile.mkdtemp(prefix=prefix))
    try:
        yield work
    finally:
        end_children()
        for mountpoint in mounts_below(work):
            detach(mountpoint)
        # Never through a mount: what is behind one may not be ours.
        if not mounts_below(work):
            shutil.rmtree(work)


def detach(mountpoint):
    """Lazily unmounts mountpoint if something is mounted there, also if who served it is dead."""
    if os.fspath(mountpoint) in map(os.fspath, mounts_below(mountpoint)):
        subprocess.run(["umount", "--lazy", mountpoint], check=True)


def mounts_below(directory):
    """Returns the mount points at and below directory, the deepest first. Reads the kernel's list: a dead mount answers no stat."""
    directory, found = Path(directory), []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        path = Path(re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), line.split()[4]))
        if path == directory or directory in path.parents:
            found.append(path)
    return sorted(found, key=lambda path: len(path.parts), reverse=True)
