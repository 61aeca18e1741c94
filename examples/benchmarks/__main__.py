"""Time the package beside its peers, in turns and to the same accuracy.

Every contestant holds the table in a process of its own and fits when it is told to, one after
another and again, so that other work on the machine strikes all alike. The loosest tolerance with
which a contestant reaches the accuracy is found first; the objective is evaluated here, in
float64. ``results.json``, ``results.md`` and ``results.png`` are written.
"""

from __future__ import annotations

import argparse
import json
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from .race import compare
from .report import machine, table, versions, write
from .workloads import WORKLOADS


def main() -> None:
    """Run the workloads that were named."""
    parser = argparse.ArgumentParser(prog="python -m examples.benchmarks", description=__doc__)
    parser.add_argument(
        "workloads", nargs="*", default=["*"], help="names or patterns; all without one"
    )
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    parser.add_argument("--repeats", type=int, default=5, help="timed fits of each contestant")
    parser.add_argument("--limit", type=float, default=120.0, help="seconds that a fit may take")
    parser.add_argument(
        "--out", type=Path, default=Path("benchmark-results"), help="folder of the results"
    )
    parser.add_argument(
        "--keep", action="store_true", help="keep other workloads' results that are in the folder"
    )
    options = parser.parse_args()
    chosen = [
        name for name in WORKLOADS if any(fnmatch(name, pattern) for pattern in options.workloads)
    ]
    if not chosen:
        parser.error("no workload has such a name; --list prints them")
    if options.list:
        for name in chosen:
            print(f"{name:26} {WORKLOADS[name].title}")
        return
    setting: dict[str, Any] = {"machine": machine(), "versions": versions()}
    records: dict[str, dict[str, Any]] = {}
    if options.keep and (options.out / "results.json").exists():
        found = json.loads((options.out / "results.json").read_text())
        records = {record["workload"]: record for record in found["workloads"]}
    for name in chosen:
        try:
            records[name] = compare(name, options.repeats, options.limit).record()
        except FileNotFoundError as error:
            print(f"{name}: left out, {error}")
            continue
        print(table(records[name]), flush=True)
        ordered = [records[key] for key in WORKLOADS if key in records]
        write(ordered, setting, options.out)


if __name__ == "__main__":
    main()
