"""Input as real tables bring it: mixed columns, words for targets, chunks that cost too much."""

import re
import warnings

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import EfficiencyWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from dask_dml import DistributedGDRegressor, DistributedLinearSVC, DistributedSGDRegressor
from dask_dml.preprocessing import DistributedStandardScaler

rng = np.random.default_rng(3)
N = 60
FRAME = pd.DataFrame(
    {
        "flag": rng.random(N) < 0.5,
        "count": rng.integers(0, 9, N),
        "level": rng.normal(size=N),
        "nullable": pd.array(rng.integers(0, 3, N), dtype="Int64"),
    }
)
Y = FRAME["level"] * 3.0 + FRAME["flag"] - FRAME["count"]


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch):
    monkeypatch.setattr("dask_dml.input.hints._said", set())


@pytest.fixture(autouse=True)
def scheduler():
    with dask.config.set(scheduler="synchronous"):
        yield


@pytest.mark.parametrize("columns", [["flag", "level"], ["count", "flag", "level", "nullable"]])
def test_mixed_columns_become_numbers(columns, client):
    """`to_dask_array` makes objects of a table of booleans and numbers."""
    mixed = dd.from_pandas(FRAME[columns], npartitions=3).to_dask_array(lengths=True)
    assert mixed.dtype == object
    numbers = FRAME[columns].astype(float).to_numpy()
    for model in (DistributedGDRegressor(), DistributedSGDRegressor(random_state=0)):
        mine = model.fit(mixed, Y.to_numpy(object))
        found = mine.coef_.copy(), mine.predict(mixed).compute(), mine.score(mixed, Y.to_numpy())
        rows = da.from_array(numbers, chunks=mixed.chunks)
        truth = model.fit(rows, Y.to_numpy())
        np.testing.assert_array_equal(found[0], truth.coef_)
        np.testing.assert_array_equal(found[1], truth.predict(rows).compute())
        assert found[2] == truth.score(rows, Y.to_numpy())
    target = da.from_array(Y.to_numpy(object), chunks=mixed.chunks[0])
    np.testing.assert_allclose(
        DistributedGDRegressor().fit(mixed, target, sample_weight=target * 0 + 1).coef_,
        DistributedGDRegressor().fit(numbers, Y).coef_,
        rtol=1e-8,
    )
    scaled = DistributedStandardScaler().fit_transform(mixed).compute()
    np.testing.assert_allclose(scaled, StandardScaler().fit_transform(numbers), atol=1e-12)


def test_what_is_no_number_is_named():
    table = FRAME[["level", "flag"]].to_numpy(object)
    table[47, 1] = "west"
    with pytest.raises(ValueError, match=r"float: 'west' \(X in chunk 2, row 7, column 1"):
        DistributedGDRegressor().fit(da.from_array(table, chunks=(20, 1)), Y.to_numpy())
    table[47, 1] = pd.NA
    with pytest.raises(ValueError, match=r"contains NaN: chunk 2, row 7.*column 1"):
        DistributedGDRegressor().fit(da.from_array(table, chunks=(20, 2)), Y.to_numpy())
    table[47, 1] = 1j
    with pytest.raises((TypeError, ValueError), match=r"complex|float"):
        DistributedGDRegressor().fit(da.from_array(table, chunks=(20, 2)), Y.to_numpy())


WORDS = np.where(FRAME["flag"], "yes", "no")
ROWS = FRAME[["level", "count"]].to_numpy(float)
TARGETS = {
    "array": lambda: da.from_array(WORDS, chunks=20),
    "objects": lambda: da.from_array(WORDS.astype(object), chunks=20),
    "series": lambda: dd.from_pandas(pd.Series(WORDS, name="answer"), npartitions=3),
    "category": lambda: dd.from_pandas(pd.Series(WORDS).astype("category"), npartitions=3),
    "in memory": WORDS.tolist,
}


@pytest.mark.parametrize("model", [DistributedGDRegressor(), DistributedSGDRegressor()])
@pytest.mark.parametrize("kind", TARGETS)
def test_words_as_targets_are_for_a_classifier(model, kind):
    before = dict(vars(model))
    for X in (da.from_array(ROWS, chunks=(20, 2)), ROWS):
        if isinstance(X, np.ndarray) and kind != "in memory":
            continue
        with pytest.raises((ValueError, TypeError), match="DistributedLinearSVC"):
            model.fit(X, TARGETS[kind]())
    assert vars(model) == before


def big(n_rows, n_features, chunks):
    return da.zeros((n_rows, n_features), chunks=chunks)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (big(10_000_000, 10, (2_500, 10)), r"4,000 blocks of 0.19 MiB.*\{0: 838860, 1: -1\}.* 12 "),
        (big(10_000_000, 10, (20_000, 5)), r"1,000 blocks of 0.76 MiB.*, 2 side by side"),
        (big(10_000_000, 40, (100_000, 4)), r"1,000 blocks of 3.1 MiB.*, 10 side by side"),
        (big(10_000_000, 40, (100_000, 40)), None),
        (big(500_000, 10, (1_000, 10)), None),
    ],
)
def test_blocks_that_cost_more_than_they_hold_are_counted(X, message):
    """The target has another length, so that nothing is computed."""
    model, y = DistributedGDRegressor(), np.zeros(3)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with pytest.raises(ValueError, match="inconsistent"):
            model.fit(X, y)
        with pytest.raises(ValueError, match="inconsistent"):
            model.fit(X, y)
    assert [one.category for one in said] == [EfficiencyWarning] * (message is not None)
    assert re.search(message or "", str([one.message for one in said]))


@pytest.mark.parametrize("model", [DistributedGDRegressor(), DistributedLinearSVC()])
def test_x_in_memory_beside_a_lazy_y_is_told_once(model):
    X, y = da.from_array(ROWS, chunks=(20, 2)), da.from_array(FRAME["flag"].astype(int), chunks=20)
    gathers = make_pipeline(StandardScaler(), model)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for _ in range(2):
            gathers.fit(X.compute(), y)
            gathers.score(X.compute(), y)
    said = [one for one in said if one.category is EfficiencyWarning]
    assert len(said) == 1
    assert "BlockwiseTransformer" in str(said[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_pipeline(DistributedStandardScaler(), model).fit(X, y)
