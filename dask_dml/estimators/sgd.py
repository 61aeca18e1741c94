"""Distributed stochastic gradient descent for linear regression."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from functools import partial
from numbers import Integral, Real
from typing import Any, ClassVar, Literal

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from dask_dml.estimators.base import LinearEstimator, LinearRegressorMixin
from dask_dml.estimators.checkpoint import CHECKPOINT, Checkpoint, open_recorded
from dask_dml.estimators.explain import Method
from dask_dml.estimators.export import sgd_regressor
from dask_dml.estimators.monitor import FitMonitor, stopped, watching, with_callbacks
from dask_dml.estimators.parameters import (
    BOOLEAN,
    COUNT,
    NON_NEGATIVE,
    NONE,
    POSITIVE,
    RANDOM_STATE,
    VERBOSE,
    Constraint,
    Interval,
    Kind,
    Options,
    start_array,
)
from dask_dml.input.read import read_input
from dask_dml.objective.losses import STOCHASTIC

#: Parameters that scikit-learn's SGDRegressor has, too.
_SHARED = (
    "loss penalty alpha l1_ratio fit_intercept max_iter tol shuffle verbose epsilon random_state "
    "learning_rate eta0 power_t early_stopping validation_fraction n_iter_no_change warm_start "
    "average"
).split()


class DistributedSGDRegressor(LinearRegressorMixin, LinearEstimator):
    """Linear regression by stochastic gradient descent on the nodes of a cluster.

    Minimises over coefficients :math:`w` and an unpenalised intercept :math:`b`

    .. math::

        \\frac{1}{S} \\sum_i s_i \\, \\ell(y_i, x_i \\cdot w + b)
        + \\alpha \\left( \\frac{1 - \\rho}{2} \\|w\\|_2^2 + \\rho \\|w\\|_1 \\right)

    with the loss :math:`\\ell`, the strength :math:`\\alpha` (`alpha`) and the share :math:`\\rho`
    (`l1_ratio`) of the L1 norm.  :math:`s_i` are the sample weights, and :math:`S` is their sum.
    A node is a shard: a fixed group of row chunks that stay where they are.  Between two exchanges
    every node takes steps along the gradients of single rows of its own; then the nodes' models are
    averaged.

    Parameters
    ----------
    loss : {"squared_error", "huber", "epsilon_insensitive", "squared_epsilon_insensitive"}, \
            default="squared_error"
        Loss of a residual ``r = y - f``.

        - ``"squared_error"``: ``r**2 / 2``.
        - ``"huber"``: ``r**2 / 2`` where ``|r|`` is at most `epsilon`, and linear beyond.
        - ``"epsilon_insensitive"``: ``max(|r| - epsilon, 0)``.
        - ``"squared_epsilon_insensitive"``: the square of ``"epsilon_insensitive"``.

    penalty : {"l2", "l1", "elasticnet"} or None, default="l2"
        Penalty of the coefficients.  The intercept is never penalised.

        - ``"l2"``: half the sum of their squares.
        - ``"l1"``: the sum of their absolute values, which makes many of them zero.
        - ``"elasticnet"``: a mixture of the two, see `l1_ratio`.
        - None: no penalty.

    alpha : float, default=1e-4
        Strength of the penalty.  ``learning_rate="optimal"`` derives its step lengths from it.
    l1_ratio : float or None, default=0.15
        Share of the L1 norm where ``penalty="elasticnet"``; may be None with other penalties.
    fit_intercept : bool, default=True
        Whether to fit an intercept.
    max_iter : int, default=1000
        Largest number of passes over all rows: those that take steps, those that compute the
        global gradient for variance reduction, and the first one of ``learning_rate="auto"``,
        which looks at the columns.  At least one pass takes steps.  With fewer than three passes
        (four for losses other than squared error, and with `warm_start`) there is no variance
        reduction.
    tol : float or None, default=1e-3
        With variance reduction, the relative duality gap at which the fit stops.  Without a penalty
        there is no gap, and the fit stops when the objective no longer changes.  A fit that cannot
        reach the gap stops with a warning.  Without variance reduction, the fit stops when
        `n_iter_no_change` passes in a row have not improved the running mean loss (or the score,
        with `early_stopping`) by `tol`.  With None, the fit makes `max_iter` passes.
    shuffle : bool, default=True
        Whether a node visits its rows in random order.
    verbose : int, default=0
        Whether to print a line per exchange.  0 prints nothing.
    epsilon : float, default=0.1
        Residual at which Huber's loss becomes linear, or half the width of the insensitive tube.
        In units of y.
    random_state : int, RandomState instance or None, default=None
        Seed.  What a node does depends only on the seed, its own number and the number of the
        exchange.  The same shards therefore give the same bits, even if a worker is lost.
    learning_rate : {"auto", "constant", "optimal", "invscaling", "adaptive"}, default="auto"
        Step length; ``t`` counts a node's steps.

        - ``"auto"``: taken from the data, one for each column, so that neither the scale nor the
          offset of a column matters.  Each step is limited by its own rows, and cannot diverge.
        - ``"constant"``: always `eta0`.
        - ``"optimal"``: ``1 / (alpha (t0 + t))``.
        - ``"invscaling"``: ``eta0 / t**power_t``.
        - ``"adaptive"``: `eta0` at first, divided by five whenever `tol` would have ended the fit.

    eta0 : float, default=0.01
        Step length of ``"constant"``, and the first one of ``"invscaling"`` and ``"adaptive"``.
    power_t : float, default=0.25
        Exponent of ``learning_rate="invscaling"``.  If it is negative, steps become longer.
    early_stopping : bool, default=False
        Whether to hold out rows and stop when the score on them no longer improves.
    validation_fraction : float, default=0.1
        Share of every node's rows that is held out, drawn at random; nothing is copied.
    n_iter_no_change : int, default=5
        Number of passes without improvement before the fit stops.  With variance reduction, a fit
        is judged by its progress over four times as many.
    warm_start : bool, default=False
        Whether to start from the coefficients of the last fit.
    average : bool or int, default=False
        Whether ``coef_`` is the average of all iterates.  An int starts the average after that
        many rows.
    local_steps : int or None, default=None
        Number of steps that a node takes between exchanges, on rows drawn with replacement.  With
        None, a node visits all of its rows once, in the order that `shuffle` says.
        ``local_steps=1, batch_size=1`` with a schedule is the textbook algorithm: every node draws
        a row, the gradients are exchanged, and all nodes take the same step.
    batch_size : int, default=1
        Number of rows in a step.
    aggregation : {"weighted", "uniform"}, default="weighted"
        How the nodes' models are combined.

        - ``"weighted"``: each node counts by the weight of its rows.
        - ``"uniform"``: each node counts the same.  With a number of `local_steps` and a schedule,
          the nodes' changes are added up, not averaged.  With k nodes the longest safe step is then
          k times shorter.

    variance_reduction : {"auto", "svrg"} or None, default="auto"
        Whether steps are corrected by the gradient of all rows.

        - ``"svrg"``: steps are corrected.  The gradient takes a pass of its own after each
          exchange.  A line search follows along the averaged direction.  With few columns it also
          searches along a direction found from a sample of all nodes' rows.  The objective
          converges at a linear rate, however the rows are spread over the nodes.
        - None: the nodes' models are only averaged.  The result keeps a distance from the optimum,
          which may be large if the rows of the nodes differ.
        - ``"auto"``: ``"svrg"`` if ``learning_rate="auto"`` and ``local_steps=None``, otherwise
          None.

    n_shards : int, "blocks" or None, default=None
        Number of nodes.

        - ``"blocks"``: every non-empty chunk is a node.
        - None: one node per worker thread of the cluster, or per thread of this process.

    n_jobs : int or None, default=None
        Number of threads for data in memory.  None means all cores, or one inside a Dask task.
    max_time : float or None, default=None
        Seconds after which no further pass begins.  A pass under way is cut short, and counts as
        far as it has come.  None sets no limit.
    checkpoint : str, os.PathLike, Checkpoint or None, default=None
        A folder, or a URL that fsspec can open, in which `fit` saves its progress every minute.
        If the process ends, the same call in another process resumes from there.  The folder is
        deleted when the fit is complete, and kept if `max_time` ended it.  A `Checkpoint` sets
        how often progress is saved.  None saves nothing.  See :doc:`/guide/reliability`.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,) or (n_outputs, n_features)
        Coefficients, float64.
    intercept_ : float or ndarray of shape (n_outputs,)
        Intercept; 0.0 if none was fitted.  An array where y has two dimensions.
    n_iter_ : int
        Number of passes over all rows.
    n_rounds_ : int
        Number of rounds of the cluster.  A round is one call per worker.
    engine_ : {"memory", "cluster", "streaming"}
        Where the rows were.

        - ``"memory"``: in this process.
        - ``"cluster"``: on the workers of a cluster.
        - ``"streaming"``: in neither, because they did not fit; every pass read them again.

    n_recoveries_ : int
        Number of losses of workers that the fit recovered from.
    t_ : float
        One more than the number of rows that steps have visited.
    loss_curve_ : list of float
        With variance reduction, the objective at the start and after every exchange.  Otherwise,
        after every pass, the running mean loss plus the penalty.  Summed over the outputs.  After
        `partial_fit` with the default parameters, the objective of all rows seen.
    validation_scores_ : list of float
        R^2 on the held-out rows; empty without `early_stopping`.
    converged_ : bool
        Whether `tol` was met.
    duality_gap_ : float
        Relative duality gap of the last model, the largest among the outputs; infinite where it
        is not known.
    history_ : dict of str to list
        Four lists with an entry for every round: ``"n_rounds"`` (passes so far), ``"seconds"``,
        ``"objective"`` and ``"relative_gap"``; see `dask_dml.display.ConvergenceDisplay`.
    fit_seconds_ : float
        Seconds that the fit took.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, where X had string names.

    See Also
    --------
    DistributedGDRegressor : The same models by full gradients or second moments.
    sklearn.linear_model.SGDRegressor

    Notes
    -----
    Sources: Johnson and Zhang (2013) for variance reduction, Shamir, Srebro and Zhang (2014) for
    the correction of local objectives, Toulis and Airoldi (2017) for implicit steps, Polyak and
    Juditsky (1992) for averages, Leblond, Pedregosa and Lacoste-Julien (2017) for sparse rows, Luo
    and Song (2020) and Mairal (2013) for streams.

    Examples
    --------
    >>> import dask.array as da
    >>> from dask_dml import DistributedSGDRegressor
    >>> X = da.random.default_rng(0).standard_normal((2000, 3), chunks=(500, 3))
    >>> y = X @ [1.0, -2.0, 0.5] + 3.0
    >>> model = DistributedSGDRegressor(alpha=0.0, tol=None, max_iter=20, random_state=0).fit(X, y)
    >>> model.coef_.round(6).tolist(), round(model.intercept_, 6)
    ([1.0, -2.0, 0.5], 3.0)
    """  # noqa: D301 - types that go on in the next line need backslashes, too

    _constraints: ClassVar[Mapping[str, tuple[Constraint, ...]]] = {
        "loss": (Options(STOCHASTIC),),
        "penalty": (Options(("l2", "l1", "elasticnet", None)),),
        "alpha": (NON_NEGATIVE,),
        "l1_ratio": (Interval(Real, 0.0, 1.0, "both"), NONE),
        "fit_intercept": (BOOLEAN,),
        "max_iter": (COUNT,),
        "tol": (NON_NEGATIVE, NONE),
        "shuffle": (BOOLEAN,),
        "verbose": (VERBOSE,),
        "epsilon": (NON_NEGATIVE,),
        "random_state": (RANDOM_STATE,),
        "learning_rate": (Options(("auto", "constant", "optimal", "invscaling", "adaptive")),),
        "eta0": (POSITIVE,),
        "power_t": (Interval(Real, -np.inf, np.inf, "neither"),),
        "early_stopping": (BOOLEAN,),
        "validation_fraction": (Interval(Real, 0.0, 1.0, "neither"),),
        "n_iter_no_change": (COUNT,),
        "warm_start": (BOOLEAN,),
        "average": (BOOLEAN, Interval(Integral, 0)),
        "local_steps": (COUNT, NONE),
        "batch_size": (COUNT,),
        "aggregation": (Options(("weighted", "uniform")),),
        "variance_reduction": (Options(("auto", "svrg", None)),),
        "n_shards": (COUNT, Options(("blocks", None))),
        "n_jobs": (Kind((Integral,), "an int"), NONE),
        "max_time": (POSITIVE, NONE),
        "checkpoint": (CHECKPOINT,),
    }

    n_iter_: int
    history_: dict[str, list[float]]
    fit_seconds_: float
    t_: float
    loss_curve_: list[float]
    validation_scores_: list[float]
    converged_: bool
    duality_gap_: float

    def __init__(
        self,
        loss: Literal[
            "squared_error", "huber", "epsilon_insensitive", "squared_epsilon_insensitive"
        ] = "squared_error",
        *,
        penalty: Literal["l2", "l1", "elasticnet"] | None = "l2",
        alpha: float = 1e-4,
        l1_ratio: float | None = 0.15,
        fit_intercept: bool = True,
        max_iter: int = 1000,
        tol: float | None = 1e-3,
        shuffle: bool = True,
        verbose: int = 0,
        epsilon: float = 0.1,
        random_state: int | np.random.RandomState | None = None,
        learning_rate: Literal["auto", "constant", "optimal", "invscaling", "adaptive"] = "auto",
        eta0: float = 0.01,
        power_t: float = 0.25,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 5,
        warm_start: bool = False,
        average: bool | int = False,
        local_steps: int | None = None,
        batch_size: int = 1,
        aggregation: Literal["weighted", "uniform"] = "weighted",
        variance_reduction: Literal["auto", "svrg"] | None = "auto",
        n_shards: int | Literal["blocks"] | None = None,
        n_jobs: int | None = None,
        max_time: float | None = None,
        checkpoint: str | os.PathLike[str] | Checkpoint | None = None,
    ) -> None:
        self.loss = loss
        self.penalty = penalty
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.fit_intercept = fit_intercept
        self.max_iter = max_iter
        self.tol = tol
        self.shuffle = shuffle
        self.verbose = verbose
        self.epsilon = epsilon
        self.random_state = random_state
        self.learning_rate = learning_rate
        self.eta0 = eta0
        self.power_t = power_t
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.average = average
        self.local_steps = local_steps
        self.batch_size = batch_size
        self.aggregation = aggregation
        self.variance_reduction = variance_reduction
        self.n_shards = n_shards
        self.n_jobs = n_jobs
        self.max_time = max_time
        self.checkpoint = checkpoint

    @with_callbacks
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        coef_init: Any = None,
        intercept_init: Any = None,
    ) -> DistributedSGDRegressor:
        """Fit the coefficients.

        Parameters
        ----------
        X : array-like, sparse matrix, DataFrame, dask array or dask DataFrame of shape \
                (n_samples, n_features)
            Training data.  A Dask collection is placed on the workers of the current client and
            visited there; without a client it is computed into this process if it fits.
        y : array-like or Dask collection of shape (n_samples,) or (n_samples, n_outputs)
            Targets; need not be chunked like X.
        sample_weight : array-like, float or Dask collection of shape (n_samples,), default=None
            Non-negative weights of the rows; None gives each row a weight of one.
        coef_init : array-like of shape (n_features,) or (n_outputs, n_features), default=None
            Where to start.  None means at zero, or with `warm_start` where the last fit ended.
        intercept_init : array-like of shape (1,) or (n_outputs,), or float, default=None
            Where the intercept starts.  None means the same as for `coef_init`.

        Returns
        -------
        self : DistributedSGDRegressor
            The fitted estimator; unchanged if an error is raised.

        Raises
        ------
        ValueError
            If a parameter, X, y or the weights are invalid, parameters contradict each other, or
            the steps of a schedule diverged; the message names the remedy.
        TypeError
            If a parameter or a column has the wrong type.
        """
        self._check()
        self._warn_of_ignored()
        # Numba is loaded at the first fit: importing the package stays quick.
        monitor = FitMonitor(self, X, y, sample_weight)
        with self._unchanged_on_error():
            deadline = self._deadline(self.max_time)
            before = vars(self).copy()
            chunks = read_input(self, X, y, sample_weight)
            coef, intercept = self._start(before, chunks, wanted=bool(self.warm_start))
            if coef_init is not None or intercept_init is not None:
                coef, intercept = self._given_start(
                    chunks, coef_init, intercept_init, coef, intercept
                )
            start = coef, intercept
            with open_recorded(self, chunks, deadline, *start) as (rounds, random_state):
                self._fit_rounds(
                    rounds,
                    chunks,
                    deadline,
                    monitor=monitor,
                    start=start,
                    random_state=random_state,
                )
        monitor.end()
        return self

    def _fit_rounds(
        self,
        rounds: Any,
        chunks: Any,
        deadline: float,
        labels: Any = None,  # noqa: ARG002 - as of classifiers
        monitor: FitMonitor | None = None,
        start: tuple[Any, Any] = (None, None),
        random_state: np.random.RandomState | None = None,
    ) -> None:
        """Fit rows that are placed already."""
        from dask_dml.solvers.sgd.choose import solve
        from dask_dml.solvers.sgd.stream_memory import Memory

        task = self._task(chunks, *start, deadline, random_state=random_state, monitor=monitor)
        model = partial(self._coefficients, multi=chunks.multi_output)
        with self._driver_threads(0), watching(monitor, rounds, chunks, model):
            solution = solve(rounds, task)
        self._set_rounds(rounds)
        self._set_solution(solution, chunks.multi_output)
        self._memory = Memory(solution.weight, None, solution.survey, solution.last)
        if not self.converged_ and self.tol is not None and not stopped(monitor):
            gap = f", the duality gap is {self.duality_gap_:.1e}" if self._corrected else ""
            self._warn_not_converged(
                f"{self.n_iter_} passes have been made (max_iter={self.max_iter}, "
                f"tol={self.tol:g}){gap}",
                "Increase max_iter (or max_time), or tol; DistributedGDRegressor minimises the "
                "same objective.",
            )

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> DistributedSGDRegressor:
        """Learn from more rows, from where the last call (or fit) ended.

        With the default parameters and up to 511 columns, the second moments of all rows seen are
        kept: about as many numbers as columns squared.  (The limit is lower for several outputs
        with a loss other than squared error.)  With squared error the model is then the optimum for
        all rows seen.  With other losses it comes closer to the optimum with every call.  The order
        of the rows does not matter.

        Otherwise a call is one pass of steps.  With ``learning_rate="auto"`` the steps become
        shorter as rows accumulate, and the model is an average over the calls.  There is no
        stopping rule.

        Parameters
        ----------
        X : array-like, sparse matrix, DataFrame, dask array or dask DataFrame of shape \
                (n_samples, n_features)
            More rows, with as many features as at the first call.
        y : array-like or Dask collection of shape (n_samples,) or (n_samples, n_outputs)
            Their targets.
        sample_weight : array-like, float or Dask collection of shape (n_samples,), default=None
            Non-negative weights of the rows.

        Returns
        -------
        self : DistributedSGDRegressor
            The estimator; unchanged if an error is raised.

        Raises
        ------
        ValueError
            As of `fit`, with ``early_stopping=True``, and for another number of features or
            outputs than before.
        TypeError
            If a parameter or a column has the wrong type.

        Warns
        -----
        UserWarning
            If the rows of several successive calls are unlike those before.  Then the stream
            drifts, or its rows are sorted.
        """
        self._check()
        if self.early_stopping:
            raise ValueError(
                "partial_fit does not hold out rows: set early_stopping=False, and score on rows "
                "of your own."
            )
        from dask_dml.rounds import open_rounds
        from dask_dml.solvers.sgd.partial_fit import partial_fit
        from dask_dml.solvers.sgd.stream_memory import Memory
        from dask_dml.solvers.sgd.task import Nodes

        with self._unchanged_on_error():
            before = vars(self).copy()
            first = "coef_" not in before
            chunks = read_input(self, X, y, sample_weight, reset=first)
            coef, intercept = self._start(before, chunks, wanted=not first)
            seen = int(before.get("t_", 1.0)) - 1
            task = self._task(chunks, coef, intercept, np.inf, seen)
            with (
                open_rounds(chunks, n_shards=self.n_shards, n_jobs=self.n_jobs) as rounds,
                self._driver_threads(0),
            ):
                memory = before.get("_memory", Memory())
                solution, memory = partial_fit(Nodes(rounds, None), task, memory)
                self._set_rounds(rounds)
            self._set_solution(solution, chunks.multi_output)
            self._memory = memory
        if memory.strange:
            self._warn_of_strange_rows(kept=memory.seen is not None)
        return self

    def _warn_of_strange_rows(self, *, kept: bool) -> None:
        """Tell that the rows of the last calls are unlike those before."""
        if kept:
            told = (
                "The model is the best one for all rows seen, with no regard to their order. If "
                "the newest rows are to count more, as in a stream that drifts, begin anew with a "
                "clone, or set learning_rate='constant', which forgets."
            )
        else:
            told = (
                "Steps forget the rows before: give rows in random order, or call fit. If the "
                "stream drifts and the newest rows are to count more, this is as it should be."
            )
        warnings.warn(
            f"{type(self).__name__}.partial_fit: the rows of the last calls are unlike those "
            f"before them. {told}",
            UserWarning,
            stacklevel=3,
        )

    def _check(self) -> None:
        self._check_parameters()
        if self.penalty == "elasticnet" and self.l1_ratio is None:
            raise ValueError("l1_ratio must be set when penalty is 'elasticnet', to 0 ... 1.")
        if self.learning_rate == "optimal" and self.alpha == 0.0:
            raise ValueError(
                "alpha must be > 0 since learning_rate is 'optimal'. alpha is used to compute the "
                "optimal learning rate."
            )
        if self.variance_reduction != "svrg":
            return
        for name, value, needed in (
            ("learning_rate", self.learning_rate, "auto"),
            ("local_steps", self.local_steps, None),
            ("average", bool(self.average), False),
        ):
            if value != needed:
                raise ValueError(
                    f"variance_reduction='svrg' needs {name}={needed!r}, got {value!r}. Set that, "
                    "or variance_reduction=None."
                )

    @property
    def _corrected(self) -> bool:
        plain = self.learning_rate != "auto" or self.local_steps is not None or self.average
        return self.variance_reduction == "svrg" or (
            self.variance_reduction == "auto" and not plain
        )

    def _start(
        self, before: Mapping[str, Any], chunks: Any, *, wanted: bool
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        if not wanted or "coef_" not in before:
            return None, None
        coef = np.atleast_2d(before["coef_"])
        intercept = np.atleast_1d(before["intercept_"])
        if coef.shape != (chunks.n_outputs, chunks.n_features):
            raise ValueError(
                f"The fit would go on from coef_ of shape {coef.shape}, but there are "
                f"{chunks.n_outputs} output(s) and {chunks.n_features} feature(s). Set "
                "warm_start=False and call fit, or use a clone."
            )
        return coef, intercept

    def _given_start(
        self,
        chunks: Any,
        coef_init: Any,
        intercept_init: Any,
        coef: np.ndarray | None,
        intercept: np.ndarray | None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return where to start, what is given before what is known, and that before zero."""
        shape = chunks.n_outputs, chunks.n_features
        if intercept_init is not None and not self.fit_intercept:
            raise ValueError("intercept_init needs fit_intercept=True: no intercept is fitted.")
        return (
            start_array("coef_init", coef_init, shape, coef),
            start_array("intercept_init", intercept_init, shape[:1], intercept),
        )

    def _task(
        self,
        chunks: Any,
        coef: np.ndarray | None,
        intercept: np.ndarray | None,
        deadline: float,
        rows_seen: int = 0,
        random_state: np.random.RandomState | None = None,
        monitor: FitMonitor | None = None,
    ) -> Any:
        from dask_dml.objective.losses import make_loss
        from dask_dml.objective.penalties import make_penalty
        from dask_dml.solvers.sgd.row_order import Split
        from dask_dml.solvers.sgd.task import SGDTask

        random_state = random_state or check_random_state(self.random_state)
        key = int(random_state.randint(2**31 - 1))
        split = Split(key, float(self.validation_fraction)) if self.early_stopping else None
        return SGDTask(
            loss=make_loss(self.loss, self.epsilon),
            penalty=make_penalty(self.penalty, self.alpha, self.l1_ratio),
            alpha=float(self.alpha),
            n_features=chunks.n_features,
            n_outputs=chunks.n_outputs,
            fit_intercept=bool(self.fit_intercept),
            corrected=self._corrected,
            uniform=self.aggregation == "uniform",
            learning_rate=self.learning_rate,
            eta0=float(self.eta0),
            power_t=float(self.power_t),
            local_steps=self.local_steps,
            batch_size=int(self.batch_size),
            shuffle=bool(self.shuffle),
            max_iter=int(self.max_iter),
            tol=self.tol,
            n_iter_no_change=int(self.n_iter_no_change),
            average=int(self.average),
            split=split,
            key=key,
            deadline=deadline,
            report=self._lines(monitor),
            observer=monitor,
            coef=coef,
            intercept=intercept,
            rows_seen=rows_seen,
            open_local=self._open_local,
        )

    def _method(self, n_rows: float, chunks: Any) -> Method:  # noqa: ARG002 - as of classifiers
        name, why, low = "averaging", "plain steps, of which the nodes' models are averaged", 1
        if self._corrected:
            name, why, low = "svrg", "local steps corrected by the global gradient", 4
        return Method(name, why, (low, min(100, self.max_iter) + 5))

    def _ignored(self) -> dict[str, str]:
        if self.learning_rate == "auto":
            return self._set_in_vain(
                "eta0 power_t", "learning_rate='auto' takes step lengths from the data"
            )
        return {}

    def _set_solution(self, solution: Any, multi_output: bool) -> None:
        self._set_coefficients(solution.coef, solution.intercept, multi_output)
        self.n_iter_ = solution.n_iter
        self.t_ = float(solution.rows_seen + 1)
        self.loss_curve_ = solution.curve
        self.validation_scores_ = solution.scores
        self.converged_ = solution.converged
        self.duality_gap_ = float(solution.relative_gap)

    def to_sklearn(self) -> Any:
        """Return a fitted `sklearn.linear_model.SGDRegressor` with the same predictions.

        Returns
        -------
        model : SGDRegressor or MultiOutputRegressor
            With the same parameters, where it has them.  ``learning_rate="auto"``, which it does
            not have, becomes its default ``"invscaling"``.  For several outputs, a
            `MultiOutputRegressor` with one `SGDRegressor` for each.

        Raises
        ------
        NotFittedError
            If the estimator has not been fitted.
        """
        check_is_fitted(self)
        parameters = {name: getattr(self, name) for name in _SHARED}
        if self.learning_rate == "auto":
            parameters["learning_rate"] = "invscaling"
        return sgd_regressor(self, parameters)
