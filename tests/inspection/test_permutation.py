"""permutation_importance of lazy rows against scikit-learn's of the same rows."""

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.inspection import permutation_importance as truth_of
from sklearn.pipeline import make_pipeline

from dask_dml import DistributedGDRegressor, DistributedLinearSVC
from dask_dml.compose import make_distributed_column_transformer
from dask_dml.inspection import permutation_importance
from dask_dml.metrics import get_scorer
from dask_dml.preprocessing import DistributedOneHotEncoder, DistributedSimpleImputer

N = 3000
rng = np.random.default_rng(2)
FRAME = pd.DataFrame(
    {
        "level": rng.normal(size=N),
        "noise": rng.normal(size=N),
        "wind": rng.choice(["N", "E", "S"], N),
    }
).sort_values("level", ignore_index=True)  # each chunk has other values
Y = 2.0 * FRAME["level"] + 1.5 * (FRAME["wind"] == "E") + 0.3 * rng.normal(size=N)
WEIGHT = rng.uniform(0.5, 2.0, N)


@pytest.fixture(autouse=True)
def scheduler():
    with dask.config.set(scheduler="synchronous"):
        yield


def assert_close(mine, truth):
    """Within five standard deviations of the repeats, of which scikit-learn has as many."""
    assert mine.importances.shape == truth.importances.shape
    deviation = np.hypot(mine.importances_std, truth.importances_std) / np.sqrt(5)
    np.testing.assert_array_less(
        np.abs(mine.importances_mean - truth.importances_mean), 5 * deviation + 0.01
    )


def test_a_frame_with_words_through_a_pipeline():
    columns = make_distributed_column_transformer(
        (DistributedSimpleImputer(), ["level", "noise"]), (DistributedOneHotEncoder(), ["wind"])
    )
    lazy = dd.from_pandas(FRAME, npartitions=6)
    y = dd.from_pandas(pd.Series(Y), npartitions=6)
    model = make_pipeline(columns, DistributedGDRegressor()).fit(lazy, y)
    mine = permutation_importance(model, lazy, y, random_state=0)
    assert_close(mine, truth_of(model, FRAME, Y, random_state=0))
    assert mine.importances_mean.argsort().tolist() == [1, 2, 0]
    again = permutation_importance(model, lazy, y, random_state=0)
    np.testing.assert_array_equal(again.importances, mine.importances)
    last, rows, here = model[-1], columns.transform(lazy), columns.transform(FRAME)
    mine = permutation_importance(last, rows, Y, random_state=0, sample_weight=WEIGHT)
    assert_close(mine, truth_of(last, here, Y, random_state=0, sample_weight=WEIGHT))


@pytest.mark.parametrize("sparse", [False, True])
def test_arrays_and_scorers(sparse):
    rows = FRAME[["level", "noise"]].to_numpy()
    label = (Y > 0).astype(int).to_numpy()
    lazy = da.from_array(rows, chunks=(700, 1 if not sparse else 2))
    if sparse:
        lazy = lazy.map_blocks(sp.csr_array, meta=sp.csr_array((0, 2)))
    model = DistributedLinearSVC().fit(lazy, label)
    for scoring in (None, get_scorer("roc_auc")):
        mine = permutation_importance(model, lazy, label, scoring=scoring, random_state=1)
        assert_close(mine, truth_of(model, rows, label, scoring=scoring, random_state=1))
    here = permutation_importance(model, rows, label, random_state=1)
    np.testing.assert_array_equal(
        here.importances, truth_of(model, rows, label, random_state=1).importances
    )


class Sum(RegressorMixin, BaseEstimator):
    """Notes what it is given."""

    seen = None

    def fit(self, X, y):
        return self

    def score(self, X, y):
        self.seen.append(X.compute())
        return 0.0


def test_only_one_column_changes_and_its_values_are_those_of_all_rows():
    model = Sum()
    model.seen = []
    permutation_importance(model, dd.from_pandas(FRAME, npartitions=4), Y, n_repeats=2)
    whole, *changed = model.seen
    pd.testing.assert_frame_equal(whole, FRAME, check_dtype=False)
    assert len(changed) == 6
    for number, table in enumerate(changed):
        name = FRAME.columns[number // 2]
        assert (table.drop(columns=name) == FRAME.drop(columns=name)).all(axis=None)
        assert table.dtypes.tolist() == whole.dtypes.tolist()
        assert set(table[name]) <= set(FRAME[name])
    for a, b in zip(changed[::2], changed[1::2], strict=True):
        assert (a != b).any(axis=None)
    # The first chunk holds the lowest levels; drawn from all rows they are as high as any.
    assert changed[0]["level"][:750].mean() == pytest.approx(FRAME["level"].mean(), abs=0.2)
    assert not np.array_equal(changed[0]["level"][:700], changed[0]["level"][750:1450])
