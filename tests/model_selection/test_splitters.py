"""Splitters without index arrays: sizes, chance, chunkings, and scikit-learn's own folds."""

import itertools

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone, is_regressor
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    ShuffleSplit,
    StratifiedKFold,
    TimeSeriesSplit,
    cross_val_score,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from dask_dml import DistributedGDRegressor, DistributedLinearSVC
from dask_dml import model_selection as ours
from dask_dml.model_selection.folds import make_folds
from dask_dml.passes.divisions import (
    ByClass,
    ClassPieces,
    Cut,
    Listed,
    Runs,
    Shuffled,
    permuted,
)

RNG = np.random.default_rng(6)
N = 143
X = RNG.normal(size=(N, 3))
Y = X @ [1.0, -2.0, 0.5] + RNG.normal(size=N)
LABELS = np.array(["c", "a", "b"])[np.digitize(Y, [-1.0, 1.5])]


def as_sets(splits):
    return [(train.tolist(), test.tolist()) for train, test in splits]


@pytest.mark.parametrize("n", [1, 2, 3, 10, 1000, 4097])
def test_permutations_are_permutations(n):
    for seed in range(5):
        np.testing.assert_array_equal(np.sort(permuted(np.arange(n), n, seed)), np.arange(n))


def test_permutations_are_as_chance_has_it():
    # Pairs of folds of 400 pairs of seeds, and where each row goes: chi-squared of 16 and 80.
    pairs, rows = np.zeros((5, 5)), np.zeros((20, 5))
    for seed in range(400):
        one, two = (Shuffled(20, 5, 2 * seed + which).parts(0, 20) for which in (0, 1))
        np.add.at(pairs, (one, two), 1)
        rows[np.arange(20), one] += 1
    for found, degrees in ((pairs, 16), (rows, 80)):
        expected = found.sum() / found.size
        assert ((found - expected) ** 2 / expected).sum() < degrees + 4 * np.sqrt(2 * degrees)


def test_folds_are_scikit_learns():
    for cv, twin in (
        (ours.DistributedKFold(4), KFold(4)),
        (ours.DistributedStratifiedKFold(5), StratifiedKFold(5)),
    ):
        assert as_sets(cv.split(X, LABELS)) == as_sets(twin.split(X, LABELS))
        assert cv.get_n_splits() == twin.get_n_splits()


@pytest.mark.parametrize(
    "cv",
    [
        TimeSeriesSplit(4),
        TimeSeriesSplit(3, gap=2),
        TimeSeriesSplit(5, max_train_size=20, test_size=7, gap=1),
    ],
    ids=str,
)
def test_time_series_need_one_division(cv):
    divisions, splits = make_folds(cv, N)
    assert isinstance(divisions[0], Cut)
    parts = divisions[0].parts(0, N)
    found = [
        (np.flatnonzero(np.isin(parts, s.train)), np.flatnonzero(np.isin(parts, s.test)))
        for s in splits
    ]
    assert as_sets(found) == as_sets(cv.split(X))
    own = ours.DistributedTimeSeriesSplit(
        cv.n_splits, max_train_size=cv.max_train_size, test_size=cv.test_size, gap=cv.gap
    )
    assert as_sets(own.split(X)) == as_sets(cv.split(X))


