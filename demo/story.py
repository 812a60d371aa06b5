"""What the demo prints: one line per step, with the seconds since it began."""

import contextlib
import time


class Story:
    def __init__(self):
        self._start = time.monotonic()

    def chapter(self, title):
        print(f"\n{title}", flush=True)

    @contextlib.contextmanager
    def step(self, text):
        """Prints text, and when what is done inside is through, how long that took. Yields a function that adds to the line."""
        began = time.monotonic()
        print(f"{began - self._start:6.1f}s  {text}", end="", flush=True)
        try:
            yield lambda more: print(f": {more}", end="", flush=True)
            took = time.monotonic() - began
            print(f"  ({took:.1f} s)" if took >= 0.1 else "", end="")
        finally:
            print(flush=True)

    def quote(self, output):
        """Shows what a command printed, below its step."""
        for line in output.rstrip().splitlines():
            print(f"         | {line}", flush=True)
