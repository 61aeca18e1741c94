"""Fits on a cluster to which things happen: run by hand, prints a Markdown table.

    python -m tests.chaos.run --runs 300 --seed 0
    python -m tests.chaos.run --only 17 --seed 0
    python -m tests.chaos.run --merge chaos-seed-0.jsonl chaos-seed-1.jsonl

Each run draws an estimator, a container, where the rows are, whether workers have nannies, what
happens to them, and at which round of the fit.  A round inside of which something happens is made
to last, and no round begins before what happened is over, so that a busy machine makes no
difference.  The answer is compared with that of the same fit undisturbed: the same bits where
they are promised, the same objective within ``tol`` elsewhere.

Runs are made by processes of their own, two at a time, as many of them wait for something.  A
process ends where a run hangs; another one goes on with the next run.  Every run is a line of JSON
in a file (``--log``); those that are in it are not made again, so that the same command goes on
where it was interrupted.  A run whose stage could not be set says nothing of fits: it is made
again, three times at most, and counted below the table.  What workers and schedulers say goes to a
text file beside the other one.  ``--merge`` prints the table of several files.
"""

from __future__ import annotations

import argparse
import faulthandler
import fcntl
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path

import dask
from distributed import Client, LocalCluster

from tests.chaos.stage import ROUND_TIMEOUT, Fleet, Scaled, Undisturbed, draw, one_run

#: Seconds that a whole run may take.
LIMIT = 900.0

#: Times that a run is tried whose stage cannot be set.
ATTEMPTS = 3
#: Events as the documentation's table groups them.
GROUPS = {
    "one or two workers killed, once or twice": ("kill", "kill two", "kill twice"),
    "a worker retired, joined, or replaced": ("retire", "join", "leave and join"),
    "a worker restarted": ("restart",),
    "scaled up or down, or adaptive": ("scale up", "scale down", "adapt"),
    "a worker stopped for 5 s or 30 s": ("stop", "stop for long"),
    "messages between client and scheduler come late": ("delay",),
    "the scheduler stopped for 5 s": ("freeze scheduler",),
    "all workers restarted by `Client.restart()`": ("restart all",),
    "the client closed": ("close client",),
    "the scheduler killed, or stopped for good": ("kill scheduler", "freeze for long"),
}


# The processes


def make_runs(options):
    """Make those runs that are not in the file, and write them there."""
    undisturbed = Undisturbed()
    dask.config.set({"dask_dml.round-timeout": ROUND_TIMEOUT})
    with ExitStack() as stack:
        made_by = stack.enter_context(
            LocalCluster(
                n_workers=0, processes=False, protocol="tcp://", host="127.0.0.1",
                dashboard_address="127.0.0.1:0", silence_logs="CRITICAL",
            )
        )  # fmt: skip
        client = stack.enter_context(Client(made_by, set_as_default=False))
        fleet = Fleet(stack, client, made_by.scheduler_address)
        scaled = Scaled(stack)
        while (number := claim(options)) is not None:
            faulthandler.dump_traceback_later(LIMIT, exit=True)
            began = time.monotonic()
            record = one_run(options.seed, number, fleet, scaled, undisturbed)
            faulthandler.cancel_dump_traceback_later()
            record["whole"] = round(time.monotonic() - began, 1)
            write(options.log, options.seed, number, record)
            if record["verdict"] in ("HANGS", "INVALID"):
                fleet.kill()
                os._exit(3)


def claim(options):
    """Return the number of a run that nobody makes or has made, or None if there is none left."""
    with options.log.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        number = next(iter(open_numbers(options)), None)
        if number is not None:
            write(options.log, options.seed, number, {"verdict": BEGUN, "process": os.getpid()})
        return number


BEGUN = "begun"


def write(path, seed, number, record):
    """Add a record to the file, in one piece."""
    with path.open("a") as file:
        file.write(json.dumps({"seed": seed, "number": number} | record) + "\n")


def read(paths):
    """Return the last record of each run, by seed and number, and how often each was invalid."""
    last, invalid = {}, Counter()
    for path in paths:
        lines = path.read_text().splitlines() if path.exists() else []
        for line in lines:
            with suppress(ValueError):  # a line that was being written when the machine went down
                record = json.loads(line)
                key = record["seed"], record["number"]
                invalid[key] += record["verdict"] == "INVALID"
                last[key] = record
    return last, invalid


def open_numbers(options):
    """Return the runs that are still to be made."""
    numbers = range(options.runs) if options.only is None else [options.only]
    known, invalid = read([options.log])

    def is_open(number):
        key = options.seed, number
        again = key in known and known[key]["verdict"] == "INVALID" and invalid[key] < ATTEMPTS
        return key not in known or again

    return [number for number in numbers if is_open(number)]


