"""Distributed stochastic gradient descent: what the driver does between the nodes' steps.

Two loops share the pieces here.  `dask_dml.solvers.sgd.averaging` averages the nodes' models and
follows schedules; `dask_dml.solvers.sgd.svrg` corrects the nodes' steps by the global
gradient and searches along the averaged direction.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from dask_dml.blocks import Block
from dask_dml.kernels.sgd_rows import CORRECTED_SQUARES
from dask_dml.objective.losses import Loss
from dask_dml.objective.penalties import ElasticNet
from dask_dml.objective.problem import Frame
from dask_dml.passes import evaluate as passes
from dask_dml.rounds.base import Rounds, regaining
from dask_dml.solvers.progress import Model, Observer, Progress
from dask_dml.solvers.sgd import node_cache, sample_pass
from dask_dml.solvers.sgd import passes as sgd_passes
from dask_dml.solvers.sgd.local_steps import Visit
from dask_dml.solvers.sgd.node_cache import Ground, Request, on_new_node, on_node
from dask_dml.solvers.sgd.partials import Models, Survey
from dask_dml.solvers.sgd.row_order import Split, training

#: Step length of ``learning_rate="auto"`` on one node, and the largest on many, relative to the
#: inverse of the mean row's curvature.
AUTO_RATE, MAX_RATE = 0.5, 2.0
#: Columns from which it pays to leave out those that do not occur, and the share of those that do
#: up to which it does.
WIDE, MANY = 2**10, 0.7
#: How many times its spread a full CSR column's mean must be for it to be centred.
FAR = 3.0

NO_WEIGHT_MESSAGE = (
    "The sample weights sum to zero: there is nothing to fit. Give at least one row a positive "
    "sample_weight."
)


@dataclass(frozen=True)
class SGDTask:
    """What is to be fitted, and how.

    Attributes
    ----------
    loss : Loss
        Loss of the residuals.
    penalty : ElasticNet
        Penalty of every output's coefficients.
    alpha : float
        Strength of the penalty, which ``"optimal"`` takes its step lengths from.
    n_features, n_outputs : int
        Columns of X and of y; every column of y is a problem.
    fit_intercept : bool
        Whether intercepts are free.
    corrected : bool
        Whether steps are corrected by the global gradient.
    uniform : bool
        Whether every node counts the same.
    learning_rate, eta0, power_t
        Schedule.
    local_steps : int or None
        Steps between exchanges; None visits all rows of a node once.
    batch_size : int
        Rows of a step.
    shuffle : bool
        Whether rows are visited in random order.
    max_iter : int
        Passes over the data.
    tol : float or None
        Least improvement.
    n_iter_no_change : int
        Passes without it that end the fit.
    average : int
        Rows seen before models are averaged; zero for not at all.
    split : Split or None
        Rows that are held out.
    key : int
        Seed.
    deadline : float
        `time.monotonic` value after which no further exchange begins, and nodes end theirs.
    report : callable or None
        Called with a line of text per exchange.
    coef, intercept : ndarray or None
        Where to start, for raw columns; zero if None.
    rows_seen : int
        Rows seen by earlier calls of `partial_fit`.
    observer : Observer or None
        Told of every exchange; may end the fit.
    open_local : callable or None
        Makes rounds over blocks of this process.
    """

    loss: Loss
    penalty: ElasticNet
    alpha: float
    n_features: int
    n_outputs: int
    fit_intercept: bool
    corrected: bool
    uniform: bool
    learning_rate: str
    eta0: float
    power_t: float
    local_steps: int | None
    batch_size: int
    shuffle: bool
    max_iter: int
    tol: float | None
    n_iter_no_change: int
    average: int
    split: Split | None
    key: int
    deadline: float = np.inf
    report: Callable[[str], None] | None = None
    coef: np.ndarray | None = None
    intercept: np.ndarray | None = None
    rows_seen: int = 0
    observer: Observer | None = None
    open_local: Callable[[list[Block]], Rounds] | None = None

    @property
    def auto(self) -> bool:
        """Whether step lengths come from the data."""
        return self.learning_rate == "auto"

    def seconds_left(self) -> float:
        """Return how long nodes may go on with their steps."""
        return max(self.deadline - time.monotonic(), 0.0)

    def say(self, line: str) -> None:
        """Report a line of text."""
        if self.report is not None:
            self.report(line)

    def tell(
        self, passes: int, objective: float, relative_gap: float, model: Callable[[], Model]
    ) -> None:
        """Tell the observer where the fit stands."""
        if self.observer is not None:
            progress = Progress(passes, passes, objective, relative_gap, np.nan, model)
            self.observer.tell(progress)


@dataclass(frozen=True)
class End:
    """Where one problem ended.

    Attributes
    ----------
    objective : float
        Objective reached.
    relative_gap : float
        Relative duality gap reached; infinite where none is known.
    converged : bool
        Whether a stopping rule was met.
    """

    objective: float
    relative_gap: float
    converged: bool


@dataclass
class SGDSolution:
    """Where the fit ended, for raw columns.

    Attributes
    ----------
    coef, intercept : ndarray of shape (n_outputs, n_features), (n_outputs,)
        The model.
    n_iter : int
        Passes over all rows.
    converged : bool
        Whether a stopping rule ended the fit.
    curve : list of float
        Objective (or mean loss on the way) after every exchange, summed over the outputs.
    relative_gap : float
        Relative duality gap, the largest of the outputs; infinite where it is not known.
    rows_seen : int
        Rows visited by steps.
    scores : list of float
        R^2 on the held-out rows after every exchange.
    ends : list of End
        Where each output ended, if steps were corrected.
    proven : list of bool
        Whether the end of each output is the optimum by its gap, and not for want of progress.
    last : tuple of ndarray or None
        The iterate behind an averaged model: coefficients, intercepts and the number of rows
        in the average.
    survey : Survey or None
        What is known of the columns.
    weight : float
        Sum of the weights of the rows that the model stands for.
    strange : bool
        Whether rows are unlike those before (`partial_fit`).
    """

    coef: np.ndarray
    intercept: np.ndarray
    n_iter: int = 0
    converged: bool = False
    curve: list[float] = field(default_factory=list)
    relative_gap: float = np.inf
    rows_seen: int = 0
    scores: list[float] = field(default_factory=list)
    ends: list[End] = field(default_factory=list)
    proven: list[bool] = field(default_factory=list)
    last: tuple[np.ndarray, np.ndarray, int] | None = None
    survey: Survey | None = None
    weight: float = 0.0
    strange: bool = False


class Nodes:
    """The rounds as the loops of this package's SGD see them: with rows held out, and counted.

    Parameters
    ----------
    rounds : Rounds
        The data.
    split : Split or None
        Rows that no pass but `score` shall see.

    Attributes
    ----------
    passes : int
        Passes over all rows so far.
    """

    def __init__(self, rounds: Rounds, split: Split | None) -> None:
        self.rounds = rounds
        self.split = split
        self.shard_rows = rounds.shard_rows
        self.passes = 0
        self._ground: Ground | None = None
        self._known = True
        # The last request whose results the nodes remember.
        self._kept: Request | None = None
        self._weights: np.ndarray | None = None

    @property
    def n_rounds(self) -> int:
        """Rounds of the engine so far."""
        return self.rounds.n_rounds

    def settle(self, ground: Ground) -> None:
        """Fix what all further rounds have in common."""
        self._ground, self._known = ground, False
        self._weights = None

    def map_reduce(self, function: Any, broadcast: Any = None) -> Any:
        """Evaluate a shard function on the training rows; nodes remember their own results."""
        self.passes += 1
        return self._ask(node_cache.on_shard, (function, broadcast), keep=True)

    def visit(self, request: Visit) -> Models:
        """Let the nodes take their steps."""
        point, gradient = request.point, request.gradient
        if gradient is not None:
            gradient = sgd_passes.shortened(gradient)
        if request.kind == CORRECTED_SQUARES and not np.any(request.l1):
            # What steps lead to is relative to the point, which only shrinks them.
            point = sgd_passes.shortened(point)
        wants = replace(request.wants, weights=self._weights is None)
        request = replace(request, point=point, gradient=gradient, wants=wants)
        models: Models = self._ask(sgd_passes.visit, request)
        if self._weights is None:
            self._weights = models.weights
        return replace(models, weights=self._weights)

    def probe(self, function: Any, broadcast: Any = None) -> Any:
        """Evaluate a function of the nodes that looks at some rows, or at no values, only."""
        return self._ask(function, broadcast)

    def _ask(self, function: Any, broadcast: Any, *, keep: bool = False) -> Any:
        ground = None if self._known else self._ground
        request = Request(function, broadcast, keep, self.split, ground)
        told = replace(request, ground=self._ground)

        def step() -> Any:
            return self.rounds.update(on_node, told if lost else request)

        def regain() -> None:
            lost.append(True)
            if self._kept is not None:
                self.rounds.update(on_new_node, self._kept)

        lost: list[bool] = []
        partial = regaining(self.rounds, step, regain)
        self._known = True
        if keep:
            self._kept = told
        return partial

    def score(self, coef: np.ndarray, intercept: np.ndarray, shift: np.ndarray) -> float:
        """Return R^2 on the held-out rows, averaged over the outputs."""
        assert self.split is not None
        column = np.arange(len(coef), dtype=np.intp)
        request = sample_pass.Examination(coef, intercept, column, shift, self.split)
        sums = self.rounds.map_reduce(sample_pass.examine, request)
        weight, first, second, residual = sums.T
        if not np.all(weight > 0.0):
            raise ValueError(
                "No row of positive weight is held out for validation "
                f"(n_samples={sum(self.shard_rows)}). Increase validation_fraction, or set "
                "early_stopping=False."
            )
        spread = second - first**2 / weight
        flat = np.where(residual > 0.0, 0.0, 1.0)
        ratio = np.divide(residual, spread, out=1.0 - flat, where=spread > 0.0)
        return float(np.mean(1.0 - ratio))

    def blame(self, remedy: str) -> None:
        """Raise for a model that is not finite: bad input where there is any, else the steps."""
        self.rounds.map_reduce(passes.moments, None)
        raise ValueError(
            "Stochastic gradient descent diverged: coefficients or loss are no longer finite. "
            f"{remedy}"
        )

    def units(self) -> np.ndarray:
        """Return what every node's weights have to be multiplied by to count the same."""
        n_shards = len(self.shard_rows)
        totals = self.rounds.map_reduce(_training_weights, (n_shards, self.split))
        return np.divide(1.0, totals, out=np.zeros(n_shards), where=totals > 0.0)


