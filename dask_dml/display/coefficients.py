"""The largest coefficients, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from dask_dml.display.axes import axes
from dask_dml.inspection import coefficients

if TYPE_CHECKING:
    import pandas as pd


class CoefficientDisplay:
    """Bars of the largest coefficients of a linear model.

    Make one by `from_estimator`.

    Parameters
    ----------
    table : pandas.DataFrame of shape (n_features, n_outputs)
        The table that `dask_dml.inspection.coefficients` returns.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes.
    figure_ : matplotlib Figure
        The figure.
    bars_ : list of matplotlib BarContainer
        One for each output or class.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from dask_dml import DistributedGDRegressor
    >>> from dask_dml.display import CoefficientDisplay
    >>> from dask_dml.inspection import coefficients
    >>> X, y = load_diabetes(return_X_y=True, as_frame=True)
    >>> display = CoefficientDisplay(coefficients(DistributedGDRegressor().fit(X, y)))
    >>> display.table.index[0]
    'bmi'
    """

    def __init__(self, table: pd.DataFrame) -> None:
        self.table = table

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, n_largest: int = 20, ax: Any = None, **bar_kwargs: Any
    ) -> Self:
        """Make a picture of a fitted linear model, or of a pipeline that ends in one.

        Parameters
        ----------
        estimator : estimator
            A fitted linear model, or a pipeline that ends in one.
        n_largest, ax, **bar_kwargs
            As for `plot`.

        Returns
        -------
        display : CoefficientDisplay
            The picture.
        """
        return cls(coefficients(estimator)).plot(n_largest=n_largest, ax=ax, **bar_kwargs)

    def plot(self, *, n_largest: int = 20, ax: Any = None, **bar_kwargs: Any) -> Self:
        """Draw the picture.

        Parameters
        ----------
        n_largest : int, default=20
            Number of coefficients to draw, the largest ones first.
        ax : matplotlib Axes, default=None
            Axes to draw on.  None makes a new figure.
        **bar_kwargs
            Passed on to `matplotlib.axes.Axes.barh`.

        Returns
        -------
        self : CoefficientDisplay
            The picture.
        """
        ax = axes(ax, type(self).__name__)
        shown = self.table.iloc[:n_largest]
        height = 0.8 / shown.shape[1]
        self.bars_ = []
        for number, column in enumerate(shown.columns):
            places = [
                row + (number - (shown.shape[1] - 1) / 2) * height for row in range(len(shown))
            ]
            kwargs = {"height": height, "label": str(column), **bar_kwargs}
            self.bars_.append(ax.barh(places, shown[column].to_numpy(), **kwargs))
        ax.set_yticks(range(len(shown)), [str(name) for name in shown.index])
        ax.invert_yaxis()
        ax.axvline(0.0, color="0.7", linewidth=0.8)
        ax.set_xlabel("coefficient")
        if shown.shape[1] > 1:
            ax.legend()
        if len(shown) < len(self.table):
            ax.set_title(f"{len(shown)} largest of {len(self.table)}", fontsize="medium")
        self.ax_, self.figure_ = ax, ax.figure
        return self
