"""Scores of a search against the parameters that it tried."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from dask_dml.display.axes import axes


class CVCurveDisplay:
    """Scores of a cross-validated search against one parameter, with the spread of the folds.

    Make one by `from_estimator`.

    Parameters
    ----------
    values : ndarray of shape (n_values,)
        Values of the parameter.
    scores : mapping of str to ndarray of shape (n_values, n_folds)
        Scores on the test rows: one curve for each value of a second parameter.
    parameter : str
        Name of the parameter.
    score_name : str
        Name of the score.
    greater_is_better : bool, default=True
        Whether high scores are good.
    chosen : float or None, default=None
        The value that the search chose, which is marked.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes.
    figure_ : matplotlib Figure
        The figure.
    lines_ : list of matplotlib Line2D
        One for each curve.
    best_ : tuple of (str, float, float, float)
        Name of the curve with the best mean score, the value of the parameter there, the score,
        and its standard error over the folds.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from dask_dml import DistributedGDRegressorCV
    >>> from dask_dml.display import CVCurveDisplay
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = DistributedGDRegressorCV(alphas=20).fit(X, y)
    >>> CVCurveDisplay.from_estimator(model, plot=False).values.shape
    (20,)
    """

    def __init__(
        self,
        values: np.ndarray,
        scores: Mapping[str, np.ndarray],
        *,
        parameter: str,
        score_name: str,
        greater_is_better: bool = True,
        chosen: float | None = None,
    ) -> None:
        self.values = np.asarray(values)
        self.scores = scores
        self.parameter, self.score_name = parameter, score_name
        self.greater_is_better = greater_is_better
        self.chosen = chosen

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        metric: str = "score",
        ax: Any = None,
        plot: bool = True,
        **line_kwargs: Any,
    ) -> Self:
        """Make a picture of a fitted search.

        Parameters
        ----------
        estimator : DistributedGDRegressorCV, GridSearchCV, RandomizedSearchCV or the like
            A fitted search over one or two parameters.  The first numeric one is on the axis, and
            the other one names the curves.
        metric : str, default="score"
            Name of the metric, if the search has several.
        ax, **line_kwargs
            As for `plot`.
        plot : bool, default=True
            Whether to draw at once.

        Returns
        -------
        display : CVCurveDisplay
            The picture.

        Raises
        ------
        NotFittedError
            If the search has not been fitted.
        ValueError
            If the search has another number of parameters, no numeric one, or no such metric.
        """
        check_is_fitted(estimator)
        display = _of_penalties(cls, estimator) if hasattr(estimator, "mse_path_") else None
        if display is None:
            display = _of_results(cls, estimator.cv_results_, metric, estimator)
        return display.plot(ax=ax, **line_kwargs) if plot else display

    def plot(self, *, ax: Any = None, **line_kwargs: Any) -> Self:
        """Draw the picture.

        Bands show one standard deviation of the folds on both sides.  Vertical lines are at the
        best mean score and at the chosen value.  The horizontal line is one standard error from
        the best mean score.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on.  None makes a new figure.
        **line_kwargs
            Passed on to `matplotlib.axes.Axes.plot`.

        Returns
        -------
        self : CVCurveDisplay
            The picture.
        """
        ax = axes(ax, type(self).__name__)
        self.lines_ = []
        order = np.argsort(self.values)
        x = self.values[order]
        for name, folds in self.scores.items():
            mean, spread = folds[order].mean(axis=1), folds[order].std(axis=1)
            kwargs = {"label": name, "marker": "o", "markersize": 3, **line_kwargs}
            (line,) = ax.plot(x, mean, **kwargs)
            ax.fill_between(x, mean - spread, mean + spread, color=line.get_color(), alpha=0.15)
            self.lines_.append(line)
        self.best_ = self._best()
        _, at, score, error = self.best_
        ax.axvline(at, color="0.3", linestyle=":", label=f"best: {at:.3g}")
        if self.chosen is not None and self.chosen != at:
            ax.axvline(self.chosen, color="0.3", linestyle="--", label=f"chosen: {self.chosen:.3g}")
        border = score - error if self.greater_is_better else score + error
        ax.axhline(border, color="0.7", linewidth=0.8, label="one standard error")
        if x[0] > 0.0 and x[-1] > 20.0 * x[0]:
            ax.set_xscale("log")
        ax.set(xlabel=self.parameter, ylabel=self.score_name)
        ax.legend(fontsize="small")
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _best(self) -> tuple[str, float, float, float]:
        sign = 1.0 if self.greater_is_better else -1.0
        found = []
        for name, folds in self.scores.items():
            mean = sign * folds.mean(axis=1)
            at = int(np.nanargmax(mean))
            n_folds = folds.shape[1]
            error = folds[at].std(ddof=1) / np.sqrt(n_folds) if n_folds > 1 else 0.0
            found.append((float(mean[at]), name, float(self.values[at]), float(error)))
        score, name, value, error = max(found)
        return name, value, sign * score, error


def _of_penalties(cls: Any, estimator: Any) -> Any:
    """Return the picture of a `DistributedGDRegressorCV`."""
    errors, alphas = np.asarray(estimator.mse_path_), np.asarray(estimator.alphas_)
    if alphas.ndim == 2:
        raise ValueError(
            "Every l1_ratio has alphas of its own here, which one axis cannot show. Give alphas as "
            "an array, or one l1_ratio."
        )
    ratios = np.atleast_1d(estimator.l1_ratio) if errors.ndim == 3 else [estimator.l1_ratio_]
    curves = errors if errors.ndim == 3 else errors[np.newaxis]
    return cls(
        alphas,
        {f"l1_ratio {ratio:g}": one for ratio, one in zip(ratios, curves, strict=True)},
        parameter="alpha",
        score_name="mean squared error",
        greater_is_better=False,
        chosen=float(estimator.alpha_),
    )


def _of_results(cls: Any, results: Mapping[str, Any], metric: str, estimator: Any) -> Any:
    """Return the picture of what a search of scikit-learn's, or one like it, has found."""
    names = {
        key.removeprefix("param_"): list(values)
        for key, values in results.items()
        if key.startswith("param_")
    }
    varied = {name: given for name, given in names.items() if len(set(map(str, given))) > 1}
    numeric = [name for name, given in varied.items() if all(map(_is_number, given))]
    if len(varied) not in (1, 2) or not numeric:
        raise ValueError(
            f"A curve shows one or two parameters, one of them numeric; the search has tried "
            f"several values of {sorted(varied)}."
        )
    folds = [key for key in results if key.startswith("split") and key.endswith(f"_test_{metric}")]
    if not folds:
        known = sorted(key.removeprefix("mean_test_") for key in results if "mean_test_" in key)
        raise ValueError(f"The search has no metric {metric!r}, only {known}.")
    name = numeric[0]
    others = [str(one) for one in _other(varied, name) or [""] * len(varied[name])]
    scores = np.array([results[key] for key in folds]).T
    values = np.unique(np.asarray(varied[name], dtype=float))
    curves = {}
    for other in dict.fromkeys(others):
        curve = np.full((len(values), len(folds)), np.nan)
        for row, (value, one) in enumerate(zip(varied[name], others, strict=True)):
            if one == other:
                curve[np.searchsorted(values, float(value))] = scores[row]
        label = " ".join([*(set(varied) - {name}), other]) or f"mean of {len(folds)} folds"
        curves[label] = curve
    best = getattr(estimator, "best_params_", {}).get(name)
    return cls(
        values,
        curves,
        parameter=name.split("__")[-1],
        score_name=metric,
        chosen=None if best is None else float(best),
    )


def _other(varied: Mapping[str, list[Any]], name: str) -> list[Any] | None:
    return next((given for one, given in varied.items() if one != name), None)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, (bool, np.bool_))
