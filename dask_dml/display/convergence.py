"""How a fit came closer to the optimum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from dask_dml.display.axes import axes, one_of

_LABELS = {
    "passes": "passes over the data",
    "seconds": "seconds",
    "gap": "relative duality gap",
    "objective": "objective",
    "excess": "objective above the best, relative",
}


class ConvergenceDisplay:
    """Duality gap or objective of one or several fits, against passes or seconds.

    Make one by `from_estimator`.

    Parameters
    ----------
    histories : mapping of str to mapping
        The name of each fit and its ``history_``: lists ``"n_rounds"``, ``"seconds"``,
        ``"objective"`` and ``"relative_gap"``.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes.
    figure_ : matplotlib Figure
        The figure.
    lines_ : list of matplotlib Line2D
        One for each fit.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from dask_dml import DistributedGDRegressor
    >>> from dask_dml.display import ConvergenceDisplay
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = DistributedGDRegressor("huber").fit(X, y)
    >>> display = ConvergenceDisplay.from_estimator(model, y="objective", plot=False)
    >>> list(display.histories)
    ['newton']
    """

    def __init__(self, histories: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
        self.histories = histories

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        x: str = "passes",
        y: str = "gap",
        ax: Any = None,
        plot: bool = True,
        **line_kwargs: Any,
    ) -> Self:
        """Make a picture of fitted estimators.

        Parameters
        ----------
        estimator : estimator, or mapping of str to estimator
            A fitted estimator, or several with their names.
        x, y, ax, **line_kwargs
            As for `plot`.
        plot : bool, default=True
            Whether to draw at once.

        Returns
        -------
        display : ConvergenceDisplay
            The picture.

        Raises
        ------
        NotFittedError
            If an estimator has not been fitted.
        ValueError
            If an estimator has no history of rounds, because it was fitted in one pass.
        """
        models = estimator if isinstance(estimator, Mapping) else {_name(estimator): estimator}
        for name, model in models.items():
            check_is_fitted(model)
            if not getattr(model, "history_", {}).get("n_rounds"):
                raise ValueError(f"{name!r} has no history of rounds in its attribute history_.")
        display = cls({name: model.history_ for name, model in models.items()})
        return display.plot(x=x, y=y, ax=ax, **line_kwargs) if plot else display

    def plot(
        self, *, x: str = "passes", y: str = "gap", ax: Any = None, **line_kwargs: Any
    ) -> Self:
        """Draw the picture.

        Parameters
        ----------
        x : {"passes", "seconds"}, default="passes"
            What is on the horizontal axis.

            - ``"passes"``: the number of passes over the data.
            - ``"seconds"``: the time since the fit began.

        y : {"gap", "objective", "excess"}, default="gap"
            What is on the vertical axis.

            - ``"gap"``: the relative duality gap, where there is one.
            - ``"objective"``: the value that is minimised.
            - ``"excess"``: the distance of the objective from the smallest one of all fits,
              relative to that.

        ax : matplotlib Axes, default=None
            Axes to draw on.  None makes a new figure.
        **line_kwargs
            Passed on to `matplotlib.axes.Axes.plot`.

        Returns
        -------
        self : ConvergenceDisplay
            The picture.
        """
        one_of("x", x, ("passes", "seconds"))
        one_of("y", y, ("gap", "objective", "excess"))
        ax = axes(ax, type(self).__name__)
        best = min(min(history["objective"]) for history in self.histories.values())
        self.lines_ = []
        for name, history in self.histories.items():
            values = np.asarray(history["relative_gap" if y == "gap" else "objective"], float)
            if y == "excess":
                values = (values - best) / max(abs(best), np.finfo(float).tiny)
            # A logarithm shows neither the end of an exact fit nor a gap that is not known.
            values = np.where(np.isfinite(values) & ((values > 0.0) | (y == "objective")), values,
                              np.nan)  # fmt: skip
            kwargs = {"marker": "o", "markersize": 3, "label": name, **line_kwargs}
            self.lines_ += ax.plot(history["n_rounds" if x == "passes" else x], values, **kwargs)
        if y != "objective":
            ax.set_yscale("log")
        ax.set(xlabel=_LABELS[x], ylabel=_LABELS[y])
        ax.legend()
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _name(estimator: Any) -> str:
    return str(getattr(estimator, "solver_", type(estimator).__name__))
