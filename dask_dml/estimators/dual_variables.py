"""The dual variables and support vectors of all rows: at once in memory, lazily for Dask."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import clone
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from dask_dml.estimators.classifier import read_coded
from dask_dml.input.chunks import Chunks, make_block
from dask_dml.input.kinds import is_dask

if TYPE_CHECKING:
    from dask_dml.solvers.dual.dual_pieces import DualPieces
    from dask_dml.solvers.dual.support import Duals


class DualVariablesMixin:
    """Dual variables and support vectors of a linear support vector machine."""

    coef_: np.ndarray
    intercept_: np.ndarray
    classes_: np.ndarray
    duality_gap_: float
    _duals: Duals | None
    _solves_again: bool
    loss: str
    solver: str
    solver_: str
    n_shards: Any
    n_jobs: int | None
    random_state: Any
    _task: Callable[..., Any]
    _driver_threads: Callable[[int], AbstractContextManager[None]]

    def dual_coef(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Return the dual variables of the training data.

        Parameters
        ----------
        X, y, sample_weight : array-like or Dask collection
            The data of the fit.

        Returns
        -------
        duals : ndarray or dask array of shape (n_samples,) or (n_samples, n_classes)
            ``y_i alpha_i``.  With an L2 penalty, ``duals.T @ X`` is `coef_` up to the duality gap.
            They are feasible, and their dual objective is the lower bound behind `duality_gap_`.
            For a Dask collection, a dask array, which is lazy after ``solver="newton"``.

            The dual variables of ``solver="dual"``, and of fits by ``"newton"`` that ended with an
            interior-point method, are not kept.  Another fit finds them again.  For the squared
            hinge after ``"dual"``, that is a fit by ``"newton"`` from `coef_` to a hundredth of the
            gap.

        Raises
        ------
        NotFittedError
            If the estimator has not been fitted.
        ValueError
            If the input is invalid, or y has a class that the fit did not see.
        """
        check_is_fitted(self)
        if self._duals is None and self._solves_again:
            return self._found_again(X, y, sample_weight)
        if self._duals is None:
            return self._refined(X, y, sample_weight).dual_coef(X, y, sample_weight)
        return all_duals(read_coded(self, X, y, sample_weight), self._duals)

    def _found_again(self, X: Any, y: Any, sample_weight: Any) -> Any:
        """Return the dual variables that the solver finds, as it did in the fit."""
        from dask_dml.passes.margins import class_sums
        from dask_dml.rounds import open_rounds
        from dask_dml.solvers.margin_choose import find_duals

        chunks = read_coded(self, X, y, sample_weight)
        with open_rounds(chunks, n_shards=self.n_shards, n_jobs=self.n_jobs) as rounds:
            found = rounds.map_reduce(class_sums)
            if not np.array_equal(found.classes, np.arange(len(self.classes_))):
                raise ValueError(
                    "y has other classes than in the fit "
                    f"({self.classes_.tolist()}); hand over the data of the fit."
                )
            random_state = check_random_state(self.random_state)
            task = self._task(chunks.n_features, found, np.inf, {}, random_state)
            limits = task.limits
            if self.solver == "auto":
                # Another solver may have had a part in the bound: this one's is to be no worse.
                newton = self.solver_ == "newton"
                tol = max(0.1 * self.duality_gap_, 1e-10) if newton else self.duality_gap_
                limits = replace(limits, tol=min(limits.tol, tol))
            task = replace(task, solver=self.solver_, limits=limits)
            with self._driver_threads(chunks.n_features):
                pieces = find_duals(rounds, task)
        return joined_duals(chunks, pieces)

    def _refined(self, X: Any, y: Any, sample_weight: Any) -> Any:
        """Return a fit by ``"newton"`` with a hundredth of this one's gap."""
        other: Any = clone(self).set_params(
            solver="newton", warm_start=True, tol=max(0.01 * self.duality_gap_, 1e-10)
        )
        other.coef_, other.intercept_, other.classes_ = self.coef_, self.intercept_, self.classes_
        return other.fit(X, y, sample_weight)

    def support(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Return the indices of the support vectors: rows whose dual variables are not all zero.

        Parameters
        ----------
        X, y, sample_weight : array-like or Dask collection
            The data of the fit.

        Returns
        -------
        indices : ndarray or dask array of shape (n_support,)
            Positions of rows, in order.  Lazy for a Dask collection.

        Raises
        ------
        NotFittedError
            If the estimator has not been fitted.
        ValueError
            As for `dual_coef`.
        """
        duals = self.dual_coef(X, y, sample_weight)
        if not is_dask(duals):
            return np.flatnonzero(duals.reshape(len(duals), -1).any(axis=1))
        return lazy_support(duals)


def all_duals(chunks: Chunks, duals: Duals) -> Any:
    """Return the dual variables of the rows of some chunks.

    Parameters
    ----------
    chunks : Chunks
        Rows with the classes' positions as labels.
    duals : Duals
        Likewise.

    Returns
    -------
    values : ndarray or dask array of shape (n_samples,) or (n_samples, n_problems)
        Lazy where the chunks are, with chunks of unknown size.
    """
    weights = chunks.weight or [None] * len(chunks.X)
    known = {"n_features": chunks.n_features, "n_outputs": 1, "dtype": chunks.dtype}
    parts = enumerate(zip(chunks.X, chunks.y, weights, strict=True))
    if not chunks.lazy:
        return np.concatenate(
            [chunk_duals(*part, duals, number=number, **known) for number, part in parts]
        )
    import dask.array as da
    from dask.delayed import delayed

    shipped, make = delayed(duals, traverse=False), delayed(chunk_duals)
    squeeze = len(duals.coef) == 1
    shape = (np.nan,) if squeeze else (np.nan, len(duals.coef))
    return da.concatenate(
        [
            da.from_delayed(
                make(*part, shipped, number=number, **known),
                shape=shape,
                meta=np.empty((0,) * len(shape)),
            )
            for number, part in parts
        ],
        allow_unknown_chunksizes=True,
    )


def joined_duals(chunks: Chunks, pieces: DualPieces) -> Any:
    """Return the pieces in the order of the rows: an array, or a dask array with a chunk of each.

    Parameters
    ----------
    chunks : Chunks
        The rows.
    pieces : DualPieces
        Their dual variables.
    """
    n_problems = pieces.of[0][2].shape[1]
    of: list[list[np.ndarray]] = [[np.empty((0, n_problems))] for _ in chunks.X]
    for chunk, _, values in sorted(pieces.of, key=lambda piece: piece[:2]):
        of[chunk].append(values)
    parts = [np.concatenate(values) for values in of]
    parts = [part[:, 0] for part in parts] if n_problems == 1 else parts
    whole = np.concatenate(parts)
    if not chunks.lazy:
        return whole
    import dask.array as da

    return da.from_array(whole, chunks=(tuple(map(len, parts)), *whole.shape[1:]))


def chunk_duals(X: Any, y: Any, weight: Any, duals: Duals, **known: Any) -> np.ndarray:
    """Return the dual variables of one chunk; one-dimensional for one problem."""
    block = make_block(X, y, weight, **known)
    if (block.y < 0.0).any():
        row = int(np.argmax(block.y[:, 0] < 0.0))
        raise ValueError(
            f"y has a class that was not in the fit (row {row} of chunk "
            f"{known['number']}); hand over the data of the fit."
        )
    parts = [values for _, values in duals.tiles(block)]
    joined = np.concatenate(parts) if parts else np.empty((0, len(duals.coef)))
    return joined[:, 0] if len(duals.coef) == 1 else joined


def lazy_support(duals: Any) -> Any:
    """Return the positions of the rows of a dask array that are not all zero."""
    import dask.array as da
    from dask.delayed import delayed

    if duals.ndim == 2:
        duals = duals.any(axis=1)
    find, count = delayed(_positions), delayed(len)
    parts = list(np.ravel(duals.to_delayed()))
    found, start = [], delayed(0)
    for part in parts:
        found.append(da.from_delayed(find(part, start), (np.nan,), meta=np.empty(0, np.intp)))
        start = start + count(part)
    return da.concatenate(found, allow_unknown_chunksizes=True)


def _positions(duals: np.ndarray, start: int) -> np.ndarray:
    return np.flatnonzero(duals) + start
