"""Predictions and residuals of any number of rows, counted in cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from dask_dml.display.axes import axes, one_of
from dask_dml.metrics.rows import any_dask, visit_rows

#: Cells along each axis where nothing else is said.
CELLS = 60


class PredictionsDisplay:
    """Residuals or true values against predictions, drawn as counts in a grid.

    A picture of points would need all rows in one process.  Instead, every chunk counts its rows in
    the cells of a grid, and only the counts are collected.  This takes two passes over the
    predictions, one of them to find the range.  Make one by `from_estimator` or `from_predictions`.

    Parameters
    ----------
    counts : ndarray of shape (n_cells, n_cells)
        Weight of the rows in each cell.  The first axis is that of the predictions.
    x_edges, y_edges : ndarray of shape (n_cells + 1,)
        Edges of the cells.
    kind : {"residual_vs_predicted", "actual_vs_predicted"}
        What is drawn against the predictions.

        - ``"residual_vs_predicted"``: the residuals.
        - ``"actual_vs_predicted"``: the true values.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes.
    figure_ : matplotlib Figure
        The figure.
    mesh_ : matplotlib QuadMesh
        The counts.
    line_ : matplotlib Line2D
        The line where residuals are zero.

    See Also
    --------
    sklearn.metrics.PredictionErrorDisplay

    Examples
    --------
    >>> import dask.array as da
    >>> from dask_dml.display import PredictionsDisplay
    >>> y = da.random.default_rng(0).normal(size=1000, chunks=300)
    >>> display = PredictionsDisplay.from_predictions(y, 0.5 * y, n_cells=10, plot=False)
    >>> float(display.counts.sum())
    1000.0
    """

    def __init__(
        self, counts: np.ndarray, x_edges: np.ndarray, y_edges: np.ndarray, *, kind: str
    ) -> None:
        self.counts, self.x_edges, self.y_edges = counts, x_edges, y_edges
        self.kind = one_of("kind", kind, ("residual_vs_predicted", "actual_vs_predicted"))

    @classmethod
    def from_estimator(cls, estimator: Any, X: Any, y: Any, **kwargs: Any) -> Self:
        """Make a picture of the predictions of a fitted regressor.

        Parameters
        ----------
        estimator : estimator
            A fitted regressor with one output.
        X : array-like, DataFrame or Dask collection of shape (n_samples, n_features)
            Rows to predict.
        y : array-like or Dask collection of shape (n_samples,)
            True values.
        **kwargs
            As for `from_predictions`.

        Returns
        -------
        display : PredictionsDisplay
            The picture.
        """
        check_is_fitted(estimator)
        return cls.from_predictions(y, estimator.predict(X), **kwargs)

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        y_pred: Any,
        *,
        sample_weight: Any = None,
        kind: str = "residual_vs_predicted",
        n_cells: int = CELLS,
        ax: Any = None,
        plot: bool = True,
        **mesh_kwargs: Any,
    ) -> Self:
        """Make a picture of true values and predictions.

        Parameters
        ----------
        y_true, y_pred : array-like or Dask collection of shape (n_samples,)
            True values and predictions.
        sample_weight : array-like or Dask collection of shape (n_samples,), default=None
            Weights of the rows.
        kind : {"residual_vs_predicted", "actual_vs_predicted"}, default="residual_vs_predicted"
            What is drawn against the predictions.

            - ``"residual_vs_predicted"``: the residuals.
            - ``"actual_vs_predicted"``: the true values.

        n_cells : int, default=60
            Number of cells along each axis.
        ax, **mesh_kwargs
            As for `plot`.
        plot : bool, default=True
            Whether to draw at once.

        Returns
        -------
        display : PredictionsDisplay
            The picture.

        Raises
        ------
        ValueError
            If there are no rows, or some values are not finite.
        """
        one_of("kind", kind, ("residual_vs_predicted", "actual_vs_predicted"))
        residual = kind == "residual_vs_predicted"
        found: Extent = _visit(_extent, residual, y_true, y_pred, sample_weight)
        if not found.n_rows:
            raise ValueError("There are no rows to draw.")
        edges = [np.linspace(*_widened(low, high), n_cells + 1) for low, high in found.bounds]
        counts = _visit(_counts, (residual, edges), y_true, y_pred, sample_weight)
        display = cls(counts, *edges, kind=kind)
        return display.plot(ax=ax, **mesh_kwargs) if plot else display

    def plot(self, *, ax: Any = None, **mesh_kwargs: Any) -> Self:
        """Draw the picture.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on.  None makes a new figure.
        **mesh_kwargs
            Passed on to `matplotlib.axes.Axes.pcolormesh`.

        Returns
        -------
        self : PredictionsDisplay
            The picture.
        """
        ax = axes(ax, type(self).__name__)
        shown = np.where(self.counts > 0.0, self.counts, np.nan).T
        kwargs = {"norm": "log", "cmap": "viridis", **mesh_kwargs}
        self.mesh_ = ax.pcolormesh(self.x_edges, self.y_edges, shown, **kwargs)
        ax.figure.colorbar(self.mesh_, ax=ax, label="rows")
        if self.kind == "residual_vs_predicted":
            self.line_ = ax.axhline(0.0, color="0.3", linestyle="--")
            ax.set_ylabel("true value - prediction")
        else:
            self.line_ = ax.axline((self.x_edges[0], self.x_edges[0]), slope=1.0, color="0.3",
                                   linestyle="--")  # fmt: skip
            ax.set_ylim(self.y_edges[0], self.y_edges[-1])
            ax.set_ylabel("true value")
        ax.set_xlabel("prediction")
        self.ax_, self.figure_ = ax, ax.figure
        return self


@dataclass(frozen=True)
class Extent:
    """The range of some rows.

    Attributes
    ----------
    n_rows : int
        How many they are.
    bounds : tuple of (float, float)
        Smallest and largest value, of the predictions and of what is drawn against them.
    """

    n_rows: int
    bounds: tuple[tuple[float, float], tuple[float, float]]

    def __add__(self, other: Extent) -> Extent:
        if not (self.n_rows and other.n_rows):
            return self if self.n_rows else other
        (a, b), (c, d) = self.bounds
        (e, f), (g, h) = other.bounds
        bounds = ((min(a, e), max(b, f)), (min(c, g), max(d, h)))
        return Extent(self.n_rows + other.n_rows, bounds)


def _visit(function: Any, options: Any, y_true: Any, y_pred: Any, weight: Any) -> Any:
    if any_dask(y_true, y_pred, weight):
        return visit_rows(function, options, y_true, y_pred, weight)
    weight = None if weight is None else np.asarray(weight, np.float64)
    return function(np.asarray(y_true), np.asarray(y_pred), weight, options)


def _points(y_true: np.ndarray, y_pred: np.ndarray, *, residual: bool) -> tuple[Any, Any]:
    if y_true.ndim != 1 or y_pred.ndim != 1:
        raise ValueError(
            f"True values and predictions of one output are needed, of shape (n_samples,); got "
            f"{y_true.shape} and {y_pred.shape}."
        )
    true, predicted = y_true.astype(np.float64), y_pred.astype(np.float64)
    if not (np.isfinite(true).all() and np.isfinite(predicted).all()):
        raise ValueError("True values or predictions are NaN or infinite: drop these rows first.")
    return predicted, true - predicted if residual else true


def _extent(
    y_true: np.ndarray, y_pred: np.ndarray, _weight: np.ndarray | None, residual: bool
) -> Extent:
    if not len(y_true):
        return Extent(0, ((0.0, 0.0), (0.0, 0.0)))
    x, y = _points(y_true, y_pred, residual=residual)
    bounds = ((float(x.min()), float(x.max())), (float(y.min()), float(y.max())))
    return Extent(len(x), bounds)


def _counts(
    y_true: np.ndarray,
    y_pred: np.ndarray,
    weight: np.ndarray | None,
    options: tuple[bool, list[np.ndarray]],
) -> np.ndarray:
    residual, edges = options
    shape = len(edges[0]) - 1, len(edges[1]) - 1
    if not len(y_true):
        return np.zeros(shape)
    x, y = _points(y_true, y_pred, residual=residual)
    return np.histogram2d(x, y, bins=edges, weights=weight)[0]


def _widened(low: float, high: float) -> tuple[float, float]:
    """Return a range that holds something to divide."""
    if high > low:
        return low, high
    room = max(abs(low), 1.0) * 0.5
    return low - room, high + room
