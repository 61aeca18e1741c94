"""Scores of many linear models on the rows held out, from as few passes as possible."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, is_classifier
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import get_scorer

from dask_dml.estimators.classifier import chosen_class
from dask_dml.passes.scores import (
    ClassCounts,
    Gathered,
    Models,
    ResidualSums,
    class_counts,
    gathered,
    residual_sums,
)

if TYPE_CHECKING:
    from dask_dml.passes.fold_rows import Fold

#: Predictions that the driver holds at a time, for scores that are no function of sums.
MAX_GATHERED = 1 << 26
#: Scores of one output alone.
_LARGEST = ("neg_max_error", "max_error")
#: Scorers that see how often which class is predicted for which.
_OF_COUNTS = (
    "accuracy",
    "balanced_accuracy",
    "matthews_corrcoef",
    *(
        f"{name}{average}"
        for name in ("f1", "precision", "recall", "jaccard")
        for average in ("", "_macro", "_micro", "_weighted")
    ),
)

Scores = dict[str, float]


@dataclass(frozen=True)
class Scoring:
    """The scorers of a search.

    Attributes
    ----------
    scorers : dict of str to callable
        By name; the name of a single one is "score".
    names : dict of str to str
        Scikit-learn's name of those that were given by it.
    single : bool
        Whether there is one only.
    free : bool
        Whether a callable was given, which may return one score or several.
    """

    scorers: dict[str, Callable[..., Any]]
    names: dict[str, str]
    single: bool
    free: bool = False

    @classmethod
    def of(cls, scoring: Any, estimator: Any) -> Scoring:
        """Return the scorers that ``scoring`` stands for, as in scikit-learn."""
        if scoring is None:
            if not hasattr(estimator, "score"):
                raise TypeError(
                    "If no scoring is specified, the estimator passed should have a 'score' "
                    f"method. The estimator {estimator!r} does not."
                )
            name = "accuracy" if is_classifier(estimator) else "r2"
            return cls({"score": _own_score}, {"score": name}, single=True)
        if callable(scoring):
            return cls({"score": scoring}, {}, single=True, free=True)
        if isinstance(scoring, str):
            return cls({"score": get_scorer(scoring)}, {"score": scoring}, single=True)
        if not isinstance(scoring, Mapping):
            listed = list(scoring)
            if not listed or len(set(listed)) < len(listed):
                raise ValueError(f"scoring must list different scorers, got {scoring!r}.")
            scoring = dict(zip(listed, listed, strict=True))
        if not scoring:
            raise ValueError(f"An empty dict was passed for scoring: {scoring!r}.")
        scorers = {
            name: get_scorer(given) if isinstance(given, str) else given
            for name, given in scoring.items()
        }
        names = {name: given for name, given in scoring.items() if isinstance(given, str)}
        return cls(scorers, names, single=False)

    def way(self, name: str, estimator: Any, n_outputs: int, *, own: bool) -> str:
        """Return from what a score is found: "residuals", "counts", "gathered" or "rows".

        ``own`` says whether `score` of the estimator is this package's.
        """
        known = self.names.get(name)
        if self.scorers[name] is _own_score and not own:
            return "rows"
        if not is_classifier(estimator):
            if known in _OF_RESIDUALS or (known in _LARGEST and n_outputs == 1):
                return "residuals"
        elif known in _OF_COUNTS:
            return "counts"
        # Scorers that scikit-learn makes look at predictions only; others may look at anything.
        return "gathered" if hasattr(self.scorers[name], "set_score_request") else "rows"


def call_scorer(
    scorer: Callable[..., Any], estimator: Any, given: Sequence[Any], options: Mapping[str, Any]
) -> Any:
    """Return what a scorer says, with weights where it takes them."""
    if not options:
        return scorer(estimator, *given)
    if not hasattr(scorer, "set_score_request") and scorer is not _own_score:
        known = inspect.signature(scorer).parameters
        options = {name: value for name, value in options.items() if name in known}
        return scorer(estimator, *given, **options)
    try:
        return scorer(estimator, *given, **options)
    except TypeError as error:
        if "sample_weight" not in str(error):
            raise
        warnings.warn(
            f"The scoring {scorer} does not support sample_weight: rows count the same.",
            UserWarning,
            stacklevel=2,
        )
        return scorer(estimator, *given)


def _own_score(estimator: Any, X: Any, y: Any = None, **params: Any) -> float:
    return float(estimator.score(X, y, **params))


class Judge:
    """Scores fitted estimators.

    Parameters
    ----------
    scoring : Scoring
        What is asked.
    labels : Labels or None
        How classes are held in the blocks.
    classes : ndarray or None
        All classes as the blocks hold them.
    n_outputs : int
        Columns of y.
    weighted : bool
        Whether the rows' weights count.
    on_error : callable
        Called with the exception where a scorer raises; returns the score.
    moments : bool, default=False
        Whether second moments that fits have collected are of rows that weigh as scores want it.
    """

    def __init__(
        self,
        scoring: Scoring,
        labels: Any,
        classes: np.ndarray | None,
        n_outputs: int,
        *,
        weighted: bool,
        on_error: Callable[[Exception], float],
        moments: bool = False,
    ) -> None:
        self.scoring = scoring
        self.labels = labels
        self.classes = classes
        self.decoded = None if classes is None else labels.decode(classes)
        self.n_outputs = n_outputs
        self.weighted = weighted
        self.on_error = on_error
        self.moments = moments

    def score(
        self, shared: Any, asked: Sequence[tuple[Fold | None, Sequence[Any]]], names: Sequence[str]
    ) -> list[list[Scores]]:
        """Return the scores of each fold's models, by name.

        Parameters
        ----------
        shared : SharedRounds
            The data.
        asked : sequence of (Fold or None, sequence of estimators)
            Rows, and the models to score on them.
        names : sequence of str
            The scores that are functions of sums or of predictions.
        """
        found: list[list[Scores]] = [[{} for _ in models] for _, models in asked]
        if not names:
            return found
        example = next(models[0] for _, models in asked if len(models))
        ways = {n: self.scoring.way(n, example, self.n_outputs, own=True) for n in names}
        for way, function in (("residuals", residual_sums), ("counts", class_counts)):
            chosen = [name for name in names if ways[name] == way]
            if chosen:
                self._from_sums(shared, asked, chosen, function, found)
        chosen = [name for name in names if ways[name] == "gathered"]
        if chosen:
            self._from_predictions(shared, asked, chosen, found)
        return found

    def _models(self, models: Sequence[Any]) -> Models:
        coef, intercept = zip(*(model._model() for model in models), strict=True)
        known = None
        if self.decoded is not None:
            known = np.searchsorted(self.decoded, models[0].classes_)
        return Models(
            np.concatenate(coef),
            np.concatenate(intercept),
            len(coef[0]),
            self.weighted,
            self.classes,
            known,
        )

    def _from_sums(
        self, shared: Any, asked: Any, names: Sequence[str], function: Any, found: Any
    ) -> None:
        wanted = [(number, fold, models) for number, (fold, models) in enumerate(asked) if models]
        told = [self._models(models) for _, _, models in wanted]
        sums: list[Any] = [None] * len(wanted)
        if self.moments and {self.scoring.names[name] for name in names} <= set(_OF_SQUARES):
            # Numba is loaded at the first fit: importing the package stays quick.
            from dask_dml.model_selection.moment_scores import sums_of_moments

            sums = [
                sums_of_moments(shared, fold, models)
                for (_, fold, _), models in zip(wanted, told, strict=True)
            ]
        left = [place for place, found_already in enumerate(sums) if found_already is None]
        if left:
            visited = shared.sums([(wanted[n][1], function, told[n]) for n in left])
            for place, total in zip(left, visited, strict=True):
                sums[place] = total
        for (number, _, models), total in zip(wanted, sums, strict=True):
            for position, model in enumerate(models):
                for name in names:
                    found[number][position][name] = self._guarded(
                        self._of_residuals if function is residual_sums else self._of_counts,
                        name, model, total, position,
                    )  # fmt: skip

    def _guarded(self, score: Callable[..., float], *arguments: Any) -> float:
        try:
            return float(score(*arguments))
        except Exception as error:
            return self.on_error(error)

    def _of_residuals(self, name: str, _: Any, sums: ResidualSums, position: int) -> float:
        return _OF_RESIDUALS_AND_LARGEST[self.scoring.names[name]](sums, position)

    def _of_counts(self, name: str, model: Any, sums: ClassCounts, position: int) -> float:
        assert self.decoded is not None
        counts = sums.counts[position]
        if self.scoring.names[name] == "accuracy" and counts.sum() > 0.0:
            # The default is not worth the milliseconds that a scorer takes to look at its input.
            return float(np.trace(counts) / counts.sum())
        true, predicted = np.nonzero(counts)
        stub = _Classifier(self.decoded[predicted], None, model.classes_)
        scorer = get_scorer(self.scoring.names[name])
        weight = counts[true, predicted]
        return float(scorer(stub, _no_columns(true), self.decoded[true], sample_weight=weight))

    def _from_predictions(self, shared: Any, asked: Any, names: Sequence[str], found: Any) -> None:
        n_rows = max(sum(shared.rounds.shard_rows), 1)
        width = max(len(model._model()[1]) for _, models in asked for model in models)
        step = max(MAX_GATHERED // (n_rows * width), 1)
        longest = max(len(models) for _, models in asked)
        for first in range(0, longest, step):
            some = [
                (number, fold, models[first : first + step])
                for number, (fold, models) in enumerate(asked)
                if len(models) > first
            ]
            all_rows = shared.sums([(fold, gathered, self._models(m)) for _, fold, m in some])
            for (number, _, models), rows in zip(some, all_rows, strict=True):
                self._score_gathered(rows, models, names, found[number][first : first + step])

    def _score_gathered(
        self, rows: Gathered, models: Sequence[Any], names: Sequence[str], found: Sequence[Scores]
    ) -> None:
        y, weight, values = (np.concatenate(part) for part in (rows.y, rows.weight, rows.values))
        target: np.ndarray = y[:, 0] if y.shape[1] == 1 else y
        if self.decoded is not None and self.classes is not None:
            target = self.decoded[np.searchsorted(self.classes, target)]
        options = {"sample_weight": weight} if self.weighted else {}
        per_model = values.shape[1] // len(models)
        for position, model in enumerate(models):
            own = values[:, position * per_model : (position + 1) * per_model]
            own = own[:, 0] if per_model == 1 else own
            stub: Any = _Regressor(own)
            if self.decoded is not None:
                stub = _Classifier(None, own, model.classes_)
            for name in names:
                found[position][name] = self._guarded(
                    call_scorer, self.scoring.scorers[name], stub, (_no_columns(y), target), options
                )


def _no_columns(rows: np.ndarray) -> np.ndarray:
    return np.empty((len(rows), 0))


class _Regressor(RegressorMixin, BaseEstimator):
    """Stands for a regressor whose predictions are known."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def predict(self, X: Any) -> np.ndarray:  # noqa: ARG002 - of any rows
        return self.values


