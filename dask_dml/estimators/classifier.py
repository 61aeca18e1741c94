"""Prediction and score of linear classifiers: at once in memory, lazily for Dask collections."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import scipy.sparse as sp
from sklearn.base import ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from dask_dml.blocks import Shard
from dask_dml.estimators.prediction import linear_predict
from dask_dml.input.kinds import is_dask
from dask_dml.input.labels import encode
from dask_dml.input.read import read_input
from dask_dml.passes.predict import LinearModel, checked_values


class LinearClassifierMixin(ClassifierMixin):
    """Decisions of a linear classifier with ``coef_``, ``intercept_`` and ``classes_``."""

    coef_: Any
    intercept_: np.ndarray
    classes_: np.ndarray

    def sparsify(self) -> Self:
        """Convert `coef_` to a SciPy CSR matrix, which saves memory after an L1 penalty.

        Returns
        -------
        self : estimator
            Fitted, with the same predictions.  Call `densify` before using `coef_` as an array.

        Raises
        ------
        NotFittedError
            If the estimator has not been fitted.
        """
        check_is_fitted(self)
        self.coef_ = sp.csr_matrix(self.coef_)
        return self

    def densify(self) -> Self:
        """Convert `coef_` back to an array.

        Returns
        -------
        self : estimator
            Fitted, with the same predictions.

        Raises
        ------
        NotFittedError
            If the estimator has not been fitted.
        """
        check_is_fitted(self)
        self.coef_ = self._model()[0]
        return self

    def _model(self) -> tuple[np.ndarray, np.ndarray]:
        coef: Any = self.coef_
        coef = coef if isinstance(coef, np.ndarray) else coef.toarray()
        return coef, np.atleast_1d(self.intercept_)

    def decision_function(self, X: Any) -> Any:
        """Return the signed scores of rows: their side of each separating hyperplane, and how far.

        Parameters
        ----------
        X : array-like, sparse matrix, DataFrame, dask array or dask DataFrame of shape \
                (n_samples, n_features)
            Rows.

        Returns
        -------
        scores : ndarray, dask array or dask Series/DataFrame of shape (n_samples,) or \
                (n_samples, n_classes)
            ``X @ coef_.T + intercept_``; one-dimensional for two classes, where positive means
            ``classes_[1]``.  Lazy for a Dask collection, chunked or partitioned like X.

        Raises
        ------
        NotFittedError
            If the estimator has not been fitted.
        ValueError
            If X has another number of features, or other feature names, than at the fit.
        """
        check_is_fitted(self)
        coef, intercept = self._model()
        return linear_predict(self, X, coef, intercept, squeeze=len(coef) == 1)

    def predict(self, X: Any) -> Any:
        """Predict the classes of rows.

        Parameters
        ----------
        X : array-like, sparse matrix, DataFrame, dask array or dask DataFrame of shape \
                (n_samples, n_features)
            Rows.

        Returns
        -------
        y : ndarray, dask array or dask Series of shape (n_samples,)
            One of ``classes_`` for each row.  Lazy for a Dask collection.

        Raises
        ------
        NotFittedError
            If the estimator has not been fitted.
        ValueError
            If X has another number of features, or other feature names, than at the fit.
        """
        scores = self.decision_function(X)
        if not is_dask(scores):
            return chosen_class(scores, self.classes_)
        if hasattr(scores, "divisions"):
            import pandas as pd

            # Of no rows pandas cannot tell that they are text: an empty partition is told.
            kind = pd.Series(self.classes_).dtype
            meta = pd.Series([], dtype=kind)
            return scores.map_partitions(_chosen_series, self.classes_, kind, meta=meta)
        return scores.map_blocks(
            chosen_class,
            self.classes_,
            dtype=self.classes_.dtype,
            drop_axis=1 if scores.ndim == 2 else None,
            meta=self.classes_[:0],
        )

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the share of rows whose class is predicted correctly.

        Parameters
        ----------
        X : array-like, sparse matrix, DataFrame, dask array or dask DataFrame of shape \
                (n_samples, n_features)
            Rows.
        y : array-like or Dask collection of shape (n_samples,)
            True classes.  A class that the fit did not see always counts as wrong.
        sample_weight : array-like or Dask collection of shape (n_samples,), default=None
            Sample weights.

        Returns
        -------
        score : float
            Accuracy.  A Dask collection is read once.

        Raises
        ------
        NotFittedError
            If the estimator has not been fitted.
        ValueError
            If the input is invalid or does not match the fit.
        """
        check_is_fitted(self)
        chunks = read_coded(self, X, y, sample_weight)
        from dask_dml.rounds import visit_once

        model = LinearModel(*self._model())
        right, total = visit_once(chunks, count_right, model)
        if total == 0.0:
            raise ValueError("The sample weights sum to zero: there is nothing to score.")
        return float(right / total)


def read_coded(estimator: Any, X: Any, y: Any, sample_weight: Any) -> Any:
    """Read input for a fitted classifier, with the positions of the classes for labels.

    Parameters
    ----------
    estimator : fitted classifier
        Its ``classes_`` are looked up, and its features checked.
    X, y, sample_weight : array-like or Dask collection
        As in `dask_dml.input.read.read_input`.

    Returns
    -------
    chunks : Chunks
        y is -1 where a class is not known.
    """
    if not is_dask(X) and is_dask(y):
        y = y.compute()
    return read_input(estimator, X, encode(y, estimator.classes_), sample_weight, reset=False)


def chosen_class(scores: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return the class that decisions of shape (n_samples,) or (n_samples, n_classes) are for."""
    codes = scores.argmax(axis=1) if scores.ndim == 2 else (scores > 0.0).astype(np.intp)
    return classes[codes]


def _chosen_series(scores: Any, classes: np.ndarray, kind: Any) -> Any:
    import pandas as pd

    return pd.Series(chosen_class(scores.to_numpy(), classes), index=scores.index, dtype=kind)


def count_right(shard: Shard, model: LinearModel) -> np.ndarray:
    """Return the weight of the rows of a shard that are predicted right, and of all rows."""
    counts = np.zeros(2)
    for block in shard.blocks:
        scores = checked_values(block, model)
        codes = scores.argmax(axis=1) if len(model.coef) > 1 else (scores[:, 0] > 0.0)
        weights = np.ones(block.n_rows) if block.weight is None else block.weight
        counts += weights[codes == block.y[:, 0]].sum(), weights.sum()
    return counts