def _training_weights(shard: Any, request: tuple[int, Split | None]) -> np.ndarray:
    return passes.shard_weights(training(shard, request[1]), request[0])


def look(nodes: Nodes, units: np.ndarray | None) -> Survey:
    """Survey the columns: the first pass of every fit with ``learning_rate="auto"``."""
    found: Survey = nodes.map_reduce(sgd_passes.survey, units)
    if not found.weight > 0.0:
        raise ValueError(NO_WEIGHT_MESSAGE)
    return found


def frame_of(survey: Survey, *, centred: bool) -> Frame:
    """Return coordinates that steps of rows can be taken in.

    Columns of sparse input are centred only where they have an entry in every row, as a row must
    not touch what it has no entry for, and only if it matters, as it costs time at every entry.
    """
    whole = Frame.of(survey, centred=centred)
    if not centred or not survey.any_sparse:
        return whole
    far = np.abs(survey.mean) > FAR * whole.spread
    mean = np.where(far & (survey.stored >= survey.n_rows), survey.mean, 0.0)
    left = survey.mean - mean
    return Frame(
        weight=whole.weight,
        n_rows=whole.n_rows,
        mean=mean,
        spread=np.sqrt(whole.spread**2 + left**2),
        target_mean=whole.target_mean,
        target_spread=whole.target_spread,
        residual_mean=left,
        target_deviation=whole.target_deviation,
    )