class _Classifier(ClassifierMixin, BaseEstimator):
    """Stands for a classifier whose predictions or decisions are known."""

    def __init__(
        self, predicted: np.ndarray | None, decided: np.ndarray | None, classes_: np.ndarray
    ) -> None:
        self.predicted, self.decided, self.classes_ = predicted, decided, classes_

    def predict(self, X: Any) -> np.ndarray:  # noqa: ARG002 - of any rows
        if self.predicted is not None:
            return self.predicted
        assert self.decided is not None
        return chosen_class(self.decided, self.classes_)

    def decision_function(self, X: Any) -> np.ndarray:  # noqa: ARG002 - of any rows
        assert self.decided is not None
        return self.decided


# --- Scores from sums of residuals -------------------------------------------------------------


def _squares(sums: ResidualSums, n: int) -> np.ndarray:
    if not sums.weight > 0.0:
        raise ZeroDivisionError("Weights sum to zero, can't be normalized")
    return np.asarray(sums.square[n] / sums.weight + sums.bias[n] ** 2)


def _r2(sums: ResidualSums, n: int) -> float:
    if sums.n_rows < 2:
        warnings.warn(
            "R^2 score is not well-defined with less than two samples.",
            UndefinedMetricWarning,
            stacklevel=2,
        )
        return float("nan")
    return _explained(sums.square[n] + sums.weight * sums.bias[n] ** 2, sums.spread)


def _explained(left: np.ndarray, spread: np.ndarray) -> float:
    constant = spread == 0.0
    scores = 1.0 - left / np.where(constant, 1.0, spread)
    scores[constant] = left[constant] == 0.0
    return float(scores.mean())


#: Scores that sums of squares are enough for.
_OF_SQUARES: dict[str, Callable[[ResidualSums, int], float]] = {
    "r2": _r2,
    "explained_variance": lambda sums, n: _explained(sums.square[n], sums.spread),
    "neg_mean_squared_error": lambda sums, n: -float(_squares(sums, n).mean()),
    "neg_root_mean_squared_error": lambda sums, n: -float(np.sqrt(_squares(sums, n)).mean()),
}
_OF_RESIDUALS = {
    **_OF_SQUARES,
    "neg_mean_absolute_error": lambda sums, n: -float((sums.absolute[n] / sums.weight).mean()),
}
_OF_RESIDUALS_AND_LARGEST = {
    **_OF_RESIDUALS,
    **{name: lambda sums, n: -float(sums.largest[n].max()) for name in _LARGEST},
}
