"""Kills ZEO, mirrors and primaries at random moments while clients commit, and checks after each time that nothing acknowledged is missing.

Three machines, each with its ZEO server's address, go round in the roles: a killed primary comes back as a mirror and is resynced.
The seed decides what is killed, and how long each thing goes on before; where exactly that hits is up to the machine.
"""

import argparse
import contextlib
import itertools
import logging
import random
import shutil
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "demo"))

import zeo
from cluster import Node, make_certificates, remaining_differences, work_directory
from process import Failure, wait_until

CLIENTS = 3
# One mirror at least acknowledges everything, so that a promotion that reaches
# the other one can promise; both timings are short, so that rounds are.
OPTIONS = ["--min-in-sync", "1", "--ack-timeout", "3s", "--heartbeat", "300ms"]
VICTIMS = ["primary", "primary", "mirror", "zeo", "mirror and primary"]


class Rounds:
    """The machines, the clients, and who is who at the moment. Whatever it starts it puts on the stack."""

    def __init__(self, binary, work, stack, dice):
        self.work, self.dice = work, dice
        make_certificates(binary, work, ["a", "b", "c"])
        # An acknowledged commit ends with an fsync, so it is as safe with either level.
        self.sync = dice.choice(["op", "barrier"])
        self.nodes = [Node(name, work, binary, [*OPTIONS, "--sync", self.sync]) for name in "abc"]
        # A ZEO client that knows several servers gives up one that dies between its accept and its handshake for as long as the
        # others do not answer. So a server never starts at the address where the last one was killed.
        addresses = [zeo.free_address() for _ in range(3)]
        self.addresses = itertools.cycle(addresses)
        self.server = None
        self.primary, *self.mirrors = self.nodes
        stack.callback(self.stop_nodes)
        stack.callback(self.stop_server)
        for mirror in self.mirrors:
            mirror.start_mirror()
        self.primary.start_mount(self.mirrors)
        self.primary.wait_in_sync(len(self.mirrors))
        self.serve()
        self.clients = []
        for name in [*(f"client-{i + 1}" for i in range(CLIENTS)), "operator"]:
            self.clients.append(zeo.Client(name, addresses, work, keep=20))
            stack.callback(self.clients[-1].stop)
        self.committers, self.operator = self.clients[:-1], self.clients[-1]

    def stop_nodes(self):
        """Stops the primary first: without mirrors it could not make its last barrier."""
        for node in [self.primary, *self.mirrors]:
            node.stop()

    def stop_server(self):
        if self.server:
            self.server.stop()

    def serve(self):
        """Starts a ZEO server on the primary's mount."""
        self.server = zeo.Server(f"zeo-{self.primary.name}", self.primary.mountpoint, next(self.addresses), self.work)
        self.server.start()

    def pause(self, least, most):
        time.sleep(self.dice.uniform(least, most))

    def round(self, victim):
        """One round: clients commit, something is killed, what is there goes on, and everything is checked. Returns a line about it."""
        began = time.monotonic()
        chores = self.dice.sample(["undo", "pack"], self.dice.randint(0, 2))
        zeo.all_answer(self.committers, "run")
        for chore in chores:
            self.operator.tell(chore)
        self.pause(0.2, 1.5)
        said = {"primary": self.lose_primary, "mirror": self.lose_mirror, "zeo": self.lose_server, "mirror and primary": self.lose_both}[victim]()
        self.clients_go_on()
        for chore in chores:
            self.operator.expect(chore)
        zeo.all_answer(self.committers, "pause")
        self.primary.wait_in_sync(len(self.mirrors))
        commits = self.check()
        return f"{said}; {', '.join(chores) or 'no chores'}; {commits} acknowledged, none missing ({time.monotonic() - began:.1f} s)"

    def lose_server(self):
        self.server.kill()
        self.serve()
        return f"killed ZEO on {self.primary.name}"

    def lose_mirror(self):
        victim = self.dice.choice(self.mirrors)
        victim.power_off()
        self.pause(0, 1)
        victim.start_mirror()
        return f"killed mirror {victim.name}"

    def lose_primary(self):
        said = self.promote(self.dice.choice(self.mirrors))
        if "promised: nothing" not in said or "not promised" in said:
            raise Failure(f"with both mirrors reached the promotion should promise:\n{said}")
        return f"killed primary {self.mirrors[-1].name}, promoted {self.primary.name}"

    def lose_both(self):
        """A mirror dies, and then the primary: nobody can promise now, but the mirror that was left was in sync and has it all."""
        absent, heir = self.dice.sample(self.mirrors, 2)
        absent.power_off()
        self.pause(0.2, 1)
        said = self.promote(heir, absent)
        if "not promised" not in said:
            raise Failure(f"with the other mirror dead the promotion cannot promise:\n{said}")
        return f"killed mirror {absent.name} and primary {self.mirrors[-1].name}, promoted {heir.name}"

    def promote(self, heir, *absent):
        """Kills the primary's machine and makes heir the primary. The old one comes back as a mirror, and so do those that were absent."""
        for kill in self.dice.sample([self.primary.power_off, self.server.kill], 2):
            kill()
        old, others = self.primary, [mirror for mirror in self.mirrors if mirror is not heir]
        self.primary, self.mirrors = heir, [*others, old]
        said = heir.promote(self.mirrors)
        back = [*absent, old]
        if absent:
            # Below min_in_sync nothing is acknowledged and a server could not even start.
            back.pop(0).start_mirror()
            heir.wait_in_sync(1)
        self.serve()
        self.pause(0, 1)
        for node in back:
            node.start_mirror()
        return said

    def clients_go_on(self):
        before = {client.name: len(client.promises()) for client in self.committers}
        with contextlib.suppress(Failure):
            wait_until(lambda: all(len(c.promises()) >= before[c.name] + 5 for c in self.committers), "5 commits of each client", 60)
            return
        stuck = [c for c in self.committers if len(c.promises()) < before[c.name] + 5]
        raise Failure("\n".join(f"{c.name} does not go on, connections so far {c.servers}\n{c.log_tail()}" for c in stuck))

    def check(self):
        """Checks the server, the files of every machine and the clients. Nobody commits meanwhile. Returns how many promises there are."""
        wrong = zeo.broken_promises(self.clients)
        wrong += remaining_differences(self.primary, self.mirrors)
        wrong += zeo.missing_on_server(self.server.address, self.clients, self.work)
        for node in self.nodes:
            wrong += [f"{node.name}: {text}" for text in zeo.check_files(node.replica)[0] + zeo.missing_in_files(node.replica, self.clients)]
        if wrong:
            raise Failure("\n".join(wrong[:30]))
        return sum(len(client.promises()) for client in self.clients)


def interrupted(signum, frame):
    raise KeyboardInterrupt


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("binary", type=Path, help="the standbyfs program")
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--logs", type=Path, required=True, help="where logs and files are kept if a round fails")
    options = parser.parse_args()
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, interrupted)
    logging.basicConfig(level=logging.ERROR)
    dice = random.Random(options.seed)
    # Every kind of victim has its turn, however few rounds there are.
    victims = []
    while len(victims) < options.rounds:
        victims += dice.sample(VICTIMS, len(VICTIMS))
    code = 1
    with work_directory("standbyfs-zodb-") as work, contextlib.ExitStack() as stack:
        try:
            rounds = Rounds(options.binary.resolve(), work, stack, dice)
            print(f"sync: {rounds.sync}", flush=True)
            for number, victim in enumerate(victims[:options.rounds], 1):
                print(f"round {number}: {rounds.round(victim)}", flush=True)
            code = 0
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        except Failure as failure:
            shutil.copytree(work, options.logs, ignore=shutil.ignore_patterns("mnt", "*-blobs", "*.sock"), symlinks=True, dirs_exist_ok=True)
            print(f"{failure}\nlogs and replicas are in {options.logs}", flush=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