def metric_of(survey: Survey, frame: Frame, *, fit_intercept: bool) -> np.ndarray:
    """Return the step length of every coordinate relative to the common one, intercept last.

    One over the mean square of the column, so that units do not matter, and less where few
    rows make up most of it (by the root of the kurtosis): a step has to suit these rows, too.
    """
    square = frame.spread**2
    tails = survey.weight * survey.fourth
    kurtosis = np.divide(
        tails, survey.own_square**2, out=np.ones_like(tails), where=survey.own_square > 0.0
    )
    # What is left of a constant column after rounding is no information.
    flat = frame.spread <= 1e-13 * np.abs(frame.mean)
    metric = np.zeros(len(square) + 1)
    np.divide(1.0, square * np.sqrt(np.maximum(kurtosis, 1.0)), out=metric[:-1],
              where=(square > 0.0) & ~flat)  # fmt: skip
    metric[-1] = float(fit_intercept)
    return metric


def auto_rate(frame: Frame, metric: np.ndarray, shard_rows: tuple[int, ...]) -> float:
    """Return the step length that the mean row allows, for a loss of curvature one.

    Averaging the nodes' models takes noise away, and every node has the fewer rows the more nodes
    there are: steps are longer by the root of the effective number of nodes.
    """
    trace = float(metric[:-1] @ frame.spread**2) + float(metric[-1])
    rows = np.array(shard_rows, dtype=np.float64)
    n_nodes = float(rows.sum() ** 2 / (rows @ rows))
    share = min(AUTO_RATE * np.sqrt(n_nodes), MAX_RATE)
    return float(share / trace) if trace > 0.0 else 0.0


