"""What is fitted: cases, each a line of text, and a design that covers all pairs of their factors.

A problem is a table, an objective and weights; a case is a problem, an engine, a solver and a
tolerance.  Every problem is fitted several times, so that the fits are each other's reference.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import numpy as np

from tests.hard import tables

ESTIMATORS = ("svc", "gd", "sgd")
ENGINES = ("numpy", "dask", "cluster", "streaming")
LOSSES = ("squared_error", "huber", "epsilon_insensitive", "squared_epsilon_insensitive")

#: Factors of the problems of a support vector machine; loss and penalty go together.
SVC_FACTORS = {
    "scaling": tables.SCALINGS,
    "objective": ("hinge l2", "squared_hinge l2", "squared_hinge l1"),
    "strength": tuple(f"1e{e}" for e in range(-4, 5)),
    "intercept": ("1", "free", "100", "none"),
    "weights": ("none", "balanced", "1e4", "1e-4", "wild"),
}
#: Factors of the problems of a regression.
REGRESSION_FACTORS = {
    "scaling": tables.SCALINGS,
    "objective": tuple(
        f"{loss} {penalty}"
        for loss, penalty in itertools.product(LOSSES, ("l2", "l1", "elasticnet", "none"))
    ),
    "strength": tuple(f"1e{e}" for e in range(-8, 3)),
    "intercept": ("free", "none"),
    "weights": ("none", "1e4", "1e-4", "wild", "zeros"),
    # In units of the target's spread; 0 is the estimator's default, 0.1 in units of y.
    "epsilon": ("0", "0.5", "10"),
}


@dataclass(frozen=True)
class Case:
    """A fit.

    Attributes
    ----------
    estimator : {"svc", "gd", "sgd"}
        Which of the three.
    table, scaling : str
        The data.
    objective : str
        Loss and penalty, with a blank between them.
    strength : str
        C, or alpha.
    intercept : str
        Value of the intercept's column, "free" or "none".
    weights : str
        None, balanced classes, all alike, ``10**U(-6, 6)`` ("wild"), or a third of them zero.
    epsilon : str
        In units of the target's spread; "0" for the default.
    engine, solver : str
        Where, and how.
    tol : str
        Tolerance, or "default".
    """

    estimator: str
    table: str
    scaling: str = "raw"
    objective: str = "squared_hinge l2"
    strength: str = "1"
    intercept: str = "free"
    weights: str = "none"
    epsilon: str = "0"
    engine: str = "numpy"
    solver: str = "auto"
    tol: str = "default"

    def __str__(self) -> str:
        return ";".join(str(getattr(self, field.name)) for field in fields(self))

    @classmethod
    def parse(cls, line: str) -> Case:
        """Return the case of such a line."""
        return cls(*line.split(";"))

    @property
    def problem(self) -> str:
        """The part of the line that says what the optimum is: of `gd` and `sgd` it is the same."""
        kind = "svc" if self.estimator == "svc" else "regression"
        return ";".join((kind, *str(self).split(";")[1:8]))

    @property
    def loss(self) -> str:
        """The loss."""
        return self.objective.split()[0]

    @property
    def penalty(self) -> str | None:
        """The penalty."""
        name = self.objective.split()[1]
        return None if name == "none" else name


def solvers(case: Case) -> tuple[str, ...]:
    """Return the solvers that can be asked for a problem by name."""
    if case.estimator == "svc":
        dual = case.penalty == "l2" and case.intercept != "free"
        return ("newton", "dual") if dual else ("newton",)
    found = ["accelerated"]
    # Matrices of as many columns as hashed text has do not fit.
    if case.table not in ("text", "clickbait"):
        found += ["newton"] if case.loss != "squared_error" else ["newton", "statistics"]
    if case.penalty in ("l2", None):
        found.append("lbfgs")
    # Its gradient steps are what users compare with, not what they would choose for such tables.
    return (*found, "gd")


def design(estimator: str, names: tuple[str, ...], seed: int) -> Iterator[Case]:
    """Yield problems without end, so that every pair of values occurs early and equally often.

    The two regressions have the same problems, and so the same references.
    """
    rng = np.random.default_rng([seed, int(estimator != "svc")])
    factors = {"table": names} | (SVC_FACTORS if estimator == "svc" else REGRESSION_FACTORS)
    keys = tuple(factors)
    seen: Counter = Counter()
    while True:
        best, best_score = None, -1.0
        for _ in range(40):
            values = {key: factors[key][rng.integers(len(factors[key]))] for key in keys}
            score = sum(0.2 ** seen[pair] for pair in _pairs(values))
            if score > best_score:
                best, best_score = values, score
        assert best is not None
        seen.update(_pairs(best))
        yield Case(estimator, **best)


def _pairs(values: dict[str, str]) -> list[tuple]:
    return list(itertools.combinations(values.items(), 2))


def fits(estimator: str, names: tuple[str, ...], seed: int) -> Iterator[Case]:
    """Yield cases without end: each problem by ``"auto"`` and by the solvers that allow it.

    The engines take turns.  One fit is asked for a tolerance that leaves little but rounding: its
    result shows what the rest have missed.
    """
    rng = np.random.default_rng([seed, 7])
    for problem in design(estimator, names, seed):
        turns = itertools.cycle(str(engine) for engine in rng.permutation(ENGINES))
        named = [str(solver) for solver in rng.permutation(solvers(problem))]
        if estimator == "sgd":
            yield replace(problem, engine=next(turns))
            yield replace(problem, engine=next(turns))
            # The optimum is that of the estimator that takes full gradients.
            yield replace(problem, estimator="gd", tol="1e-9")
            continue
        for _ in range(4 if estimator == "svc" else 3):
            yield replace(problem, engine=next(turns))
        for solver in named:
            yield replace(problem, engine=next(turns), solver=solver)
        tight = [solver for solver in named if solver not in ("gd", "accelerated")]
        yield replace(problem, engine=next(turns), solver=(*tight, "auto")[0], tol="1e-8")
