"""Run the contestants of a workload in turns, each at the accuracy asked for."""

from __future__ import annotations

import math
import statistics
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .contender import Contender, Failed, Fit
from .data import save
from .workloads import WORKLOADS, Objective, Workload


@dataclass
class Row:
    """The result of one contestant.

    ``seconds`` are those of the timed fits, ``error`` is the worst relative distance of their
    objectives from the best known, ``first`` is the time of the first fit of the process, and
    ``peak`` and ``sent`` are medians of bytes.  ``note`` says why there is no result.
    """

    name: str
    tol: float | None = None
    first: float | None = None
    seconds: list[float] = field(default_factory=list)
    objective: float | None = None
    error: float | None = None
    rounds: int | None = None
    peak: float | None = None
    sent: float | None = None
    note: str = ""

    @property
    def median(self) -> float | None:
        """The median time in seconds, None without a fit."""
        return statistics.median(self.seconds) if self.seconds else None


@dataclass
class Result:
    """The rows of a workload, ours first, and the ratio that its bar is about."""

    workload: str
    title: str
    accuracy: float | None
    bar: float | None
    rival: str | None
    shape: tuple[int, ...]
    rows: list[Row]

    @property
    def ratio(self) -> tuple[float, str] | None:
        """Our median time by that of the rival, and the rival's name; None without either."""
        mine = self.rows[0].median
        others = [row for row in self.rows[1:] if row.median is not None and not row.note]
        if self.rival is not None:
            others = [row for row in others if row.name == self.rival]
        if mine is None or self.rows[0].note or not others:
            return None
        fastest = min(others, key=lambda row: row.median or math.inf)
        return mine / (fastest.median or math.nan), fastest.name

    def record(self) -> dict[str, Any]:
        """Return what is written as JSON."""
        found = asdict(self)
        for row, kept in zip(self.rows, found["rows"], strict=True):
            kept["median"] = row.median
        found["ratio"], found["compared_with"] = self.ratio or (None, None)
        return found


class Judge:
    """Evaluates models by the harness's own objective, and knows the best."""

    def __init__(self, objective: Objective, X: Any, y: np.ndarray) -> None:
        self._objective, self._X, self._y = objective, X, y
        self.best = math.inf

    def value(self, fit: Fit) -> float:
        """Return the objective of a fit's coefficients."""
        value = self._objective(self._X, self._y, fit.coef, fit.intercept)
        self.best = min(self.best, value)
        return value

    def error(self, value: float) -> float:
        """Return the relative distance from the best known."""
        return value / self.best - 1.0


def calibrate(
    contender: Contender, tolerances: tuple[float, ...], judge: Judge, accuracy: float, row: Row
) -> None:
    """Find the loosest tolerance that reaches the accuracy, from that of the row on."""
    if row.objective is not None and judge.error(row.objective) <= accuracy:
        return
    for tol in tolerances:
        if row.tol is not None and tol >= row.tol:
            continue
        fit = contender.fit(tol)
        row.first = fit.seconds if row.first is None else row.first
        row.tol, row.objective = tol, judge.value(fit)
        if judge.error(row.objective) <= accuracy:
            return
    row.note = f"not within {accuracy:g}: {judge.error(row.objective or math.nan):.1e}"


def compare(name: str, repeats: int, limit: float) -> Result:
    """Run one workload.

    Parameters
    ----------
    name : str
        Key of ``WORKLOADS``.
    repeats : int
        Timed fits of every contestant.
    limit : float
        Seconds that a fit may take.

    Raises
    ------
    FileNotFoundError
        Where the table is a real one that is not there.
    """
    workload = WORKLOADS[name]
    X, y = workload.table()
    judge = Judge(workload.objective, X, y)
    rows = [Row(contestant) for contestant in workload.contestants]
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmark-")))
        save(X, y, place)
        fitters: dict[str, Contender] = {}
        for row in rows:
            try:
                fitters[row.name] = Contender(name, row.name, place, limit)
                stack.callback(fitters[row.name].close)
            except Failed as failure:
                row.note = str(failure)
        prepare(workload, rows, fitters, judge)
        turns(rows, fitters, judge, repeats)
    for row in rows:
        if row.objective is not None:
            row.error = judge.error(row.objective)
    shape = tuple(int(n) for n in X.shape)
    return Result(
        name, workload.title, workload.accuracy, workload.bar, workload.rival, shape, rows
    )


def prepare(
    workload: Workload, rows: list[Row], fitters: dict[str, Contender], judge: Judge
) -> None:
    """Choose every contestant's tolerance, after its strictest has been looked at for the best."""
    accuracy = workload.accuracy
    for row in rows:
        if row.name not in fitters:
            continue
        tolerances = workload.contestants[row.name].tolerances
        try:
            if accuracy is None:
                fit = fitters[row.name].fit(tolerances[0])
                row.first, row.tol, row.objective = fit.seconds, tolerances[0], judge.value(fit)
                continue
            if row is rows[0]:
                fit = fitters[row.name].fit(tolerances[-1])
                row.first = fit.seconds
                judge.value(fit)
            calibrate(fitters[row.name], tolerances, judge, accuracy, row)
        except Failed as failure:
            row.note = str(failure)
    for row in rows:  # the best may have been found after they were calibrated
        if accuracy is None or row.note or row.name not in fitters:
            continue
        try:
            tolerances = workload.contestants[row.name].tolerances
            calibrate(fitters[row.name], tolerances, judge, accuracy, row)
        except Failed as failure:
            row.note = str(failure)


def turns(rows: list[Row], fitters: dict[str, Contender], judge: Judge, repeats: int) -> None:
    """Time those that take part, one after another and again."""
    costs: dict[str, list[Fit]] = {}
    for _ in range(repeats):
        for row in rows:
            if row.note or row.tol is None:
                continue
            try:
                fit = fitters[row.name].fit(row.tol)
            except Failed as failure:
                row.note = str(failure)
                continue
            row.seconds.append(fit.seconds)
            row.objective = max(row.objective or -math.inf, judge.value(fit))
            row.rounds = fit.rounds
            costs.setdefault(row.name, []).append(fit)
    for row in rows:
        if fits := costs.get(row.name):
            row.peak = statistics.median(fit.peak for fit in fits)
            row.sent = statistics.median(fit.sent for fit in fits)
