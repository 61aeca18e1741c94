"""Metrics of lazy targets and predictions against scikit-learn's of those in memory."""

import warnings
from functools import partial

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import sklearn.metrics
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.model_selection import GridSearchCV, cross_validate

from dask_dml import DistributedGDRegressor, DistributedLinearSVC, metrics

N = 120
rng = np.random.default_rng(5)
Y = rng.normal(size=(N, 3)) * [1.0, 1e-3, 1e4] + [0.0, 5.0, 1e9]
P = Y + rng.normal(size=(N, 3)) * [0.5, 1e-4, 1e3]
LABELS = rng.integers(0, 2, N)
GUESSES = np.where(rng.random(N) < 0.3, 1 - LABELS, LABELS)
SCORES = (LABELS + rng.normal(size=N)).round(1)  # with ties
CLASSES = rng.choice([3, 5, 9], N)
CLASS_GUESSES = np.where(rng.random(N) < 0.4, rng.choice([3, 5, 9], N), CLASSES)
WORDS, WORD_GUESSES = (np.array(["a", "bc", "d"])[y // 4] for y in (CLASSES, CLASS_GUESSES))
DECISIONS = rng.normal(size=(N, 3)) + (CLASSES[:, None] == [3, 5, 9])
PROBA = np.exp(DECISIONS) / np.exp(DECISIONS).sum(axis=1, keepdims=True)
MULTILABEL = (rng.random((N, 3)) < 0.4).astype(int)
WEIGHT = np.where(rng.random(N) < 0.2, 0.0, 10.0 ** rng.uniform(-6, 6, N))

MANY = [{}, {"multioutput": "raw_values"}, {"multioutput": [0.5, 1.0, 2.0]}]
AVERAGES = [{"average": average} for average in ("micro", "macro", "weighted", None)]
CASES = [
    *(
        (name, parameters, y, p)
        for name in ("r2_score", "mean_squared_error", "root_mean_squared_error",
                     "mean_absolute_error", "mean_pinball_loss")
        for y, p, many in ((Y, P, MANY), (Y[:, 0], P[:, 0], [{}]))
        for parameters in many
    ),
    ("mean_pinball_loss", {"alpha": 0.9}, Y, P),
    ("r2_score", {"multioutput": "variance_weighted"}, Y, P),
    ("r2_score", {"force_finite": False}, Y[:, 0], P[:, 0]),
    ("r2_score", {}, np.ones(N), P[:, 0]),
    ("r2_score", {}, np.ones(N), np.ones(N)),
    ("max_error", {}, Y[:, 0], P[:, 0]),
    *(
        ("accuracy_score", parameters, y, p)
        for parameters in ({}, {"normalize": False})
        for y, p in ((LABELS, GUESSES), (WORDS, WORD_GUESSES), (MULTILABEL, MULTILABEL[::-1]))
    ),
    ("balanced_accuracy_score", {"adjusted": True}, CLASSES, CLASS_GUESSES),
    *(
        ("confusion_matrix", parameters, WORDS, WORD_GUESSES)
        for parameters in ({}, {"labels": ["d", "a"]}, {"normalize": "true"})
    ),
    *(
        (name, parameters, y, p)
        for name in ("precision_score", "recall_score", "f1_score")
        for y, p, some in (
            (LABELS, GUESSES, [{}, {"pos_label": 0}]),
            (WORDS, WORD_GUESSES, AVERAGES),
            (CLASSES, np.full(N, 3), [{"average": "macro", "zero_division": 1.0}]),
            (MULTILABEL, MULTILABEL[::-1], [{"average": "samples", "zero_division": 0.0}]),
        )
        for parameters in some
    ),
    ("roc_auc_score", {}, LABELS, SCORES),
    ("roc_auc_score", {"max_fpr": 0.3}, LABELS, rng.normal(size=N)),
    *(
        ("roc_auc_score", {"multi_class": how, "average": average}, CLASSES, PROBA)
        for how in ("ovr", "ovo")
        for average in ("macro", "weighted")
    ),
    ("roc_auc_score", {"multi_class": "ovr", "average": None, "labels": ["a", "bc", "d"]},
     WORDS, PROBA),
    ("roc_auc_score", {"average": "micro"}, MULTILABEL, PROBA),
    ("average_precision_score", {}, LABELS, SCORES),
    ("average_precision_score", {"pos_label": "x"}, np.array(["o", "x"])[LABELS], SCORES),
    ("log_loss", {}, LABELS, PROBA[:, 0]),
    ("log_loss", {"normalize": False}, CLASSES, PROBA),
    ("log_loss", {"labels": ["a", "bc", "d"]}, np.full(N, "d"), PROBA),
    ("log_loss", {}, LABELS, np.clip(SCORES, 0, 1)),
    ("log_loss", {}, CLASSES, PROBA.astype(np.float32)),
    ("hinge_loss", {}, LABELS, SCORES),
    ("hinge_loss", {}, np.where(LABELS, 7, 2), SCORES),
    ("hinge_loss", {}, WORDS, DECISIONS),
    ("hinge_loss", {"labels": [3, 5, 9]}, np.full(N, 9), DECISIONS),
]  # fmt: skip


@pytest.fixture(autouse=True)
def scheduler():
    with dask.config.set(scheduler="synchronous"):
        yield


def lazily(array, rows):
    return da.from_array(array, chunks=(rows, *array.shape[1:]))


def unknown(array):
    sizes = (np.nan,) * array.numblocks[0]
    return array.map_blocks(np.copy, chunks=(sizes, *array.chunks[1:]), dtype=array.dtype)


def series(array, n):
    frame = pd.DataFrame(array) if array.ndim == 2 else pd.Series(array)
    return dd.from_pandas(frame, npartitions=n)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("name", "parameters", "y", "p"), CASES)
def test_every_container_gives_scikit_learns_number(name, parameters, y, p, weighted):
    if weighted and (name == "max_error" or parameters.get("multi_class") == "ovo"):
        return  # take no weights
    metric = partial(getattr(metrics, name), **parameters)
    truth = partial(getattr(sklearn.metrics, name), **parameters)
    given = {"sample_weight": WEIGHT} if weighted else {}
    want = truth(y, p, **given)
    tall = (50, 0, 1, N - 51)
    lazy = {"sample_weight": lazily(WEIGHT, tall)} if weighted else {}
    here = (y, p, given)
    for one, other, weights in (
        here,
        (lazily(y, tall), lazily(p, tall), lazy),
        (lazily(y, 30), lazily(p, 50), given),
        (unknown(lazily(y, 40)), unknown(lazily(p, 40)), given),
        (y, lazily(p, 45), lazy),
        (series(y, 3), p, lazy),
        (series(y, 3), series(p, 3), {k: series(w, 3) for k, w in given.items()}),
    ):
        got = metric(one, other, **weights)
        assert np.shape(got) == np.shape(want)
        np.testing.assert_allclose(got, want, rtol=1e-11 if p.dtype != np.float32 else 1e-6)
    assert got.dtype == want.dtype if name == "confusion_matrix" else True


def test_weights_count_rows():
    counts = rng.integers(0, 3, N)
    for name, y, p in (("r2_score", Y, P), ("roc_auc_score", LABELS, SCORES)):
        metric = getattr(metrics, name)
        weighted = metric(lazily(y, 50), lazily(p, 50), sample_weight=counts)
        repeated = metric(lazily(np.repeat(y, counts, 0), 70), np.repeat(p, counts, 0))
        assert weighted == pytest.approx(repeated, rel=1e-12)


def test_one_pass_and_nothing_left(client):
    def read(block):
        import distributed

        distributed.get_worker().log_event("reads-of-y", len(block))
        return block

    y = lazily(LABELS, 40).map_blocks(read, dtype=int, meta=np.empty(0, int))
    n_before = len(client.get_events("reads-of-y"))
    names = ["r2_score", "f1_score", "roc_auc_score", "log_loss", "mean_squared_error"]
    for name in names:
        p = PROBA[:, 0] if name != "f1_score" else GUESSES
        getattr(metrics, name)(y, lazily(p, 40))
    assert len(client.get_events("reads-of-y")) - n_before == 3 * len(names)
    assert not any(client.has_what().values())


def test_what_cannot_be_is_said():
    y, p = lazily(LABELS, 50), lazily(GUESSES, 50)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        metrics.r2_score(y, p[:-1])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        metrics.f1_score(unknown(y), unknown(lazily(GUESSES[:-2], 50)))
    with pytest.raises(ValueError, match="different number of output"):
        metrics.mean_squared_error(lazily(Y, 50), lazily(P[:, :2], 50))
    with pytest.raises(ValueError, match="multiclass but average='binary'"):
        metrics.f1_score(lazily(CLASSES, 50), CLASS_GUESSES)
    with pytest.raises(ValueError, match=r"mix of binary and continuous|continuous is not"):
        metrics.accuracy_score(y, lazily(SCORES, 50))
    with pytest.raises(ValueError, match="only one label"):
        metrics.log_loss(lazily(np.ones(N), 50), PROBA[:, 0])
    with pytest.raises(ValueError, match="3 columns, but there are 2 labels"):
        metrics.log_loss(y, PROBA)
    with pytest.raises(ValueError, match="outside of"):
        metrics.log_loss(y, SCORES)
    with pytest.raises(ValueError, match="Allowed 'multioutput'"):
        metrics.mean_squared_error(y, p, multioutput="mean")
    with pytest.warns(UndefinedMetricWarning, match="not well-defined"):
        assert np.isnan(metrics.r2_score(da.ones(1), da.ones(1)))
    with warnings.catch_warnings(), pytest.raises(ValueError, match="not a valid scoring"):
        metrics.get_scorer("r3")


def test_scorers_in_searches():
    X = rng.normal(size=(N, 2))
    y = X @ [1.0, 2.0] + 0.1 * rng.normal(size=N)
    lazy = lazily(X, 40)
    names = ["r2", "neg_mean_squared_error", "neg_max_error"]
    scores = cross_validate(
        DistributedGDRegressor(), lazy, y, cv=3, scoring={n: metrics.get_scorer(n) for n in names}
    )
    truth = cross_validate(DistributedGDRegressor(), X, y, cv=3, scoring=names)
    for name in names:
        np.testing.assert_allclose(scores[f"test_{name}"], truth[f"test_{name}"], rtol=1e-8)
    labels = (y > 0).astype(int)
    for name in ("f1_macro", "roc_auc", "average_precision", "balanced_accuracy"):
        search = GridSearchCV(
            DistributedLinearSVC(), {"C": [0.01, 1.0]}, scoring=metrics.get_scorer(name), cv=2
        ).fit(lazy, labels)
        truth = GridSearchCV(
            DistributedLinearSVC(), {"C": [0.01, 1.0]}, scoring=name, cv=2
        ).fit(X, labels)  # fmt: skip
        np.testing.assert_allclose(
            search.cv_results_["mean_test_score"], truth.cv_results_["mean_test_score"], atol=1e-3
        )
