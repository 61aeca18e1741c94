"""Distributed linear regression."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from dask_dml.estimators.base import LinearEstimator, LinearRegressorMixin
from dask_dml.estimators.checkpoint import CHECKPOINT, Checkpoint, open_recorded
from dask_dml.estimators.explain import Method
from dask_dml.estimators.export import linear_model
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
)
from dask_dml.input.read import read_input
from dask_dml.objective.losses import LOSSES

if TYPE_CHECKING:
    from dask_dml.rounds.plan import WantedShards


class DistributedGDRegressor(LinearRegressorMixin, LinearEstimator):
    """Linear regression fitted to its optimum by sums over the nodes of a cluster.

    Despite its name this estimator does not descend by default.  Gradient descent takes hundreds of
    passes over the data.  ``solver="auto"`` reaches the same optimum in far fewer: in one pass that
    collects second moments for squared error, and by Newton's method for the other losses.
    ``solver="gd"`` runs plain distributed gradient descent.

    Minimises over coefficients :math:`w` and an unpenalised intercept :math:`b`

    .. math::

        \\frac{1}{S} \\sum_i s_i \\, \\ell(y_i, x_i \\cdot w + b)
        + \\alpha \\left( \\frac{1 - \\rho}{2} \\|w\\|_2^2 + \\rho \\|w\\|_1 \\right)

    with the loss :math:`\\ell`, the strength :math:`\\alpha` (`alpha`) and the share :math:`\\rho`
    (`l1_ratio`) of the L1 norm.  :math:`s_i` are the sample weights, and :math:`S` is their sum.
    Dask collections stay where they are: each pass over the data is one call per worker, which
    returns one gradient (or one matrix of second moments).  Data in memory is fitted in this
    process, by threads.

    Parameters
    ----------
    loss : {"squared_error", "huber", "epsilon_insensitive", "squared_epsilon_insensitive", \
            "quantile"}, default="squared_error"
        Loss of a residual ``r = y - f``.

        - ``"squared_error"``: ``r**2 / 2``.
        - ``"huber"``: ``r**2 / 2`` where ``|r|`` is at most `epsilon`, and linear beyond.
        - ``"epsilon_insensitive"``: ``max(|r| - epsilon, 0)``.
        - ``"squared_epsilon_insensitive"``: the square of ``"epsilon_insensitive"``.
        - ``"quantile"``: ``max(quantile * r, (quantile - 1) * r)``.

    penalty : {"l2", "l1", "elasticnet"} or None, default="l2"
        Penalty of the coefficients.  The intercept is never penalised.

        - ``"l2"``: half the sum of their squares.
        - ``"l1"``: the sum of their absolute values, which makes many of them zero.
        - ``"elasticnet"``: a mixture of the two, see `l1_ratio`.
        - None: no penalty.

    alpha : float, default=1e-4
        Strength of the penalty.  `Ridge(alpha=A)` of scikit-learn corresponds to ``alpha=A / S``.
        `Lasso` and `ElasticNet` use the same ``alpha``.
    l1_ratio : float, default=0.15
        Share of the L1 norm where ``penalty="elasticnet"``.
    epsilon : float, default=0.1
        Residual at which Huber's loss becomes linear, or half the width of the insensitive tube.
        In units of y.
    quantile : float, default=0.5
        The quantile of the target that ``loss="quantile"`` predicts, between 0 and 1 (exclusive).
    fit_intercept : bool, default=True
        Whether to fit an intercept.
    max_iter : int, default=1000
        Largest number of iterations.
    tol : float, default=1e-6
        The fit stops when the duality gap, relative to a lower bound of the optimum, is at most
        `tol`.  Without a penalty there is no gap.  Then the fit stops when the norm of the scaled
        gradient, relative to that at the start, is at most `tol`.
    solver : {"auto", "statistics", "newton", "lbfgs", "accelerated", "gd"}, default="auto"
        How the optimum is found.

        - ``"auto"``: chooses one of the others: statistics or newton up to 2000 columns, lbfgs or
          accelerated beyond.  If that makes no more progress, another one takes over.
        - ``"statistics"``: for squared error; one pass gathers second moments.
        - ``"newton"``: for every loss and penalty; every pass gathers a Hessian.
        - ``"lbfgs"``: for many columns and smooth penalties; every pass gathers a gradient.
        - ``"accelerated"``: for many columns and every penalty; every pass gathers a gradient.
        - ``"gd"``: plain gradient descent, see `learning_rate`.

    learning_rate : {"auto", "backtracking", "constant", "invscaling", "adaptive"}, default="auto"
        Step length of ``solver="gd"`` in iteration t.

        - ``"auto"``: the inverse of the gradient's Lipschitz constant, taken from the data.
        - ``"backtracking"``: found by a backtracking line search.
        - ``"constant"``: always `eta0`.
        - ``"invscaling"``: ``eta0 / t**power_t``.
        - ``"adaptive"``: `eta0` at first, divided by five whenever the objective falls by less than
          `tol`.

    eta0 : float, default=0.01
        Step length of ``"constant"``, and the first one of ``"invscaling"`` and ``"adaptive"``.
    power_t : float, default=0.25
        Exponent of ``learning_rate="invscaling"``.
    momentum : float, default=0.0
        Share of the last step that ``solver="gd"`` adds to the next one, in [0, 1).
    aggregation : {"weighted", "uniform"}, default="weighted"
        How the results of the nodes are combined.

        - ``"weighted"``: each node counts by the weight of its rows.  The result does not depend on
          how the rows are spread over the nodes.
        - ``"uniform"``: each node counts the same.  ``solver="gd"`` steps along the plain sum of
          the nodes' mean gradients.  With k nodes the longest safe step is k times shorter.

    n_shards : int, "blocks" or None, default=None
        Number of nodes.

        - ``"blocks"``: every non-empty chunk is a node.
        - None: one node per thread of this process, or one to four per worker thread of a cluster.
          These hold at least 32 MiB each, and workers that join later can take some of them over.
          With ``aggregation="uniform"`` there is always one per thread.

    warm_start : bool, default=False
        Whether to start from the coefficients of the last fit.
    random_state : int, RandomState instance or None, default=None
        Seeds the start of the power iteration that finds the step length of
        ``learning_rate="auto"`` where there are more than 2000 columns.
    verbose : int, default=0
        Whether to print a line per round.  0 prints nothing.
    n_jobs : int or None, default=None
        Number of threads for data in memory.  None means all cores, or one inside a Dask task.
    max_time : float or None, default=None
        Seconds after which no further iteration begins.  None sets no limit.
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
        Number of iterations; the largest among the outputs.
    n_rounds_ : int
        Number of passes over the data.
    engine_ : {"memory", "cluster", "streaming"}
        Where the rows were.

        - ``"memory"``: in this process.
        - ``"cluster"``: on the workers of a cluster.
        - ``"streaming"``: in neither, because they did not fit; every pass read them again.

    n_recoveries_ : int
        Number of losses of workers that the fit recovered from.
    loss_curve_ : list of float
        Objective at the start and after every iteration, summed over the outputs.
    converged_ : bool
        Whether `tol` was met, or no progress beyond rounding was possible.
    duality_gap_ : float
        Relative duality gap reached, the largest among the outputs; infinite where there is none.
    solver_ : str
        The solver that was used.  If there were several, the one that found the coefficients.
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
    sklearn.linear_model.Ridge, sklearn.linear_model.ElasticNet,
    sklearn.linear_model.HuberRegressor, sklearn.linear_model.QuantileRegressor

    Notes
    -----
    The shards determine the order of all sums, so the same shards give the same bits.  Sources of
    the methods: second moments merged after Chan, Golub and LeVeque (1983); TSQR after Demmel et
    al. (2012) where the moments lose too many digits; proximal Newton after Lee, Sun and Saunders
    (2014); L-BFGS after Liu and Nocedal (1989); FISTA (Beck and Teboulle, 2009) with adaptive
    restart (O'Donoghue and Candes, 2015); smoothing of kinks after Madsen and Nielsen (1993);
    the interior-point method after Mehrotra (1992); quantile regression after Koenker and
    Bassett (1978).

    Examples
    --------
    >>> import dask.array as da
    >>> from dask_dml import DistributedGDRegressor
    >>> X = da.arange(20, chunks=8).reshape(10, 2)
    >>> y = X[:, 0] + 3
    >>> model = DistributedGDRegressor(penalty=None).fit(X, y)
    >>> bool(abs(model.predict(X) - y).max().compute() < 1e-9)
    True
    >>> model.n_rounds_ <= 3
    True
    """  # noqa: D301 - types that go on in the next line need backslashes, too

    _constraints: ClassVar[Mapping[str, tuple[Constraint, ...]]] = {
        "loss": (Options(tuple(LOSSES)),),
        "penalty": (Options(("l2", "l1", "elasticnet", None)),),
        "alpha": (NON_NEGATIVE,),
        "l1_ratio": (Interval(Real, 0.0, 1.0, "both"),),
        "epsilon": (NON_NEGATIVE,),
        "quantile": (Interval(Real, 0.0, 1.0, "neither"),),
        "fit_intercept": (BOOLEAN,),
        "max_iter": (COUNT,),
        "tol": (NON_NEGATIVE,),
        "solver": (Options(("auto", "statistics", "newton", "lbfgs", "accelerated", "gd")),),
        "learning_rate": (Options(("auto", "backtracking", "constant", "invscaling", "adaptive")),),
        "eta0": (POSITIVE,),
        "power_t": (NON_NEGATIVE,),
        "momentum": (Interval(Real, 0.0, 1.0, "left"),),
        "aggregation": (Options(("weighted", "uniform")),),
        "n_shards": (COUNT, Options(("blocks", None))),
        "warm_start": (BOOLEAN,),
        "random_state": (RANDOM_STATE,),
        "verbose": (VERBOSE,),
        "n_jobs": (Kind((Integral,), "an int"), NONE),
        "max_time": (POSITIVE, NONE),
        "checkpoint": (CHECKPOINT,),
    }

    n_iter_: int
    history_: dict[str, list[float]]
    fit_seconds_: float
    loss_curve_: list[float]
    converged_: bool
    duality_gap_: float
    solver_: str

    def __init__(
        self,
        loss: Literal[
            "squared_error",
            "huber",
            "epsilon_insensitive",
            "squared_epsilon_insensitive",
            "quantile",
        ] = "squared_error",
        *,
        penalty: Literal["l2", "l1", "elasticnet"] | None = "l2",
        alpha: float = 1e-4,
        l1_ratio: float = 0.15,
        epsilon: float = 0.1,
        quantile: float = 0.5,
        fit_intercept: bool = True,
        max_iter: int = 1000,
        tol: float = 1e-6,
        solver: Literal["auto", "statistics", "newton", "lbfgs", "accelerated", "gd"] = "auto",
        learning_rate: Literal[
            "auto", "backtracking", "constant", "invscaling", "adaptive"
        ] = "auto",
        eta0: float = 0.01,
        power_t: float = 0.25,
        momentum: float = 0.0,
        aggregation: Literal["weighted", "uniform"] = "weighted",
        n_shards: int | Literal["blocks"] | None = None,
        warm_start: bool = False,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
        n_jobs: int | None = None,
        max_time: float | None = None,
        checkpoint: str | os.PathLike[str] | Checkpoint | None = None,
    ) -> None:
        self.loss = loss
        self.penalty = penalty
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.epsilon = epsilon
        self.quantile = quantile
        self.fit_intercept = fit_intercept
        self.max_iter = max_iter
        self.tol = tol
        self.solver = solver
        self.learning_rate = learning_rate
        self.eta0 = eta0
        self.power_t = power_t
        self.momentum = momentum
        self.aggregation = aggregation
        self.n_shards = n_shards
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose
        self.n_jobs = n_jobs
        self.max_time = max_time
        self.checkpoint = checkpoint

    @with_callbacks
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> DistributedGDRegressor:
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

        Returns
        -------
        self : DistributedGDRegressor
            The fitted estimator; unchanged if an error is raised.

        Raises
        ------
        ValueError
            If a parameter, X, y or the weights are invalid (the message names the parameter,
            column or chunk and the remedy), or if gradient descent diverged.
        TypeError
            If a parameter or a column has the wrong type.
        """
        self._check()
        self._warn_of_ignored()
        # Numba is loaded at the first fit: importing the package stays quick.
        monitor = FitMonitor(self, X, y, sample_weight)
        with self._unchanged_on_error():
            deadline = self._deadline(self.max_time)
            chunks = read_input(self, X, y, sample_weight)
            start = [vars(self).get(name) for name in ("coef_", "intercept_") if self.warm_start]
            with open_recorded(self, chunks, deadline, *start) as (rounds, random_state):
                self._fit_rounds(
                    rounds, chunks, deadline, random_state=random_state, monitor=monitor
                )
        monitor.end()
        return self

    def _wanted_shards(self) -> WantedShards:
        """Return more nodes than threads where they mean nothing to the result."""
        several = self.n_shards is None and self.aggregation == "weighted"
        return "several" if several else self.n_shards

    def _fit_rounds(
        self,
        rounds: Any,
        chunks: Any,
        deadline: float,
        labels: Any = None,  # noqa: ARG002 - as of classifiers
        random_state: np.random.RandomState | None = None,
        monitor: FitMonitor | None = None,
    ) -> None:
        """Fit rows that are placed already."""
        from dask_dml.solvers.choose import solve

        random_state = random_state or check_random_state(self.random_state)
        task = self._task(chunks, deadline, vars(self), random_state, monitor)
        # Statistics are solved once, when nothing else runs: by as many threads as there are.
        once = self.solver == "statistics"
        threads = nullcontext() if once else self._driver_threads(chunks.n_features)
        model = partial(self._coefficients, multi=chunks.multi_output)
        with threads, watching(monitor, rounds, chunks, model):
            solution = solve(rounds, task)
        self._set_rounds(rounds)
        self._set_solution(solution, chunks.multi_output, warn=not stopped(monitor))

    def _task(
        self,
        chunks: Any,
        deadline: float,
        before: Mapping[str, Any],
        random_state: np.random.RandomState,
        monitor: FitMonitor | None,
    ) -> Any:
        from dask_dml.objective.losses import make_loss
        from dask_dml.objective.penalties import make_penalty
        from dask_dml.solvers.base import Limits
        from dask_dml.solvers.choose import Task

        n_features, n_outputs = chunks.n_features, chunks.n_outputs
        coef, intercept = None, None
        if self.warm_start and "coef_" in before:
            coef = np.atleast_2d(before["coef_"])
            intercept = np.atleast_1d(before["intercept_"])
            if coef.shape != (n_outputs, n_features):
                raise ValueError(
                    f"warm_start=True starts from coef_ of shape {coef.shape}, but this fit has "
                    f"{n_outputs} output(s) and {n_features} feature(s). Set warm_start=False or "
                    "fit a clone."
                )
        return Task(
            loss=make_loss(self.loss, self.epsilon, self.quantile),
            penalty=make_penalty(self.penalty, self.alpha, self.l1_ratio),
            n_features=n_features,
            n_outputs=n_outputs,
            fit_intercept=bool(self.fit_intercept),
            solver=self.solver,
            uniform=self.aggregation == "uniform",
            learning_rate=self.learning_rate,
            eta0=self.eta0,
            power_t=self.power_t,
            momentum=self.momentum,
            limits=Limits(
                self.max_iter, self.tol, deadline, self._lines(monitor), observer=monitor
            ),
            random_state=random_state,
            coef=coef,
            intercept=intercept,
            open_local=self._open_local,
        )

    def _method(self, n_rows: float, chunks: Any) -> Method:
        from dask_dml.objective.losses import make_loss
        from dask_dml.objective.penalties import make_penalty
        from dask_dml.solvers.choose import choose_solver
        from dask_dml.solvers.outlook import reason, usual_passes

        loss = make_loss(self.loss, self.epsilon, self.quantile)
        penalty = make_penalty(self.penalty, self.alpha, self.l1_ratio)
        chosen = choose_solver(
            self.solver,
            loss,
            penalty,
            chunks.n_features,
            chunks.n_outputs,
            n_rows,
            uniform=self.aggregation == "uniform",
        )
        smooth, kinked = usual_passes(chosen, chunks.dtype, chunks.n_features)
        low, high = kinked if loss.bounded_slope and loss.width == 0.0 else smooth
        return Method(
            chosen,
            reason(self.solver, chosen, chunks.n_features),
            (low, min(high, self.max_iter + low)),
            squares=chosen in ("statistics", "newton"),
        )

    def _ignored(self) -> dict[str, str]:
        if self.solver != "gd":
            return self._set_in_vain(
                "learning_rate eta0 power_t momentum", "only solver='gd' takes such steps"
            )
        if self.learning_rate in ("auto", "backtracking"):
            return self._set_in_vain(
                "eta0", f"learning_rate={self.learning_rate!r} finds the step lengths"
            )
        return {}

    def _set_solution(self, solution: Any, multi_output: bool, *, warn: bool = True) -> None:
        outcomes = solution.outcomes
        self._set_coefficients(solution.coef, solution.intercept, multi_output)
        self._weight_sum = solution.weight
        self.solver_ = solution.solver
        self.n_iter_ = max(1, *(outcome.n_iter for outcome in outcomes))
        self.converged_ = all(outcome.converged for outcome in outcomes)
        self.duality_gap_ = max(outcome.relative_gap for outcome in outcomes)
        longest = max(len(outcome.curve) for outcome in outcomes)
        curves = [o.curve + o.curve[-1:] * (longest - len(o.curve)) for o in outcomes]
        self.loss_curve_ = [float(sum(values)) for values in zip(*curves, strict=True)]
        if not self.converged_ and warn:
            self._warn(outcomes)

    def _warn(self, outcomes: list[Any]) -> None:
        worst = max(outcomes, key=lambda outcome: (not outcome.converged, outcome.relative_gap))
        if np.isfinite(worst.relative_gap):
            reached = f"the relative duality gap is {worst.relative_gap:.2e}"
        else:
            reached = f"the relative optimality is {worst.optimality:.2e}"
        remedy = "Increase max_iter (or max_time), or scale the columns"
        if self.solver_ in ("gd", "accelerated"):
            remedy += ", or use solver='auto'"
        self._warn_not_converged(
            f"{reached} after {self.n_iter_} iterations (tol={self.tol:g})", f"{remedy}."
        )

    def to_sklearn(self) -> Any:
        """Return a fitted scikit-learn regressor with the same predictions.

        Returns
        -------
        model : LinearRegression, Ridge, Lasso, ElasticNet, QuantileRegressor, SGDRegressor or \
                MultiOutputRegressor
            For squared error, the regressor whose ``fit`` would solve the same problem on the same
            rows and weights: ``Ridge(alpha=alpha * S)``, for instance.  (With
            ``aggregation="uniform"`` that holds for rows of equal weight.)  For quantiles, a
            `QuantileRegressor`, which solves the same problem if the penalty is ``"l1"`` or None.
            For other losses, an `SGDRegressor` with the same loss, penalty and `epsilon`, which has
            the same objective for rows of equal weight.  For several outputs, a
            `MultiOutputRegressor` of these.

        Raises
        ------
        NotFittedError
            If the estimator has not been fitted.
        """
        check_is_fitted(self)
        return linear_model(self, self._weight_sum)
