"""A ZEO server on a mirrored mount, from the first commit to the day after the first machine is gone.

Three machines a, b and c are three directories and their processes on this one. Run it by `make demo`, as root.
"""

import argparse
import contextlib
import logging
import shutil
import signal
import sys
from pathlib import Path

import compare
import zeo
from cluster import Node, make_certificates, remaining_differences, work_directory
from process import Failure, wait_until
from story import Story

CLIENTS = 4
# At least one mirror acknowledges everything. So a promotion that reaches the
# other mirror can promise that nothing is missing.
MIRRORING = ["--min-in-sync", "1"]


def tell(story, stack, binary, work):
    """The story. Everything that it starts is put on the stack, and is ended in reverse order."""
    story.chapter("Three machines")
    with story.step("an authority and a certificate for each of a, b and c (standbyfs ca)"):
        make_certificates(binary, work, ["a", "b", "c"])
        a, b, c = (Node(name, work, binary, MIRRORING) for name in "abc")
    for node in (c, a, b):  # in the end b is the primary and is stopped first
        stack.callback(node.stop)
    for node in (b, c):
        with story.step(f"{node.name} keeps a copy (standbyfs mirror)") as add:
            add(node.start_mirror())
    with story.step("a mounts its directory, mirrored to b and c (standbyfs mount)") as add:
        add(a.start_mount([b, c]))
    with story.step("both mirrors are level and in sync (standbyfs wait)"):
        a.wait_in_sync(2)

    story.chapter("An unmodified ZEO server on the mount")
    first = zeo.Server("zeo-a", a.mountpoint, zeo.free_address(), work)
    second = zeo.Server("zeo-b", b.mountpoint, zeo.free_address(), work)
    addresses = [first.address, second.address]
    for server in (first, second):
        stack.callback(server.stop)
    with story.step(f"runzeo with a FileStorage and blobs serves {a.mountpoint}"):
        first.start()
    with story.step(f"{CLIENTS} client processes connect, and an operator's; each knows both servers' addresses"):
        everybody = []
        for name in [*(f"client-{i + 1}" for i in range(CLIENTS)), "operator"]:
            everybody.append(zeo.Client(name, addresses, work))
            stack.callback(everybody[-1].stop)
        *clients, operator = everybody
    with story.step("they commit objects and blobs; what was acknowledged goes into journals outside of the mount") as add:
        zeo.all_answer(clients, "run")
        wait_until(lambda: promised(clients) >= 200, "200 acknowledged commits", 60)
        add(f"{promised(clients)} commits so far")
    with story.step("meanwhile the operator undoes a transaction"):
        operator.do("undo")
    with story.step("and packs the database"):
        operator.do("pack")
    with story.step("standbyfs status"):
        status = a.run("status", a.replica)
    story.quote(status)

    story.chapter("Are the copies equal?")
    with story.step("while they commit, standbyfs verify compares all three at one position"):
        verified = a.run("verify", a.replica)
    story.quote(verified)
    with story.step("the clients pause"):
        zeo.all_answer(clients, "pause")
    with story.step("Python compares names, types, modes, owners, sizes, content, links and mtimes to the nanosecond") as add:
        add(same(a, [b, c]))

    story.chapter("The first machine is gone")
    with story.step("the clients go on") as add:
        before = promised(clients)
        zeo.all_answer(clients, "run")
        wait_until(lambda: promised(clients) >= before + 100, "100 more commits", 60)
    with story.step("SIGKILL for a's mount and for its ZEO server, in the middle of commits") as add:
        a.power_off()
        first.kill()
        add(f"{promised(everybody)} acknowledged until then")
    with story.step("b becomes the primary, with c as its mirror and a as soon as it is back (standbyfs promote)"):
        promised_by = b.promote([c, a])
    story.quote(promised_by)
    with story.step(f"a second runzeo serves {b.mountpoint}"):
        second.start()
    with story.step("the clients find it and go on") as add:
        before = promised(clients)
        wait_until(lambda: promised(clients) >= before + 100, "100 commits on the second server", 60)
        zeo.all_answer(clients, "pause")
        add(accepted(clients))

    story.chapter("Is anything missing?")
    with story.step("every acknowledged commit and its blob, asked of the second server") as add:
        require(zeo.missing_on_server(second.address, everybody, work))
        add(f"all {promised(everybody)} are there")
    with story.step("fstest, and the blob of every blob record, in b's files") as add:
        wrong, blobs = zeo.check_files(b.mountpoint)
        require(wrong)
        add(f"no error, {blobs} blobs")

    story.chapter("The first machine comes back")
    with story.step("a becomes a mirror; what it has is compared, and made equal where it differs (standbyfs mirror)") as add:
        add(a.start_mirror())
        b.wait_in_sync(2)
    with story.step("all three again") as add:
        add(same(b, [a, c]))
    with story.step("standbyfs status"):
        status = b.run("status", b.replica)
    story.quote(status)


def promised(clients):
    return sum(len(client.promises()) for client in clients)


def accepted(clients):
    """Says how the clients' caches, filled from the first server, compared with the second one. A cache from the future would be a lost commit."""
    require(zeo.broken_promises(clients))
    results = {}
    for client in clients:
        server, verify = client.servers[-1]
        if len(client.servers) < 2:
            raise Failure(f"{client.name} does not accept the second server: {client.servers}\n{client.log_tail()}")
        results[verify] = results.get(verify, 0) + 1
    return "ZEO says " + ", ".join(f"{n} x '{verify}'" for verify, n in results.items())


def same(primary, mirrors):
    require(remaining_differences(primary, mirrors))
    objects, size = compare.size(primary.replica)
    return f"{objects} objects, {size / 1e6:.1f} MB, no difference"


def require(wrong):
    """Raises a Failure that lists what is wrong, if anything is."""
    if wrong:
        raise Failure("\n".join(wrong[:20] + ([f"and {len(wrong) - 20} more"] if len(wrong) > 20 else [])))


def interrupted(signum, frame):
    raise KeyboardInterrupt


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("binary", type=Path, help="the standbyfs program")
    parser.add_argument("--logs", type=Path, help="where logs and files are kept if something fails")
    options = parser.parse_args()
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, interrupted)
    logging.basicConfig(level=logging.ERROR)
    story = Story()
    with work_directory("standbyfs-demo-") as work:
        stack = contextlib.ExitStack()
        try:
            tell(story, stack, options.binary.resolve(), work)
            code = 0
        except KeyboardInterrupt:
            print("\ninterrupted: ending all processes, detaching the mounts", flush=True)
            code = 130
        except Failure as failure:
            print(f"\nFAILED: {failure}", flush=True)
            if options.logs:
                shutil.copytree(work, options.logs, ignore=shutil.ignore_patterns("mnt", "*-blobs", "*.sock"), symlinks=True, dirs_exist_ok=True)
            code = 1
        finally:
            # What follows must run to its end: a second Ctrl-C does not hurry it.
            for signum in (signal.SIGINT, signal.SIGTERM):
                signal.signal(signum, signal.SIG_IGN)
            try:
                stack.close()
            except Failure as failure:
                print(f"\nFAILED to end: {failure}", flush=True)
                code = 1
    if code == 0:
        print("\nThe end. All processes are ended, all mounts are detached and the directory is removed.")
    sys.exit(code)


if __name__ == "__main__":
    main()
