"""What the loads in Python share: a clock, and what the servers have used. They print one JSON object, as bench reads it."""

import json
import resource
import sys
import time
from pathlib import Path


def cpu_seconds(pids):
    """The time that processes have run, in all of their threads."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / 100


def peak_kib(pids):
    """The largest resident sizes of processes, added up."""
    return sum(int(Path(f"/proc/{pid}/status").read_text().partition("VmHWM:")[2].split()[0]) for pid in pids)


class Sample:
    """Calls a step again and again, for a warm-up of a third of the time and then for the time. The steps of the latter count."""

    def __init__(self, seconds, pids=()):
        self.seconds, self.pids = seconds, pids
        self.latency, self.took, self.load_cpu, self.server_cpu = [], 0.0, 0.0, 0.0

    def run(self, step):
        until = time.monotonic() + self.seconds / 3
        while time.monotonic() < until:
            step()
        used, own = cpu_seconds(self.pids), time.process_time()
        began = last = time.monotonic_ns()
        until = began + int(self.seconds * 1e9)
        while last < until:
            step()
            now = time.monotonic_ns()
            self.latency.append(now - last)
            last = now
        self.took = (last - began) / 1e9
        self.load_cpu = time.process_time() - own
        self.server_cpu = cpu_seconds(self.pids) - used
        return self

    def print(self):
        json.dump({"latency": self.latency, "seconds": self.took, "load_cpu": self.load_cpu,
                   "server_cpu": self.server_cpu, "peak_kib": peak_kib(self.pids)}, sys.stdout)
        print(flush=True)


def arguments():
    """DIRECTORY KIND SECONDS CLIENTS PID..."""
    directory, kind, seconds, clients, *pids = sys.argv[1:]
    # A cluster of ten mirrors and clients has more files than the default allows.
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    return Path(directory), kind, float(seconds), int(clients), [int(pid) for pid in pids]
