"""Debian's PostgreSQL under pgbench, with checkpoints and vacuum in between. It runs as its own user, as it insists on."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from . import driver

CLIENTS = 4
USER = {"user": "postgres", "group": "postgres", "extra_groups": []}
# The server writes ahead and syncs by default (fsync, synchronous_commit, full_page_writes). It listens at a socket only, and
# small limits make it recycle segments of its log and checkpoint by itself.
SETTINGS = {
    "listen_addresses": "", "shared_buffers": "32MB", "max_wal_size": "64MB", "min_wal_size": "32MB", "checkpoint_timeout": "30s",
    "autovacuum_naptime": "1s",
}
# pgbench's own transaction, but each leaves its client's name; and now and then a checkpoint before one that moves no money.
BALANCES = """\
\\set account random(1, 100000 * :scale)
\\set branch random(1, 1 * :scale)
\\set teller random(1, 10 * :scale)
\\set amount random(-5000, 5000)
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance + :amount WHERE aid = :account;
UPDATE pgbench_tellers SET tbalance = tbalance + :amount WHERE tid = :teller;
UPDATE pgbench_branches SET bbalance = bbalance + :amount WHERE bid = :branch;
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime, filler) VALUES (:teller, :branch, :account, :amount, now(), ':client');
COMMIT;
"""
CHECKPOINT = """\
{};
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime, filler) VALUES (1, 1, 1, 0, now(), ':client');
"""


def program(name):
    """The path of a program of the newest server that Debian has installed."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4]))
    return found[-1] if found else sys.exit(f"no {name} in /usr/lib/postgresql")


def data(place):
    return place.directory / "postgresql"


def options(place):
    return ["--host", place.run, "--username", "postgres"]


def query(place, text):
    return driver.run(program("psql"), *options(place), "--no-psqlrc", "--tuples-only", "--no-align", "--set", "ON_ERROR_STOP=1", "--command", text)


def prepare(place):
    data(place).mkdir()
    shutil.chown(data(place), "postgres", "postgres")
    driver.run(program("initdb"), "--pgdata", data(place), "--data-checksums", "--auth=trust", "--encoding=UTF8", "--locale=C", cwd="/", **USER)
    server = serve(place)
    driver.run(program("pgbench"), *options(place), "--initialize", "--quiet", "--foreign-keys", "--scale=1", "postgres", stderr=subprocess.DEVNULL)
    query(place, "CREATE EXTENSION amcheck")
    server.terminate()
    server.wait(driver.PATIENCE)


def serve(place):
    shutil.chown(place.run, "postgres", "postgres")
    argv = [program("postgres"), "-D", data(place), "-k", place.run]
    for setting, value in SETTINGS.items():
        argv += ["-c", f"{setting}={value}"]
    with open(place.run / "postgresql.log", "ab") as log:
        server = subprocess.Popen(argv, stdout=log, stderr=log, cwd="/", **USER)
    ready = [program("pg_isready"), "--host", place.run, "--quiet"]
    driver.until(lambda: subprocess.run(ready).returncode == 0, f"PostgreSQL answers, see {place.run}/postgresql.log", server)
    return server


def pgbench(place, name, dice):
    """Its report says how many transactions were committed to its knowledge, also when the server has gone. Yields that in the end."""
    scripts = {"balances": (BALANCES, 97), "checkpoint": (CHECKPOINT.format("CHECKPOINT"), 2), "vacuum": (CHECKPOINT.format("VACUUM"), 1)}
    argv = [program("pgbench"), *options(place), "--no-vacuum", f"--client={CLIENTS}", "--time=3600", "--progress=1",
            "--define=scale=1", f"--define=client={name}", f"--random-seed={dice.randrange(1 << 31)}"]
    for script, (text, weight) in scripts.items():
        path = place.run / f"{name}-{script}.sql"
        path.write_text(text)
        argv += ["--file", f"{path}@{weight}"]
    # Its progress and its report come in two streams.
    bench = subprocess.Popen([*argv, "postgres"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "LC_ALL": "C"})
    for line in bench.stderr:
        if line.startswith("progress:"):
            yield 0
    report = bench.communicate()[0]
    yield int(re.search(r"transactions actually processed: (\d+)", report)[1])


def check(place, acknowledged):
    for name, last in acknowledged.items():
        committed = int(query(place, f"SELECT count(*) FROM pgbench_history WHERE filler = '{name}'"))
        yield from driver.gaps(name, list(range(1, committed + 1)), last, in_flight=CLIENTS)
    sums = query(place, """
        SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(tbalance) FROM pgbench_tellers),
               (SELECT sum(bbalance) FROM pgbench_branches), (SELECT coalesce(sum(delta), 0) FROM pgbench_history)""").strip()
    if len(set(sums.split("|"))) != 1:
        yield f"accounts, tellers, branches and history have the sums {sums}"
    checked = subprocess.run([program("pg_amcheck"), *options(place), "--all", "--install-missing", "--heapallindexed", "--parent-check"], capture_output=True, text=True)
    if checked.returncode or checked.stdout:
        yield f"pg_amcheck: {checked.returncode} {checked.stdout}{checked.stderr}"


LOADS = [pgbench]

if __name__ == "__main__":
    driver.main(sys.modules[__name__])