@pytest.mark.parametrize(
    "cv",
    [
        ours.DistributedKFold(4, shuffle=True, random_state=0),
        ours.DistributedRepeatedKFold(n_splits=3, n_repeats=2, random_state=0),
        ours.DistributedStratifiedKFold(4, shuffle=True, random_state=0),
    ],
    ids=lambda cv: type(cv).__name__,
)
def test_shuffled_folds(cv):
    splits = list(cv.split(X, LABELS))
    assert as_sets(splits) == as_sets(clone(cv).split(X, LABELS))
    assert len(splits) == cv.get_n_splits()
    other = clone(cv).set_params(random_state=1)
    assert as_sets(splits) != as_sets(other.split(X, LABELS))
    for train, test in splits:
        np.testing.assert_array_equal(np.sort(np.concatenate([train, test])), np.arange(N))
        assert len(test) in (N // cv.n_splits, N // cv.n_splits + 1)
        if "Stratified" in type(cv).__name__:
            for label in np.unique(LABELS):
                share = np.count_nonzero(label == LABELS) / cv.n_splits
                assert abs((LABELS[test] == label).sum() - share) < 1
    first = np.concatenate([test for _, test in splits[: cv.n_splits]])
    np.testing.assert_array_equal(np.sort(first), np.arange(N))


@pytest.mark.parametrize(
    "sizes",
    [{}, {"test_size": 0.3}, {"train_size": 50}, {"test_size": 10, "train_size": 0.5}],
    ids=str,
)
def test_drawn_rows(sizes):
    cv = ours.DistributedShuffleSplit(60, random_state=0, **sizes)
    splits = list(cv.split(X))
    assert as_sets(splits) == as_sets(clone(cv).split(X))
    twin = [(len(train), len(test)) for train, test in ShuffleSplit(60, **sizes).split(X)]
    assert [(len(train), len(test)) for train, test in splits] == twin
    assert all(not set(train) & set(test) for train, test in splits)
    # How often a row is held out, over the splits: chi-squared with so many degrees.
    counts = np.bincount(np.concatenate([test for _, test in splits]), minlength=N)
    share = len(splits[0][1]) / N
    assert ((counts - 60 * share) ** 2 / (60 * share * (1.0 - share))).sum() < N + 5 * np.sqrt(
        2 * N
    )


def chunked(array, sizes):
    return da.from_array(array, chunks=(sizes, *array.shape[1:]))


@pytest.mark.parametrize(
    ("cv", "model", "y"),
    [
        (ours.DistributedKFold(4, shuffle=True, random_state=0), DistributedGDRegressor(), Y),
        (
            ours.DistributedRepeatedKFold(n_splits=3, n_repeats=2, random_state=0),
            DistributedGDRegressor("huber"),
            Y,
        ),
        (
            ours.DistributedShuffleSplit(3, test_size=0.2, train_size=0.5, random_state=0),
            DistributedGDRegressor(),
            Y,
        ),
        (TimeSeriesSplit(3), DistributedGDRegressor(), Y),
        (
            ours.DistributedTimeSeriesSplit(3, max_train_size=40, test_size=20, gap=2),
            DistributedGDRegressor(),
            Y,
        ),
        (3, DistributedLinearSVC(), LABELS),
        (ours.DistributedStratifiedKFold(4, shuffle=True, random_state=0), DistributedLinearSVC(),
         LABELS),
    ],
    ids=["shuffled", "repeated", "drawn", "time-series", "own-time-series", "int-classes",
         "shuffled-classes"],
)  # fmt: skip
def test_the_same_folds_for_every_chunking(cv, model, y):
    expected = cross_val_score(model, X, y, cv=cv)
    np.testing.assert_allclose(ours.cross_val_score(model, X, y, cv=cv), expected, rtol=1e-6)
    codes = np.unique(y, return_inverse=True)[1].astype(float) if y is LABELS else y
    for sizes in ((N,), (50, 0, 60, 33), (20,) * 7 + (3,)):
        for unknown in (False, True):
            table = chunked(X, sizes)
            table = table[da.ones(N, dtype=bool, chunks=(sizes,))] if unknown else table
            found = ours.cross_val_score(model, table, chunked(codes, sizes), cv=cv)
            np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_scikit_learns_searches_take_them():
    cv = ours.DistributedStratifiedKFold(3, shuffle=True, random_state=2)
    theirs = GridSearchCV(DistributedLinearSVC(), {"C": [0.01, 1.0]}, cv=cv).fit(X, LABELS)
    found = ours.DistributedGridSearchCV(DistributedLinearSVC(), {"C": [0.01, 1.0]}, cv=cv)
    scores = found.fit(X, LABELS).cv_results_["mean_test_score"]
    np.testing.assert_allclose(scores, theirs.cv_results_["mean_test_score"])
    assert sum(len(test) for _, test in cv.split(chunked(X, (N,)), LABELS)) == N


def test_labels_stay_where_they_are():
    """Classes are dealt out from counts, in whatever runs of rows they come."""
    bounds = [0, 30, 31, 90, N]
    pieces = ClassPieces({})
    for start, stop in itertools.pairwise(bounds):
        pieces += ClassPieces.of(LABELS[start:stop], (7, start))
    cv = ours.DistributedStratifiedKFold(4, shuffle=True, random_state=3)
    (division,), _ = cv.divide(N, lambda: pieces)
    assert isinstance(division, ByClass)
    parts = [
        division.of_labels(LABELS[start:stop], (7, start))
        for start, stop in itertools.pairwise(bounds)
    ]
    whole = [np.flatnonzero(np.concatenate(parts) == part).tolist() for part in range(4)]
    assert whole == [test for _, test in as_sets(cv.split(X, LABELS))]


# No two groups have the same size: scikit-learn's releases differ in such ties.
NUMBERED = np.repeat(RNG.permutation(16), [*range(1, 16), 23])
NAMED = np.array(["north", "south", "east", "west"], dtype=object)[RNG.integers(4, size=N)]


@pytest.mark.parametrize("groups", [NUMBERED, NAMED], ids=["numbers-in-order", "names"])
@pytest.mark.parametrize("shuffle", [False, True])
def test_groups_are_kept_together(groups, shuffle):
    given = {"n_splits": 3, "shuffle": shuffle, "random_state": 3 if shuffle else None}
    cv, twin = ours.DistributedGroupKFold(**given), GroupKFold(**given)
    assert as_sets(cv.split(X, groups=groups)) == as_sets(twin.split(X, groups=groups))
    for sizes in ((N,), (50, 0, 60, 33), (20,) * 7 + (3,)):
        lazy = chunked(groups, sizes)
        assert as_sets(cv.split(X, groups=lazy)) == as_sets(twin.split(X, groups=groups))
    frame = dd.from_pandas(pd.Series(groups), npartitions=4)
    assert as_sets(cv.split(X, groups=frame)) == as_sets(twin.split(X, groups=groups))


@pytest.mark.parametrize(
    "model", [DistributedGDRegressor("huber"), DistributedLinearSVC()], ids=str
)
def test_searches_with_lazy_groups(model):
    """Folds of groups are the same in memory, in chunks, in pipelines and beside scikit-learn."""
    y = Y if is_regressor(model) else LABELS
    codes = y if is_regressor(model) else np.unique(y, return_inverse=True)[1].astype(float)
    expected = cross_val_score(model, X, y, cv=GroupKFold(3), groups=NUMBERED)
    piped = make_pipeline(FunctionTransformer(), model)
    for sizes in ((N,), (50, 0, 60, 33)):
        table, lazy = chunked(X, sizes), chunked(NUMBERED, sizes)
        for one in (model, piped):
            found = ours.cross_val_score(
                one, table, chunked(codes, sizes), cv=ours.DistributedGroupKFold(3), groups=lazy
            )
            np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_groups_in_order_take_little():
    groups = np.repeat(np.arange(50), 2000)
    lazy = da.from_array(groups, chunks=30_000)
    (division,), _ = ours.DistributedGroupKFold(4).divide(len(groups), groups=lazy)
    assert isinstance(division, Runs)
    assert len(division.first) < 60
    (mixed,), _ = ours.DistributedGroupKFold(4).divide(
        len(groups), groups=np.arange(len(groups)) % 50
    )
    assert isinstance(mixed, Listed)
    assert mixed.part.itemsize == 1


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (None, "should not be None"),
        (np.zeros(N), "number of groups: 1"),
        (NUMBERED[:-1], "inconsistent numbers of samples"),
        (np.where(NUMBERED == 3, np.nan, NUMBERED), "NaN in chunk 0"),
        (np.where(NAMED == "west", None, NAMED), "NaN in chunk 0"),
        (X, "one dimension"),
        (da.from_array(X), "one dimension"),
    ],
)
def test_bad_groups(groups, message):
    with pytest.raises(ValueError, match=message):
        list(ours.DistributedGroupKFold(3).split(X, groups=groups))


@pytest.mark.parametrize(
    ("cv", "y", "message"),
    [
        (ours.DistributedKFold(1), Y, "n_splits"),
        (ours.DistributedKFold(200), Y, "greater than the number"),
        (ours.DistributedStratifiedKFold(100), LABELS, "number of members in each class"),
        (ours.DistributedStratifiedKFold(3), None, "y is needed"),
        (ours.DistributedShuffleSplit(3, test_size=0.9, train_size=0.5), Y, "sum of test_size"),
        (ours.DistributedShuffleSplit(3, test_size=1.5), Y, "test_size"),
        (ours.DistributedTimeSeriesSplit(3, test_size=80), Y, "Too many splits=3"),
        (ours.DistributedTimeSeriesSplit(1), Y, "n_splits"),
        (ours.DistributedTimeSeriesSplit(3, gap=-1), Y, "gap"),
    ],
)
def test_bad_splitters(cv, y, message):
    with pytest.raises(ValueError, match=message):
        list(cv.split(X, y))
