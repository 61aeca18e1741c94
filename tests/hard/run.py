"""Fits hard tables and counts what is wrong: run by hand, prints Markdown.

    python -m tests.hard.run --fits 2000 --seed 0
    python -m tests.hard.run --case "svc;rare;raw;squared_hinge l2;1;1;none;0;numpy;auto;default"

Fits run in a process of their own, so that one that hangs or dies is counted and not suffered.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from tests.hard import cases, tables, verdicts
from tests.hard.cases import Case

#: Seconds after which a process that has not answered is ended.
PATIENCE = {"fit": 25.0, "liblinear": 10.0, "programme": 15.0}


def _serve(pipe: Any) -> None:
    from tests.hard import fits, programme, truth

    engines = fits.Engines()
    pipe.send("ready")
    while (asked := pipe.recv()) is not None:
        kind, line, more = asked
        case = Case.parse(line)
        answers: dict[str, Callable[[], Any]] = {
            "fit": lambda case=case, seconds=more: fits.fit(case, engines, seconds),
            "liblinear": lambda case=case, tol=more: truth.liblinear(case, (tol,)),
            "programme": lambda case=case: programme.optimum(case, 2.0),
        }
        try:
            pipe.send((answers[kind](), None))
        except Exception:  # the suite's own fault: it is told, and ends
            pipe.send((None, traceback.format_exc()))
    engines.close()


class Helper:
    """A process that answers questions, and is replaced if it does not."""

    def __init__(self, prepare: Callable[[Helper, Case], None] | None = None) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._process: Any = None
        self._pipe: Any = None
        self._prepare = prepare
        self._prepared: set[str] = set()

    def ask(self, kind: str, case: Case, more: Any = None, patience: float | None = None) -> Any:
        """Return the answer, or None if there is none in time.

        Raises
        ------
        RuntimeError
            If the suite itself failed; the estimator's errors are part of an answer.
        """
        if self._process is None:
            self._begin()
        if self._prepare is not None and case.estimator not in self._prepared:
            self._prepared.add(case.estimator)
            self._prepare(self, case)
        patience = PATIENCE[kind] if patience is None else patience
        self._pipe.send((kind, str(case), more))
        try:
            if self._pipe.poll(patience):
                answer, failure = self._pipe.recv()
                if failure is not None:
                    raise RuntimeError(f"{case}: {failure}")
                return answer
        except (EOFError, ConnectionError):
            pass
        self.end()
        return None

    def _begin(self) -> None:
        self._pipe, other = self._context.Pipe()
        self._process = self._context.Process(target=_serve, args=(other,), daemon=True)
        self._process.start()
        other.close()
        assert self._pipe.recv() == "ready"

    def end(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._pipe.close()
            self._process = None
            self._prepared.clear()


def _warm_up(helper: Helper, case: Case) -> None:
    """Load and compile what the first fits of an estimator would be blamed for."""
    svc = case.estimator == "svc"
    for table in ("tiny", "text"):
        for loss in ("hinge", "squared_hinge") if svc else cases.LOSSES:
            first = replace(case, table=table, scaling="raw", objective=f"{loss} l2",
                            strength="1e-2", intercept="1" if svc else "free", weights="none",
                            epsilon="0", engine="numpy", solver="auto", tol="default")  # fmt: skip
            helper.ask("fit", first, 60.0, patience=300.0)
    for engine in ("cluster", "streaming"):
        helper.ask("fit", replace(first, table="tiny", engine=engine), 60.0, patience=300.0)


class Suite:
    """Fits and references of one run.

    Parameters
    ----------
    cache : Path or None
        File of references that earlier runs have found, which is read and extended.
    max_time : float, default=10.0
        Seconds that every fit is given.
    again : float, default=0.0
        Seconds that a fit is given once more where ``max_time`` has cut it far from the best: by
        default fits have no limit.
    """

    def __init__(
        self, cache: Path | None = None, max_time: float = 10.0, again: float = 0.0
    ) -> None:
        self._max_time, self._again = max_time, again
        self.results: list[dict] = []
        self.references: dict[str, dict] = {}
        self._cache = cache
        self._fits, self._truth = Helper(_warm_up), Helper()
        if cache is not None and cache.exists():
            for line in cache.read_text().splitlines():
                known = json.loads(line)
                self.references[known.pop("problem")] = known

    def add(self, case: Case) -> dict:
        """Make a fit."""
        if case.problem not in self.references:
            self.references[case.problem] = self._refer(case)
            self._keep(case.problem)
        result = self._fit(case, self._max_time)
        verdict = self.judged([result])[0]["verdict"]
        if "slow" in verdict:
            # Other work on the machine may have been in the way.
            again = [self._fit(case, self._max_time) for _ in range(2)]
            result["seconds"] = min(each["seconds"] for each in [result, *again])
        cut = "poor" in verdict and result["seconds"] > 0.9 * self._max_time
        if cut and self._again > self._max_time:
            late = "late" in verdict
            result = self._fit(case, self._again) | {"overran": late}
        self.results.append(result)
        return result

    def _fit(self, case: Case, max_time: float) -> dict:
        result = self._fits.ask("fit", case, max_time, max_time + PATIENCE["fit"])
        return {"case": str(case), "hang": True} if result is None else result

    def judged(self, results: list[dict]) -> list[dict]:
        """Return results with their verdicts, as far as the best is known by now."""
        return verdicts.judged(results, self.references)

    def _refer(self, case: Case) -> dict:
        known: dict[str, Any] = {"liblinear": []}
        for tol in (1e-1, 1e-2, 1e-4, 1e-7):
            found = self._truth.ask("liblinear", case, tol)
            if not found:
                break
            known["liblinear"] += found
            if found[0]["seconds"] > 0.5:
                break
        known["programme"] = self._truth.ask("programme", case)
        return known

    def _keep(self, problem: str) -> None:
        if self._cache is not None:
            with self._cache.open("a") as file:
                file.write(json.dumps({"problem": problem} | self.references[problem]) + "\n")

    def close(self) -> None:
        """End the processes, and keep the best that was found."""
        self._fits.end()
        self._truth.end()
        best = verdicts.best_values(self.results, self.references)
        for problem, values in best.items():
            if problem in self.references:
                self.references[problem]["best"] = values.tolist()
        if self._cache is not None:
            lines = [json.dumps({"problem": p} | known) for p, known in self.references.items()]
            self._cache.write_text("\n".join(lines) + "\n")


def _turns(only: list[str], names: tuple[str, ...], seed: int) -> Iterator[Case]:
    # Each has its problems in a row: what its fits reach is each other's reference.
    streams = [cases.fits(estimator, names, seed) for estimator in only]
    while True:
        for stream in streams:
            yield from islice(stream, 12)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fits", type=int, default=200)
    parser.add_argument("--skip", type=int, default=0, help="fits of the design to leave out")
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--only", default=",".join(cases.ESTIMATORS))
    parser.add_argument("--tables", default=None, help="names, with commas")
    parser.add_argument("--case", action="append", help="a line of a report, to be fitted again")
    parser.add_argument("--cache", type=Path, default=None, help="file of references")
    parser.add_argument("--out", type=Path, default=None, help="file for results, line by line")
    parser.add_argument("--max-time", type=float, default=10.0, help="seconds of a fit")
    parser.add_argument("--again", type=float, default=0.0, help="seconds, if max_time cut a fit")
    parser.add_argument("--judge", type=Path, nargs="+", help="files of results: fit nothing")
    parser.add_argument("--verbose", action="store_true", help="a line for every fit")
    asked = parser.parse_args()
    if asked.judge:
        wanted: Any = []
    elif asked.case:
        wanted = [Case.parse(line) for line in asked.case]
    else:
        names = tuple(asked.tables.split(",")) if asked.tables else tables.names()
        wanted = _turns(asked.only.split(","), names, asked.seed)
        wanted = islice(wanted, asked.skip, asked.skip + asked.fits)
    suite = Suite(asked.cache, asked.max_time, asked.again)
    for file in asked.judge or ():
        suite.results += [json.loads(line) for line in file.read_text().splitlines()]
    end = time.monotonic() + asked.seconds
    out = asked.out.open("a") if asked.out else None
    try:
        for case in wanted:
            if time.monotonic() > end:
                break
            result = suite.add(case)
            if out is not None:
                out.write(json.dumps(result) + "\n")
                out.flush()
            if asked.verbose:
                (row,) = suite.judged([result])
                print(verdicts.line(row), file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        pass
    finally:
        suite.close()
    rows = suite.judged(suite.results)
    print(verdicts.report(rows))
    bad = [row for row in rows if row["verdict"] or asked.case]
    if bad:
        print("\n" + "\n".join(verdicts.line(row) for row in bad))


if __name__ == "__main__":
    main()
