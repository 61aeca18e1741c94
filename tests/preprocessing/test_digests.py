"""Digests against the values themselves, however these are cut and added up."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dask_dml.preprocessing import digests
from dask_dml.preprocessing.digests import Counts, Extremes, Sketch, Within, neighbours


@pytest.fixture(autouse=True)
def small_sketches(monkeypatch):
    monkeypatch.setattr(digests, "CAPACITY", 12)


def cut(values, n_parts, seed):
    cuts = np.sort(np.random.default_rng(seed).integers(0, len(values) + 1, n_parts - 1))
    return np.split(values, cuts)


def summed(parts):
    """Add up in a tree, as a pass does."""
    parts = list(parts)
    while len(parts) > 1:
        parts = [sum(parts[at + 1 : at + 3], parts[at]) for at in range(0, len(parts), 3)]
    return parts[0]


VALUES = {
    "normal": lambda rng, n: rng.normal(size=n),
    "tied": lambda rng, n: rng.integers(0, 9, n).astype(float),
    "heavy": lambda rng, n: np.where(rng.random(n) < 0.8, 1.0, rng.normal(size=n)),
    "gaps": lambda rng, n: np.where(rng.random(n) < 0.5, np.nan, rng.normal(size=n)),
}


@settings(max_examples=20)
@given(n=st.integers(1, 400), n_parts=st.integers(1, 20), seed=st.integers(0, 99))
@pytest.mark.parametrize("kind", VALUES)
def test_brackets_hold_every_order_statistic(kind, n, n_parts, seed):
    values = VALUES[kind](np.random.default_rng(seed), n)
    sketch = summed(Sketch.of(part) for part in cut(values, n_parts, seed))
    order = np.sort(values[~np.isnan(values)])
    assert (sketch.n, sketch.n_missing) == (len(order), n - len(order))
    assert len(sketch.points) <= 12
    for rank in range(len(order)):
        low, high = sketch.bracket(rank)
        assert order[rank] == high if low == high else low < order[rank] <= high
        within = summed(Within.of(part, [(low, high)]) for part in cut(values, n_parts, seed + 1))
        if low < high:
            assert within.value(0, rank) == order[rank]


def test_brackets_are_narrow():
    """The stated share: (levels + 1) / capacity, twice, for both ends."""
    values = np.random.default_rng(0).permutation(50_000).astype(float)
    digests.CAPACITY = 512
    sketch = summed(Sketch.of(part) for part in np.array_split(values, 27))
    widths = [np.diff(sketch.bracket(rank))[0] for rank in range(0, 50_000, 499)]
    assert max(widths) <= 50_000 * 2 * 5 / (512 / 2)


def test_few_different_values_are_known_exactly():
    values = np.repeat(np.arange(10.0), [1, 50, 3, 200, 1, 1, 7, 90, 2, 45])
    sketch = summed(Sketch.of(part) for part in cut(values, 9, 5))
    assert all(sketch.bracket(r) == (v, v) for r, v in enumerate(values))


@pytest.mark.parametrize("value", [-1.0, 0.5, 2.0, 100.0])
def test_filling_in_is_the_same_as_a_digest_of_filled_values(value):
    values = np.array([2.0, np.nan, 0.0, np.nan, 1.0, 2.0])
    filled = np.where(np.isnan(values), value, values)
    mine, truth = Sketch.of(values).filled(value), Sketch.of(filled)
    for name, part in vars(truth).items():
        np.testing.assert_array_equal(getattr(mine, name), part)
    mine = Extremes.of(values[:, None]).filled(np.array([value]))
    assert (mine.low, mine.high) == (filled.min(), filled.max())
    assert Counts.of(values).filled(value, np.nan) == Counts.of(filled)


@pytest.mark.parametrize("q", [0.0, 0.1, 0.25, 0.5, 0.77, 1.0])
@pytest.mark.parametrize("n", [1, 2, 5, 10])
def test_quantiles_are_numpys(q, n):
    values = np.sort(np.random.default_rng(n).normal(size=n))
    low, high, share = neighbours(n, q)
    mine = digests.interpolate(values[low], values[high], share)
    assert mine == pytest.approx(np.percentile(values, 100 * q), rel=1e-14)


@pytest.mark.parametrize("n_parts", [1, 3, 9])
def test_counts_are_of_every_kind_of_value(n_parts):
    values = np.array(["a", None, np.nan, pd.NaT, pd.NA, "a", "b", 1, None, np.nan], object)
    counts = summed(Counts.of(part) for part in cut(values, n_parts, 3))
    assert counts.seen == {"a": 2, "b": 1, 1: 1}
    assert counts.missing == {"None": 2, "NaN": 2, "NaT": 1, "NA": 1}
    assert counts.n_rows == len(values)
    assert counts.count(float("nan")) == 2
    assert counts.without(None).missing == {"NaN": 2, "NaT": 1, "NA": 1}
    categorical = pd.Series(pd.Categorical(["x", None, "x"], categories=["y", "x"]))
    assert Counts.of(categorical) == Counts({"x": 2}, {"NaN": 1})
    assert Counts.of(pd.array([1, None], dtype="Int64").to_numpy(dtype=float, na_value=np.nan)) == (
        Counts.of(pd.Series([1, None], dtype="Int64"))
    )