class Columns:
    """The columns that occur at all: what else a sparse X has need not travel.

    Parameters
    ----------
    occurring : ndarray of bool of shape (n_features,)
        Columns that have an entry, or a coefficient to begin with.
    stored : ndarray of shape (n_features,) or None, default=None
        Entries of each column, if known.  The columns that most rows meet come first then: what
        is known of them lies together, and stays in the cache.
    """

    def __init__(self, occurring: np.ndarray, stored: np.ndarray | None = None) -> None:
        chosen = np.flatnonzero(occurring)
        if stored is not None:
            chosen = chosen[np.argsort(-stored[chosen], kind="stable")]
        self.n_features = len(occurring)
        self.chosen = chosen if len(chosen) <= MANY * len(occurring) else None

    @property
    def width(self) -> int:
        """Number of columns that travel."""
        return self.n_features if self.chosen is None else len(self.chosen)

    def narrow(self, survey: Survey) -> Survey:
        """Return what is known of the columns that occur."""
        return survey if self.chosen is None else survey.take(self.chosen)

    def narrow_coef(self, coef: np.ndarray) -> np.ndarray:
        """Return the coefficients of the columns that occur."""
        return coef if self.chosen is None else coef[..., self.chosen]

    def widen_coef(self, coef: np.ndarray) -> np.ndarray:
        """Return coefficients of all columns: zero for those that do not occur."""
        if self.chosen is None:
            return coef
        wide = np.zeros((*coef.shape[:-1], self.n_features))
        wide[..., self.chosen] = coef
        return wide


def columns_of(
    nodes: Nodes, survey: Survey | None, coef: np.ndarray | None, n_features: int
) -> Columns:
    """Return the columns that are to travel."""
    if n_features < WIDE or (survey is not None and not survey.any_sparse):
        return Columns(np.ones(n_features, dtype=np.bool_))
    stored = None if survey is None else survey.stored
    found = nodes.probe(node_cache.occurring) if stored is None else stored > 0.0
    return Columns(found if coef is None else found | np.any(coef != 0.0, axis=0), stored)


def late(task: SGDTask) -> bool:
    """Whether the time limit has passed, or the observer has ended the fit."""
    asked = task.observer is not None and task.observer.stopped
    return asked or time.monotonic() > task.deadline
