"""How much worse a model's score becomes without what a feature tells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.inspection import permutation_importance as of_rows_in_memory
from sklearn.metrics import check_scoring
from sklearn.utils import Bunch, check_random_state

from dask_dml.input.containers import is_sparse
from dask_dml.input.kinds import is_dask, is_frame
from dask_dml.preprocessing import tables


def permutation_importance(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    scoring: Any = None,
    n_repeats: int = 5,
    random_state: Any = None,
    sample_weight: Any = None,
    subsample: int = 10_000,
) -> Bunch:
    """Return how much the score falls if a feature is replaced by its values in other rows.

    `sklearn.inspection.permutation_importance`, for Dask collections as well.  A permutation of all
    rows would move them between workers.  Instead, each row of a Dask collection gets the value of
    a random row from a sample of all chunks.

    Parameters
    ----------
    estimator : estimator
        A fitted estimator, or a fitted pipeline.
    X : array-like, DataFrame, dask array or dask DataFrame of shape (n_samples, n_features)
        Rows, as the estimator accepts them.  They are read ``1 + n_features * n_repeats`` times,
        so persist them if they fit in memory.
    y : array-like or Dask collection of shape (n_samples,) or (n_samples, n_outputs)
        Targets.
    scoring : str, callable or None, default=None
        As in scikit-learn, or a scorer of `dask_dml.metrics.get_scorer`.  None stands for the
        estimator's own ``score``.
    n_repeats : int, default=5
        Number of times that each feature is replaced.
    random_state : int, RandomState instance or None, default=None
        Seed of the draws.
    sample_weight : array-like or Dask collection of shape (n_samples,), default=None
        Weights of the rows in the score.
    subsample : int, default=10_000
        Number of rows in the sample that values are drawn from.

    Returns
    -------
    result : Bunch
        ``importances`` of shape (n_features, n_repeats), and their ``importances_mean`` and
        ``importances_std`` of shape (n_features,).

    Examples
    --------
    >>> import dask.array as da
    >>> from dask_dml import DistributedGDRegressor
    >>> from dask_dml.inspection import permutation_importance
    >>> X = da.random.default_rng(0).normal(size=(1000, 2), chunks=(250, 2))
    >>> y = 3.0 * X[:, 1]
    >>> model = DistributedGDRegressor().fit(X, y)
    >>> permutation_importance(model, X, y, random_state=0).importances_mean.round(1)
    array([0., 2.])
    """
    if not is_dask(X):
        return of_rows_in_memory(
            estimator, X, y, scoring=scoring, n_repeats=n_repeats, random_state=random_state,
            sample_weight=sample_weight,
        )  # fmt: skip
    score = _scorer(estimator, y, scoring, sample_weight)
    seeds = check_random_state(random_state).randint(2**31 - 1, size=1 + n_repeats)
    drawn = _draw(X, subsample, int(seeds[0]))
    baseline = score(X)
    importances = np.array(
        [
            [baseline - score(_replaced(X, drawn, column, int(seed))) for seed in seeds[1:]]
            for column in range(X.shape[1])
        ]
    )
    return Bunch(
        importances_mean=importances.mean(axis=1),
        importances_std=importances.std(axis=1),
        importances=importances,
    )


def _scorer(estimator: Any, y: Any, scoring: Any, sample_weight: Any) -> Callable[[Any], float]:
    scorer = check_scoring(estimator, scoring=scoring)
    given = {} if sample_weight is None else {"sample_weight": sample_weight}
    return lambda X: float(scorer(estimator, X, y, **given))


def _draw(X: Any, size: int, seed: int) -> Any:
    """Return rows drawn from all chunks, from one pass."""
    from dask_dml.preprocessing.blockwise import SampleLearner
    from dask_dml.preprocessing.chunked import passes_over

    learner = SampleLearner(size, seed)
    table = passes_over(X)(_observe, learner).table
    if table is None:
        raise ValueError("X has no rows.")
    return table


def _observe(table: Any, number: int, learner: Any) -> Any:
    return learner.observe(table, number)


def _replaced(X: Any, drawn: Any, column: int, seed: int) -> Any:
    """Return X with a column's values drawn anew, lazily."""
    values = drawn.iloc[:, column] if tables.is_frame(drawn) else drawn[:, [column]]
    if is_frame(X):
        return X.map_partitions(_replace_in_frame, values, column, seed, meta=X)
    X = X.rechunk({1: -1})
    return X.map_blocks(_replace_in_array, values, column, seed, dtype=X.dtype, meta=X)


def _rows(n: int, n_values: int, seed: int, column: int, number: int) -> np.ndarray:
    return np.random.default_rng([seed, column, number]).integers(n_values, size=n)


def _replace_in_frame(
    part: Any, values: Any, column: int, seed: int, partition_info: Any = None
) -> Any:
    number = (partition_info or {}).get("number", 0)
    new = values.iloc[_rows(len(part), len(values), seed, column, number)]
    part = part.copy(deep=False)
    part.isetitem(column, new.set_axis(part.index))
    return part


def _replace_in_array(
    part: Any, values: Any, column: int, seed: int, block_id: tuple[int, ...] = (0, 0)
) -> Any:
    new = values[_rows(part.shape[0], values.shape[0], seed, column, block_id[0])]
    if not is_sparse(part):
        part = part.copy()
        part[:, [column]] = new
        return part
    import scipy.sparse as sp

    before, after = part[:, :column], part[:, column + 1 :]
    return sp.hstack([before, new, after], format="csr").astype(part.dtype)
