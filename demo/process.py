"""Child processes that are waited for by what they say, and always ended."""

import contextlib
import os
import queue
import signal
import subprocess
import threading
import time
from pathlib import Path


class Failure(Exception):
    """Something did not happen as it should. The text says what, and where to read on."""


class Process:
    """A child process. Its standard output is read line by line, its standard error goes to a log file."""

    def __init__(self, name, argv, log, **popen):
        self.name = name
        self.log = log
        self._lines = queue.SimpleQueue()
        with open(log, "ab") as stderr:
            # A session of its own: Ctrl-C reaches the demo only, which then ends its children in order.
            self._child = subprocess.Popen(
                [str(arg) for arg in argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=stderr, start_new_session=True, text=True, **popen)
        self._reader = threading.Thread(target=self._read, name=f"{name} output", daemon=True)
        self._reader.start()

    def _read(self):
        for line in self._child.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def line(self, timeout):
        """Returns the next line of output. A process that ends, or says nothing for timeout seconds, is a Failure."""
        try:
            line = self._lines.get(timeout=timeout)
        except queue.Empty:
            raise Failure(f"{self.name} said nothing for {timeout} s\n{self.tail()}") from None
        if line is None:
            self._lines.put(None)
            raise Failure(f"{self.name} ended with {self._child.wait()}\n{self.tail()}")
        return line

    def tell(self, line):
        self._child.stdin.write(line + "\n")
        self._child.stdin.flush()

    def tail(self):
        lines = self.log.read_text(errors="replace").splitlines()[-15:]
        return f"the end of {self.log}:\n" + "\n".join("    " + line for line in lines)

    @property
    def running(self):
        return self._child.poll() is None

    def kill(self):
        """Ends the process as a power cut would, and returns once it is gone."""
        if self.running:
            self._child.send_signal(signal.SIGKILL)
        self._child.wait()

    def stop(self, timeout=15):
        """Asks the process to end and returns its exit code. One that does not listen is killed, which is a Failure."""
        if self.running:
            self._child.send_signal(signal.SIGTERM)
        try:
            return self._child.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failure(f"{self.name} did not end within {timeout} s of SIGTERM\n{self.tail()}") from None


def end_children():
    """Kills whatever this process has started and still runs: an interrupt may have come before anybody knew of it."""
    for children in Path("/proc/self/task").glob("*/children"):
        for pid in map(int, children.read_text().split()):
            # Nobody else can have this ID: it is kept until we have waited for it.
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


def wait_until(holds, what, timeout, step=0.1):
    """Polls until holds() returns something true, and returns that."""
    deadline = time.monotonic() + timeout
    while not (result := holds()):
        if time.monotonic() > deadline:
            raise Failure(f"{what}: not within {timeout} s")
        time.sleep(step)
    return result
