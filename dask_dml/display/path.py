"""Coefficients against the strength of the penalty."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from dask_dml.display.axes import axes


class PathDisplay:
    """Coefficients along a path of penalties, and how many of them are not zero.

    Make one by `from_estimator`, or from the results of `regularization_path`.

    Parameters
    ----------
    alphas : ndarray of shape (n_alphas,)
        Strengths of the penalty.
    coefs : ndarray of shape (n_features, n_alphas)
        Coefficients.
    feature_names : array-like of shape (n_features,) or None, default=None
        Names of the columns.
    chosen : float or None, default=None
        An alpha to mark.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes.
    figure_ : matplotlib Figure
        The figure.
    lines_ : list of matplotlib Line2D
        One for each coefficient that is drawn.

    See Also
    --------
    dask_dml.model_selection.regularization_path

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from dask_dml.display import PathDisplay
    >>> from dask_dml.model_selection import regularization_path
    >>> X, y = load_diabetes(return_X_y=True)
    >>> alphas, coefs, _ = regularization_path(X, y, alphas=20)
    >>> PathDisplay(alphas, coefs).n_nonzero[[0, -1]]
    array([ 0, 10])
    """

    def __init__(
        self,
        alphas: np.ndarray,
        coefs: np.ndarray,
        *,
        feature_names: Any = None,
        chosen: float | None = None,
    ) -> None:
        self.alphas = np.asarray(alphas)
        self.coefs = np.asarray(coefs)
        if self.coefs.ndim != 2 or self.coefs.shape[1] != len(self.alphas):
            raise ValueError(
                f"coefs must have the shape (n_features, {len(self.alphas)}), one column for each "
                f"alpha; got {self.coefs.shape}. Draw one output at a time: coefs[output]."
            )
        self.feature_names = feature_names
        self.chosen = chosen

    @property
    def n_nonzero(self) -> np.ndarray:
        """Number of coefficients that are not zero, for each alpha."""
        return np.count_nonzero(self.coefs, axis=0)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        n_labels: int = 8,
        ax: Any = None,
        **line_kwargs: Any,
    ) -> Self:
        """Make a picture of the path that a fitted `DistributedGDRegressorCV` chose from.

        Parameters
        ----------
        estimator : DistributedGDRegressorCV
            A fitted search, with one output.
        X, y, sample_weight : array-like or Dask collection
            The data of the fit.  They are read once more.
        n_labels, ax, **line_kwargs
            As for `plot`.

        Returns
        -------
        display : PathDisplay
            The picture, with the chosen alpha marked.
        """
        from dask_dml.model_selection import regularization_path

        alphas = np.asarray(estimator.alphas_)
        if alphas.ndim == 2:
            ratios = np.atleast_1d(estimator.l1_ratio)
            alphas = alphas[int(np.argmin(np.abs(ratios - estimator.l1_ratio_)))]
        grid, coefs, _ = regularization_path(
            X,
            y,
            sample_weight,
            alphas=alphas,
            l1_ratio=estimator.l1_ratio_,
            fit_intercept=estimator.fit_intercept,
            tol=estimator.tol,
        )
        display = cls(
            grid,
            coefs,
            feature_names=getattr(estimator, "feature_names_in_", None),
            chosen=estimator.alpha_,
        )
        return display.plot(n_labels=n_labels, ax=ax, **line_kwargs)

    def plot(self, *, n_labels: int = 8, ax: Any = None, **line_kwargs: Any) -> Self:
        """Draw the picture.

        Parameters
        ----------
        n_labels : int, default=8
            Number of coefficients to name, the largest ones first.
        ax : matplotlib Axes, default=None
            Axes to draw on.  None makes a new figure.
        **line_kwargs
            Passed on to `matplotlib.axes.Axes.plot`.

        Returns
        -------
        self : PathDisplay
            The picture.
        """
        ax = axes(ax, type(self).__name__)
        largest = np.argsort(-np.abs(self.coefs).max(axis=1), kind="stable")
        shown = set(largest[:n_labels].tolist())
        names = self.feature_names
        if names is None:
            names = [f"x{number}" for number in range(len(self.coefs))]
        self.lines_ = []
        for number in largest[np.abs(self.coefs[largest]).max(axis=1) > 0.0]:
            label = str(names[number]) if number in shown else None
            self.lines_ += ax.plot(self.alphas, self.coefs[number], label=label, **line_kwargs)
        ax.set_xscale("log")
        ax.invert_xaxis()
        ax.set(xlabel="alpha", ylabel="coefficient")
        ax.axhline(0.0, color="0.7", linewidth=0.8, zorder=0)
        if self.chosen is not None:
            ax.axvline(self.chosen, color="0.3", linestyle="--", label=f"alpha {self.chosen:.2g}")
        if shown:
            ax.legend(fontsize="small")
        self._draw_counts(ax)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _draw_counts(self, ax: Any) -> None:
        top = ax.secondary_xaxis("top")
        at = np.unique(np.linspace(0, len(self.alphas) - 1, 6).astype(int))
        top.set_xticks(self.alphas[at], [str(self.n_nonzero[one]) for one in at])
        top.minorticks_off()
        top.set_xlabel("coefficients that are not zero")