def supervise(options):
    """Have all runs made, by processes that are started anew where they end in the middle."""
    # What an interrupted command has begun is made again.
    known = read([options.log])[0]
    kept = [record for record in known.values() if record["verdict"] != BEGUN]
    if len(kept) < len(known):
        lines = options.log.read_text().splitlines()
        options.log.write_text("".join(f"{x}\n" for x in lines if f'"verdict": "{BEGUN}"' not in x))
    total, began = len(open_numbers(options)), time.monotonic()
    print(f"{len(kept)} runs are in {options.log}, {total} are to be made", flush=True)
    command = [sys.executable, "-m", "tests.chaos.run", "--worker", "--log", str(options.log)]
    command += ["--seed", str(options.seed), "--runs", str(options.runs)]
    command += [] if options.only is None else ["--only", str(options.only)]
    running, shown = [], {key: record for key, record in known.items() if record in kept}
    try:
        while running or open_numbers(options):
            missing = min(options.lanes, len(running) + len(open_numbers(options))) - len(running)
            with options.log.with_suffix(".txt").open("a") as said:
                running += [
                    subprocess.Popen(command, stdout=said, stderr=said) for _ in range(missing)
                ]
            time.sleep(1.0)
            for ended in [one for one in running if one.poll() is not None]:
                running.remove(ended)
                close_begun(options, ended)
            report(options, shown, len(kept), total, began)
    finally:
        for one in running:
            one.terminate()
    report(options, shown, len(kept), total, began)


def close_begun(options, ended):
    """Write down what became of the run that a process was at when it ended."""
    for (seed, number), record in read([options.log])[0].items():
        if record["verdict"] == BEGUN and record["process"] == ended.pid:
            verdict = "HANGS" if ended.returncode > 0 else f"DIED of {-ended.returncode}"
            drawn = draw(seed, number)[0] | {"verdict": verdict, "seconds": LIMIT}
            write(options.log, seed, number, drawn)


def report(options, shown, already, total, began):
    """Print a line for each run that has ended since the last time."""
    for key, record in read([options.log])[0].items():
        if record["verdict"] != BEGUN and shown.get(key) != record:
            shown[key] = record
            minutes = (time.monotonic() - began) / 60
            what = ", ".join(record[name] for name in ("event", "moment", "name", "place"))
            print(
                f"[{minutes:5.1f} min, {len(shown) - already} of {total}] "
                f"seed {key[0]} run {key[1]}: {record['verdict']} in {record['seconds']} s "
                f"({what}, {record['container']})",
                flush=True,
            )
            if record["verdict"] not in WELL:
                print(f"    {record}", flush=True)


WELL = ("right", "clear error")


def table(paths):
    """Print the documentation's table; return whether all went well."""
    known, invalid = read(paths)
    records = [record for record in known.values() if record["verdict"] != BEGUN]
    counts = Counter((record["event"], record["verdict"]) for record in records)
    others = sorted({verdict for _, verdict in counts} - set(WELL))
    verdicts = [*WELL, *others]
    print(f"\n| event | runs | {' | '.join(verdicts)} |\n|---|---|{'---|' * len(verdicts)}")
    for group, events in GROUPS.items():
        found = [sum(counts[event, verdict] for event in events) for verdict in verdicts]
        print(f"| {group} | {sum(found)} | {' | '.join(map(str, found))} |")
    longest = max((record["seconds"] for record in records), default=0.0)
    recovered = sum(record.get("recoveries", 0) > 0 for record in records)
    again = sum(count for key, count in invalid.items() if known[key]["verdict"] != "INVALID")
    print(
        f"\n{len(records)} runs, the longest fit {longest:.0f} s; {recovered} with recoveries that "
        f"the model counts; {again} times a stage could not be set and the run was made again"
    )
    for record in records:
        if record["verdict"] in others:
            print(f"\nnot well: {json.dumps(record)}")
    return bool(records) and not others


def main():
    """Run what the command line asks for, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="make this run alone")
    parser.add_argument("--log", type=Path, help="file of the runs made; chaos-seed-SEED.jsonl")
    parser.add_argument("--lanes", type=int, default=2, help="runs at a time")
    parser.add_argument("--merge", type=Path, nargs="+", help="print the table of these files")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.merge:
        sys.exit(not table(options.merge))
    if options.worker:
        make_runs(options)
        return
    with tempfile.TemporaryDirectory() as folder:
        if options.only is not None and options.log is None:
            options.log = Path(folder) / "runs.jsonl"
        options.log = options.log or Path(f"chaos-seed-{options.seed}.jsonl")
        supervise(options)
        well = table([options.log])
    sys.exit(not well)


if __name__ == "__main__":
    main()
