"""The family's common part: learning from Dask collections, and lazy transformation of them.

A transformer of the family is scikit-learn's class with this mixin in front.  What is in memory
goes to scikit-learn's methods.  A Dask collection is learnt from in passes over its chunks, after
which the object holds what scikit-learn's ``fit`` would have left; each chunk is then transformed
by scikit-learn's ``transform``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sklearn.utils.validation import check_is_fitted

from dask_dml.estimators.export import plain
from dask_dml.input.kinds import is_dask
from dask_dml.preprocessing import tables
from dask_dml.preprocessing.learning import Chain, learn
from dask_dml.preprocessing.tables import Table


class DistributedTransformerMixin:
    """Put in front of a scikit-learn transformer that implements `Learns`."""

    def fit(self, X: Any, y: Any = None) -> Any:
        """Learn the parameters of the transformation from rows.

        Parameters
        ----------
        X : array-like, sparse matrix, DataFrame, dask array or dask DataFrame of shape \
                (n_samples, n_features)
            Rows, with the types of columns that scikit-learn's class accepts.  A Dask collection
            is read on the workers of the current client, or by threads of this process.
        y : object
            Not used.

        Returns
        -------
        self : object
            The fitted transformer; unchanged if an error is raised.

        Raises
        ------
        ValueError, TypeError
            The errors of scikit-learn's class.  A note names the chunk whose data are the reason.
        """
        if not is_dask(X):
            return super().fit(tables.settled(X), y)  # type: ignore[misc]  # of the class beside
        return self._fit_lazily(X)

    def _fit_lazily(self, X: Any) -> Any:
        from dask_dml.preprocessing.chunked import passes_over, table_kind

        with unchanged_on_error(self):
            like = tables.settled(table_kind(X, type(self).__name__))
            learn([Chain([self], None, like)], passes_over(X))
        return self

    def transform(self, X: Any) -> Any:
        """Transform rows like scikit-learn's class.

        Parameters
        ----------
        X : array-like, sparse matrix, DataFrame, dask array or dask DataFrame of shape \
                (n_samples, n_features)
            Rows, with the columns of the fit.

        Returns
        -------
        X_new : ndarray, CSR, DataFrame, dask array or dask DataFrame of shape \
                (n_samples, n_features_out)
            For a Dask collection, a lazy dask array with the same chunks of rows.  They are CSR
            matrices where scikit-learn would return one.  After
            ``set_output(transform="pandas")``, a lazy dask DataFrame with the same index.

        Raises
        ------
        NotFittedError
            If the transformer has not been fitted.
        ValueError
            The errors of scikit-learn's class.  Errors in the values of a Dask collection are
            raised when the result is computed.
        """
        if not is_dask(X):
            return super().transform(tables.settled(X))  # type: ignore[misc]  # of the class beside
        from dask_dml.preprocessing.chunked import apply

        check_is_fitted(self)
        return apply(self, X)

    def fit_transform(self, X: Any, y: Any = None, **params: Any) -> Any:
        """Fit to rows, then transform them.

        Parameters
        ----------
        X : array-like, sparse matrix, DataFrame, dask array or dask DataFrame
            As for `fit`.  A Dask collection that is not persisted is read in the fit, and again
            when the result is computed.
        y : object
            Not used.
        **params : dict
            Passed on to `fit`.

        Returns
        -------
        X_new : ndarray, CSR, DataFrame, dask array or dask DataFrame
            As from `transform`.  Lazy for a Dask collection.
        """
        if not is_dask(X):
            X = tables.settled(X)
            return super().fit_transform(X, y, **params)  # type: ignore[misc]  # of the class beside
        return self.fit(X, y, **params).transform(X)

    def example(self, like: Table) -> Table:
        """Return a table of one row that the fitted transformer can transform.

        Parameters
        ----------
        like : table
            An empty one of the kind.

        Returns
        -------
        row : table
        """
        return tables.example(like)

    def to_sklearn(self) -> Any:
        """Return this transformer as a fitted transformer of scikit-learn.

        Returns
        -------
        transformer : object
            A fitted transformer of scikit-learn's own class, with the same parameters and
            attributes.  It does not need this package.

        Raises
        ------
        NotFittedError
            If the transformer has not been fitted.
        """
        check_is_fitted(self)
        made: Any = self.like_sklearn()
        vars(made).update({name: plain(value) for name, value in vars(self).items()})
        return made

    def like_sklearn(self) -> Any:
        """Return a transformer of scikit-learn's own class with the same parameters, not fitted."""
        kind = next(c for c in type(self).__mro__ if c.__module__.startswith("sklearn."))
        parameters = self.get_params(deep=False)  # type: ignore[attr-defined]  # of the class beside
        return kind(**{name: plain(value) for name, value in parameters.items()})


class InverseMixin:
    """Put in front of a scikit-learn transformer whose ``inverse_transform`` takes rows alone."""

    def inverse_transform(self, X: Any) -> Any:
        """Undo `transform`.

        Parameters
        ----------
        X : array-like, sparse matrix, dask array or dask DataFrame of shape \
                (n_samples, n_features_out)
            Transformed rows.

        Returns
        -------
        X_original : ndarray, CSR or dask array of shape (n_samples, n_features)
            As from scikit-learn's class.  Lazy for a Dask collection.

        Raises
        ------
        NotFittedError
            If the transformer has not been fitted.
        ValueError
            The errors of scikit-learn's class.
        """
        if not is_dask(X):
            return super().inverse_transform(X)  # type: ignore[misc]  # of the class beside
        from dask_dml.preprocessing.chunked import apply

        check_is_fitted(self)
        return apply(self, X, "inverse_transform")

    def transformed_example(self, like: Table) -> Table:
        """Return a table of one row that ``inverse_transform`` takes.

        Parameters
        ----------
        like : table
            An empty one of the kind.

        Returns
        -------
        row : table
        """
        return tables.example(like)


@contextmanager
def unchanged_on_error(estimator: Any) -> Iterator[None]:
    """Put an estimator's attributes back as they were if the block raises."""
    before = dict(vars(estimator))
    try:
        yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise
