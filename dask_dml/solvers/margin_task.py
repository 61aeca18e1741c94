"""What a fit of a support vector machine is asked for, and what it returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from dask_dml.blocks import Block
from dask_dml.objective.margins import MarginProblem
from dask_dml.objective.penalties import ElasticNet
from dask_dml.rounds.base import Rounds
from dask_dml.solvers.base import Limits, Outcome
from dask_dml.solvers.dual.support import Duals


@dataclass(frozen=True)
class Task:
    """What is to be fitted, and how.

    Attributes
    ----------
    labels : ndarray of shape (n_classes,)
        The classes as the blocks hold them.
    rows : ndarray of shape (n_classes,)
        Number of rows of each class.
    cost : ndarray of shape (n_classes,)
        C times the weight of each class.
    rest_cost : float
        C: cost of a row of all other classes together, where there are more than two.
    squared, l1 : bool
        Loss and penalty.
    scaling : float
        Value of the intercept's column; zero for no intercept, infinite for a free one.
    n_features : int
        Columns of X.
    entries : float
        Entries of X that are held.
    weight : float
        Sum of the sample weights.
    sparse : bool
        Whether some block is CSR.
    open_local : callable
        Makes rounds over blocks of this process.
    solver : {"auto", "dual", "newton"}
        The method.
    limits : Limits
        Stopping rules.
    seed : int
        Of the rows of a subsample, and of the order in which the dual solver visits rows.
    coef : ndarray of shape (n_problems, n_features) or None
        Where to start.
    intercept : ndarray of shape (n_problems,) or None
        Likewise.
    width : ndarray of shape (n_problems,) or None
        Width of the rounded kink at which a fit of almost the same rows has ended there.
    """

    labels: np.ndarray
    rows: np.ndarray
    cost: np.ndarray
    rest_cost: float
    squared: bool
    l1: bool
    scaling: float
    n_features: int
    entries: float
    weight: float
    sparse: bool
    open_local: Callable[[list[Block]], Rounds]
    solver: str
    limits: Limits
    seed: int = 0
    coef: np.ndarray | None = None
    intercept: np.ndarray | None = None
    width: np.ndarray | None = None


@dataclass(frozen=True)
class Solution:
    """Coefficients, and how they were found.

    Attributes
    ----------
    coef : ndarray of shape (n_problems, n_features)
        Coefficients.
    intercept : ndarray of shape (n_problems,)
        Intercepts.
    solver : str
        The solver that was used.
    outcomes : list of Outcome
        One per problem.
    n_support : ndarray of shape (n_classes,)
        Support vectors of each class.
    duals : Duals or None
        What makes dual variables of rows; labels are the classes' positions.  None after the
        dual solver, whose dual variables are no function of the margins.
    turns : list of (str, int)
        The solvers that had a turn, and the iterations of each, where they took turns.
    interior : tuple of int
        Problems that ended in the interior-point method: their dual variables are none, either.
    again : bool
        Whether the dual variables that are no function of the margins are found by solving again.
    """

    coef: np.ndarray
    intercept: np.ndarray
    solver: str
    outcomes: list[Outcome]
    n_support: np.ndarray
    duals: Duals | None
    turns: list[tuple[str, int]] = field(default_factory=list)
    interior: tuple[int, ...] = ()
    again: bool = True


def problems(task: Task) -> list[MarginProblem]:
    """Return the batch: one problem for two classes, otherwise one for each class."""
    penalty = ElasticNet(l1=1.0) if task.l1 else ElasticNet(l2=1.0)

    def problem(label: float, rest: float, own: float) -> MarginProblem:
        return MarginProblem(float(label), (rest, own), task.squared, penalty, task.scaling)

    if len(task.labels) == 2:
        return [problem(task.labels[1], float(task.cost[0]), float(task.cost[1]))]
    # As liblinear: a class's weight counts where the class is set apart, not in the rest.
    return [
        problem(label, task.rest_cost, float(own))
        for label, own in zip(task.labels, task.cost, strict=True)
    ]
