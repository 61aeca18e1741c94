"""Judges fits against the best that is known of each problem, and counts."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from tests.hard import tables
from tests.hard.cases import Case

#: What may be wrong with a fit, gravest first.
CLASSES = {
    "false": "false certificates",
    "misreported": "misreported objectives",
    "silent": "silently wrong",
    "crash": "crashes",
    "hang": "hangs",
    "poor": "warned, > 1e-2 above",
    "slow": "slow",
    "late": "past max_time",
}
#: Names of rows that are sums.
ALL, LITERAL = "**all**", "gradient descent to the letter"
#: Excess over the best, relative, that calls for a warning.
SILENT = 1e-3
#: Excess that is too much even with a warning.
POOR = 1e-2
#: Share of an objective that is rounding: sums over rows in two orders.
ROUNDING = 1e-9
#: How much slower than liblinear a fit may be, and the seconds that do not count.
SLOWER, SECONDS = 5.0, 0.2
#: Seconds beyond `max_time` that a fit may take: a pass, and one more.
GRACE = 1.5


def best_values(results: Iterable[dict], references: dict[str, dict]) -> dict[str, np.ndarray]:
    """Return the smallest objectives that are known, by problem."""
    best: dict[str, np.ndarray] = {}

    def offer(problem: str, values: Any) -> None:
        values = np.where(np.isfinite(values), values, np.inf)
        best[problem] = np.minimum(best.get(problem, np.inf), values)

    for result in results:
        if "values" in result:
            offer(Case.parse(result["case"]).problem, result["values"])
    for problem, known in references.items():
        if known.get("best") is not None:
            offer(problem, known["best"])
        if known.get("programme") is not None:
            offer(problem, known["programme"])
        for each in known.get("liblinear", ()):
            offer(problem, each["values"])
    return best


def excess(result: dict, best: np.ndarray) -> float:
    """Return how far the objectives are above the best, relative to it; the largest counts."""
    values = np.array(result["values"])
    beyond = np.maximum(values - best - np.array(result["roundings"]), 0.0)
    base = np.maximum(best, result["floor"])
    ratio = np.divide(beyond, base, out=np.full(len(beyond), np.inf), where=base > 0.0)
    ratio[~np.isfinite(values)] = np.inf
    # An optimum of zero with a floor of zero (targets that are all alike) divides by nothing.
    return float(np.max(np.where(beyond == 0.0, 0.0, ratio)))


def judge(result: dict, best: np.ndarray | None, liblinear: list[dict] | None = None) -> set[str]:
    """Return what is wrong with a fit."""
    case, found = Case.parse(result["case"]), set()
    if result.get("hang"):
        return {"hang"}
    if "error" in result:
        return {"crash"}
    assert best is not None
    values, gap = np.array(result["values"]), result["gap"]
    allowed = ROUNDING * np.abs(values) + 2.0 * np.array(result["roundings"])
    if math.isfinite(gap):
        bound = values / (1.0 + gap)
        bound = np.where(bound < result["floor"], values - gap * result["floor"], bound)
        # The bounds hold for each problem: the reported gap is the largest of them.
        if gap < 0.0 or np.any(best < bound - allowed):
            found.add("false")
    if result["reported"] is not None and not (
        abs(result["reported"] - values.sum()) <= allowed.sum()
    ):
        found.add("misreported")
    above = excess(result, best)
    if not (result["warned"] or above <= SILENT):
        found.add("silent")
    if result["warned"] and not above <= POOR:
        found.add("poor")
    overran = result["max_time"] is not None and result["seconds"] > result["max_time"] + GRACE
    if overran or result.get("overran"):
        found.add("late")
    # A stream is read anew in every round, which liblinear does not do at all.
    held = case.engine != "streaming"
    if case.solver == "auto" and case.tol == "default" and held and liblinear:
        enough = values.sum() * (1.0 + 1e-6)
        reached = [each["seconds"] for each in liblinear if np.sum(each["values"]) <= enough]
        if reached and result["seconds"] > SLOWER * min(reached) + SECONDS:
            found.add("slow")
    return found


def judged(results: list[dict], references: dict[str, dict]) -> list[dict]:
    """Return the results with their verdicts and distances from the best."""
    best = best_values(results, references)
    whole = []
    for result in results:
        problem = Case.parse(result["case"]).problem
        known = references.get(problem, {}).get("liblinear")
        verdict = judge(result, best.get(problem), known)
        above = excess(result, best[problem]) if "values" in result else math.inf
        fastest = min((e["seconds"] for e in known or ()), default=None)
        whole.append(
            result
            | {"verdict": verdict, "excess": above, "liblinear": fastest, "best": best.get(problem)}
        )
    return whole


def to_the_letter(case: Case) -> bool:
    """Return whether a fit follows a textbook's steps, however slowly these converge.

    Gradient descent takes as many steps as the condition number of the columns as they are: on
    tables that were chosen for bad ones it ends by ``max_iter`` or ``max_time``, and warns.
    """
    return case.estimator == "gd" and case.solver == "gd"


def table(rows: list[dict], title: str, key: Callable[[Case], str]) -> str:
    """Return a Markdown table: fits and what is wrong with them, by some key.

    What is done to the letter has a row of its own, which is no part of the others.
    """
    counts: dict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(["fits", *CLASSES], 0))
    for row in rows:
        case = Case.parse(row["case"])
        for name in (LITERAL,) if to_the_letter(case) else (key(case), ALL):
            counts[name]["fits"] += 1
            for each in row["verdict"]:
                counts[name][each] += 1
    lines = [
        f"| {title} | fits | " + " | ".join(CLASSES.values()) + " |",
        "|---|" + "---:|" * (len(CLASSES) + 1),
    ]
    names = sorted(name for name in counts if name not in (ALL, LITERAL))
    last = [name for name in (ALL, LITERAL) if name in counts]
    shown = [(name, counts[name].values()) for name in (*names, *last)]
    return "\n".join(
        [*lines, *(f"| {name} | " + " | ".join(map(str, n)) + " |" for name, n in shown)]
    )


def report(rows: list[dict]) -> str:
    """Return the tables, and a line for each fit that something is wrong with."""
    names = {"svc": "LinearSVC", "gd": "GDRegressor", "sgd": "SGDRegressor"}

    def solver(case: Case) -> str:
        return f"{names[case.estimator]}, {case.solver}"

    def kind(case: Case) -> str:
        return f"{names[case.estimator]}, {tables.kind(case.table)}"

    parts = [
        table(rows, "estimator, engine", lambda case: f"{names[case.estimator]}, {case.engine}"),
        table(rows, "estimator, solver", solver),
        table(rows, "estimator, tables", kind),
    ]
    return "\n\n".join(parts)


def line(row: dict) -> str:
    """Return everything about a fit that its judge looked at."""
    verdict = " ".join(sorted(row["verdict"])) or "good"
    if "values" not in row:
        return f"{verdict}: {row['case']}\n    {row.get('error', 'no answer')}"
    speed = "" if row["liblinear"] is None else f", liblinear {row['liblinear']:.2f} s"
    return (
        f"{verdict}: {row['case']}\n    objective {sum(row['values']):.10g}, best "
        f"{float(np.sum(row['best'])):.10g}, excess {row['excess']:.2e}, gap {row['gap']:.2e}, "
        f"{'warned' if row['warned'] else 'no warning'}, {row['finished_by']}, "
        f"{row['n_iter']} iterations, {row['n_rounds']} rounds, {row['seconds']:.2f} s{speed}"
    )
