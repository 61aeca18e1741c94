"""DistributedColumnTransformer: scikit-learn's results, in as few passes as can be."""

import pickle
from itertools import pairwise

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.compose import ColumnTransformer, make_column_selector, make_column_transformer
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    OneHotEncoder,
    OrdinalEncoder,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)

from dask_dml import (
    DistributedGDRegressor,
    DistributedLinearSVC,
    DistributedSGDRegressor,
    preprocessing,
    to_sklearn,
)
from dask_dml.compose import DistributedColumnTransformer, make_distributed_column_transformer

N = 90
rng = np.random.default_rng(11)
FRAME = pd.DataFrame(
    {
        "level": np.where(rng.random(N) < 0.2, np.nan, rng.normal(5.0, 2.0, N).round(2)),
        "depth": np.where(rng.random(N) < 0.1, np.nan, rng.normal(0.0, 30.0, N).round(1)),
        "count": rng.integers(0, 6, N),
        "wind": rng.choice(["N", "E", "south"], N),
        "town": rng.choice([*"abcdefgh", None], N),
    },
    index=pd.Index(range(3, N + 3), name="row"),
)
Y = FRAME["count"] * 2.0 + (FRAME["wind"] == "E") + rng.normal(0, 0.1, N)
NUMBERS, WORDS = ["level", "depth", "count"], ["wind", "town"]


@pytest.fixture(autouse=True)
def scheduler():
    with dask.config.set(scheduler="synchronous"):
        yield


def framed(frame, sizes):
    parts = list(pairwise(np.cumsum((0, *sizes))))
    return dd.from_map(lambda part: frame.iloc[slice(*part)], parts, meta=frame.iloc[:0])


def distributed(step):
    """Return the counterpart of a transformer of scikit-learn, and of its parts."""
    if isinstance(step, str):
        return step
    if isinstance(step, Pipeline):
        return Pipeline([(name, distributed(part)) for name, part in step.steps])
    if isinstance(step, ColumnTransformer):
        parameters = step.get_params(deep=False)
        parameters["transformers"] = [(n, distributed(t), c) for n, t, c in step.transformers]
        parameters["remainder"] = distributed(step.remainder)
        return DistributedColumnTransformer(**parameters)
    own = getattr(preprocessing, f"Distributed{type(step).__name__}", None)
    return clone(step) if own is None else own(**step.get_params())


def gathered(lazy):
    parts = dask.compute(*np.ravel(lazy.to_delayed()))
    if sp.issparse(parts[0]):
        return sp.vstack(parts).toarray()
    return np.concatenate(parts)


def dense(array):
    return array.toarray() if sp.issparse(array) else np.asarray(array)


def fill_then(step, **parameters):
    return make_pipeline(SimpleImputer(**parameters), step)


SAME_NAMES = FunctionTransformer(np.abs, feature_names_out="one-to-one")
COLUMNS = {
    "one level": [("n", StandardScaler(), NUMBERS), ("w", OneHotEncoder(), WORDS)],
    "filled": [
        ("n", fill_then(StandardScaler()), NUMBERS),
        ("w", fill_then(OneHotEncoder(), strategy="most_frequent"), WORDS),
    ],
    "every follower": [
        ("a", fill_then(MinMaxScaler(), strategy="median"), NUMBERS),
        ("b", fill_then(RobustScaler(), strategy="constant", fill_value=4.0), NUMBERS[:2]),
        ("c", fill_then(MaxAbsScaler(), strategy="most_frequent"), NUMBERS),
        ("d", fill_then(OrdinalEncoder(), strategy="constant", fill_value="?"), WORDS),
        ("e", fill_then(OneHotEncoder(), strategy="most_frequent"), NUMBERS),
        ("f", fill_then(QuantileTransformer(n_quantiles=20), strategy="median"), NUMBERS),
    ],
    "three levels": [
        ("n", make_pipeline(MinMaxScaler(), SimpleImputer(add_indicator=True), StandardScaler()),
         NUMBERS),
        ("w", OrdinalEncoder(), slice("wind", "town")),
    ],
    "by number": [("n", StandardScaler(), [0, -3]), ("w", OneHotEncoder(), slice(3, 5))],
    "by mask": [("n", MinMaxScaler(), [True, False, True, False, False])],
    "by dtype": [
        ("n", fill_then(StandardScaler()), make_column_selector(dtype_include="number")),
        ("w", OneHotEncoder(), make_column_selector(dtype_exclude="number")),
    ],
    "no need to learn": [
        ("f", FunctionTransformer(np.sqrt, feature_names_out="one-to-one"), ["count"]),
        ("l", make_pipeline(SAME_NAMES, MinMaxScaler(), Normalizer()),
         ["count"]),
        ("p", "passthrough", ["level"]),
        ("d", "drop", ["wind"]),
        ("nothing", OneHotEncoder(), []),
    ],
}  # fmt: skip
SETTINGS = [
    {},
    {"sparse_threshold": 0.0},
    {"sparse_threshold": 1.0},
    {"transformer_weights": {"n": 3.0}, "verbose_feature_names_out": True},
]


@pytest.mark.parametrize("sizes", [(N,), (1, 40, 0, 49)], ids=str)
@pytest.mark.parametrize("parameters", SETTINGS, ids=range(len(SETTINGS)))
@pytest.mark.parametrize("case", COLUMNS)
def test_every_chunking_gives_scikit_learns_answer(case, parameters, sizes):
    theirs = ColumnTransformer(COLUMNS[case], **parameters)
    mine = distributed(theirs)
    want = theirs.fit_transform(FRAME)
    lazy = framed(FRAME, sizes)
    result = mine.fit_transform(lazy)
    assert isinstance(result, da.Array)
    assert mine.sparse_output_ == theirs.sparse_output_ == sp.issparse(result._meta)
    assert result.dtype == want.dtype
    np.testing.assert_allclose(gathered(result), dense(want), rtol=1e-12, atol=1e-13)
    assert mine.get_feature_names_out().tolist() == theirs.get_feature_names_out().tolist()
    assert mine.output_indices_ == theirs.output_indices_
    assert mine.feature_names_in_.tolist() == theirs.feature_names_in_.tolist()
    assert repr(mine.transformers) == repr(distributed(theirs).transformers)
    plain = mine.to_sklearn()
    assert b"dask_dml" not in pickle.dumps(plain)
    assert repr(plain.transformers_) == repr(theirs.transformers_)
    np.testing.assert_allclose(dense(plain.transform(FRAME)), dense(want), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("case", [case for case in COLUMNS if "dtype" not in case])
def test_arrays(case):
    """Numbers for words, so that one array holds all columns."""
    array = FRAME.assign(
        wind=FRAME["wind"].factorize()[0], town=FRAME["town"].factorize()[0]
    ).to_numpy(float)
    by_number = {name: place for place, name in enumerate(FRAME.columns)}

    def renumbered(columns):
        if isinstance(columns, slice):
            return slice(3, 5)
        return [by_number.get(one, one) for one in columns]

    theirs = clone(ColumnTransformer([(n, t, renumbered(c)) for n, t, c in COLUMNS[case]]))
    if case == "every follower":  # no text among numbers
        theirs.set_params(d__simpleimputer__fill_value=9.0)
    want = theirs.set_params(remainder="passthrough").fit_transform(array)
    for columns in (5, 2):
        mine = distributed(theirs)
        lazy = da.from_array(array, chunks=((40, 0, 50), columns))
        result = mine.fit_transform(lazy)
        assert result.chunks[0] == (40, 0, 50)
        np.testing.assert_allclose(gathered(result), dense(want), rtol=1e-12, atol=1e-13)
        assert mine.sparse_output_ == theirs.sparse_output_


def test_sparse_chunks():
    table = sp.random_array((N, 6), density=0.3, rng=rng, format="csr")
    theirs = ColumnTransformer(
        [("a", MaxAbsScaler(), [0, 1]), ("b", StandardScaler(with_mean=False), slice(2, 4))],
        remainder="passthrough",
    )
    want = theirs.fit_transform(table)
    lazy = da.from_array(table.toarray(), chunks=(40, 6)).map_blocks(
        sp.csr_array, meta=sp.csr_array((0, 0))
    )
    mine = distributed(theirs)
    result = mine.fit_transform(lazy)
    assert mine.sparse_output_ == theirs.sparse_output_
    np.testing.assert_allclose(gathered(result), dense(want), rtol=1e-12)


@pytest.mark.parametrize("drop", [None, "first", "if_binary"])
@pytest.mark.parametrize("grouped", [{}, {"max_categories": 3}, {"min_frequency": 10}])
def test_density_is_counted_exactly(drop, grouped):
    """At a threshold on either side of the density that scikit-learn finds."""
    encoder = OneHotEncoder(drop=drop, **grouped, handle_unknown="ignore")
    columns = [("w", encoder, WORDS), ("n", StandardScaler(), ["level"])]
    made = ColumnTransformer(columns, sparse_threshold=1.0).fit_transform(FRAME)
    density = made.nnz / np.prod(made.shape)
    for threshold in (density, np.nextafter(density, 1)):
        theirs = ColumnTransformer(columns, sparse_threshold=threshold).fit(FRAME)
        mine = distributed(theirs).fit(framed(FRAME, (30, 60)))
        assert mine.sparse_output_ == theirs.sparse_output_


def test_frames_out_keep_names_dtypes_and_index():
    theirs = ColumnTransformer(
        [("n", fill_then(StandardScaler()), NUMBERS),
         ("w", OneHotEncoder(sparse_output=False, dtype=np.float32), ["wind"])],
        remainder="passthrough", verbose_feature_names_out=False,
    )  # fmt: skip
    mine = distributed(theirs).set_output(transform="pandas")
    want = theirs.set_output(transform="pandas").fit_transform(FRAME)
    result = mine.fit_transform(framed(FRAME, (50, 0, 40)))
    assert isinstance(result, dd.DataFrame)
    made = result.compute()
    pd.testing.assert_frame_equal(made.drop(columns="town"), want.drop(columns="town"))
    assert (made["town"].isna() == want["town"].isna()).all()
    reordered = framed(FRAME[FRAME.columns[::-1]].assign(more=1), (90,))
    pd.testing.assert_frame_equal(mine.transform(reordered).compute(), made)


@pytest.fixture
def counted(client):
    """A frame whose chunks are counted when they are read."""

    def read(frame):
        import distributed

        if len(frame):
            distributed.get_worker().log_event("reads", len(frame))
        return frame

    before = len(client.get_events("reads"))
    lazy = framed(FRAME, (30, 30, 30)).map_partitions(read, meta=framed(FRAME, (N,))._meta)
    return lazy, lambda: (len(client.get_events("reads")) - before) / 3


@pytest.mark.parametrize(
    ("case", "passes"),
    [("one level", 1), ("filled", 1), ("every follower", 1), ("three levels", 3)],
)
def test_one_pass_for_each_level(counted, case, passes):
    lazy, reads = counted
    mine = distributed(ColumnTransformer(COLUMNS[case])).fit(lazy)
    assert reads() == passes
    mine.transform(lazy)
    assert reads() == passes


def test_a_pipeline_from_a_csv_to_a_pickle(tmp_path, client):
    FRAME.assign(y=Y).to_csv(tmp_path / "table.csv", index=False)
    lazy = dd.read_csv(tmp_path / "table.csv", blocksize=900)
    assert lazy.npartitions > 2
    X, y = lazy.drop(columns="y"), lazy["y"]
    columns = make_distributed_column_transformer(
        (distributed(fill_then(StandardScaler())), make_column_selector(dtype_include="number")),
        (distributed(fill_then(OneHotEncoder(handle_unknown="ignore"), strategy="most_frequent")),
         make_column_selector(dtype_exclude="number")),
    )  # fmt: skip
    theirs = ColumnTransformer(
        [("n", fill_then(StandardScaler()), NUMBERS),
         ("w", fill_then(OneHotEncoder(), strategy="most_frequent"), WORDS)]
    )  # fmt: skip
    read = pd.read_csv(tmp_path / "table.csv")
    truth = theirs.fit_transform(read.drop(columns="y"))
    for last in (
        DistributedGDRegressor(),
        DistributedSGDRegressor(random_state=0),
        DistributedLinearSVC(),
    ):
        target = y if not isinstance(last, DistributedLinearSVC) else (y > 5).astype(int)
        model = make_pipeline(clone(columns), last).fit(X, target)
        expected = clone(last).fit(truth, target.compute().to_numpy())
        score = model.score(X, target)
        assert score == pytest.approx(expected.score(truth, target.compute().to_numpy()), rel=1e-2)
        assert score > 0.95
        assert model[-1].n_features_in_ == len(model[0].get_feature_names_out())
        plain = to_sklearn(model)
        saved = pickle.dumps(plain)
        assert b"dask" not in saved
        np.testing.assert_allclose(
            pickle.loads(saved).predict(read.drop(columns="y")),
            model.predict(X).compute(),
            rtol=1e-9,
        )
        assert pickle.loads(pickle.dumps(model)).predict(X.head(2)).shape == (2,)


def test_reads_of_a_pipeline_with_a_ridge(counted):
    lazy, reads = counted
    columns = distributed(ColumnTransformer(COLUMNS["filled"]))
    y, weight = lazy["count"].astype(float), lazy["count"] + 1
    model = make_pipeline(columns, DistributedGDRegressor())
    model.fit(lazy, y, distributedgdregressor__sample_weight=weight)
    # One to learn, and one for X, y and weights together.
    assert reads() == 2
    model.score(lazy, y)
    assert reads() == 3
    truth = DistributedGDRegressor().fit(
        columns.transform(lazy).compute(), y.compute(), weight.compute()
    )
    np.testing.assert_allclose(model[-1].coef_, truth.coef_, atol=1e-9)


def test_an_array_of_a_frame_beside_targets_that_are_divided_otherwise(client):
    """Also behind another step, and after it went through something else."""
    y = FRAME["count"].astype(float)
    lazy = framed(FRAME, (40, 0, 50))
    made = distributed(ColumnTransformer(COLUMNS["filled"])).fit(lazy).transform(lazy)
    model = DistributedGDRegressor()
    for X in (made, made[:, ::-1], preprocessing.DistributedMaxAbsScaler().fit_transform(made)):
        truth = model.fit(X.compute(), y).coef_
        for sizes in ((30, 60), (10, 20, 20, 40), (40, 0, 50)):
            found = model.fit(X, framed(y.to_frame(), sizes)["count"]).coef_
            np.testing.assert_allclose(found, truth, atol=1e-9)


def test_texts_by_hashing_without_a_pass_of_their_own(counted):
    lazy, reads = counted
    words = FRAME["wind"] + FRAME["wind"] + " wind"
    lazy = lazy.assign(text=lazy["wind"] + lazy["wind"] + " wind")
    theirs = ColumnTransformer(
        [("t", HashingVectorizer(n_features=64), "text"), ("n", MinMaxScaler(), ["count"])],
        sparse_threshold=1.0,
    )
    mine = distributed(theirs)
    result = mine.fit_transform(lazy)
    assert reads() == 1
    assert sp.issparse(result._meta)
    want = theirs.fit_transform(FRAME.assign(text=words))
    np.testing.assert_allclose(gathered(result), dense(want))
    target = (FRAME["wind"] == "E").astype(int).to_numpy()
    model = make_pipeline(mine, DistributedLinearSVC()).fit(lazy, target)
    assert model.score(lazy, target) == 1.0


def test_searches_reach_the_parameters():
    columns = distributed(
        ColumnTransformer([("n", fill_then(StandardScaler()), [0, 1, 2])], remainder="drop")
    )
    pipeline = make_pipeline(columns, DistributedGDRegressor())
    X = da.from_array(FRAME[NUMBERS].to_numpy(), chunks=(30, 3))
    grid = {
        "distributedcolumntransformer__n__simpleimputer__strategy": ["mean", "median"],
        "distributedgdregressor__alpha": [1e-4, 1.0],
    }
    search = GridSearchCV(pipeline, grid, cv=2).fit(X, Y.to_numpy())
    truth = GridSearchCV(
        make_pipeline(
            ColumnTransformer([("n", fill_then(StandardScaler()), [0, 1, 2])]),
            DistributedGDRegressor(),
        ),
        {name.replace("distributedc", "c"): value for name, value in grid.items()},
        cv=2,
    ).fit(FRAME[NUMBERS].to_numpy(), Y.to_numpy())
    np.testing.assert_allclose(
        search.cv_results_["mean_test_score"], truth.cv_results_["mean_test_score"], rtol=1e-6
    )


def test_frozen_transformers_stay_as_they_are():
    fitted = StandardScaler().fit(FRAME[["count"]] + 1)
    mine = DistributedColumnTransformer([("f", FrozenEstimator(fitted), ["count"])])
    result = mine.fit_transform(framed(FRAME, (90,)))
    np.testing.assert_allclose(gathered(result), fitted.transform(FRAME[["count"]]))


WRONG = [
    ([("n", SimpleImputer(), NUMBERS)], TypeError, "DistributedSimpleImputer"),
    ([("n", make_pipeline(StandardScaler()), NUMBERS)], TypeError, "DistributedStandardScaler"),
    ([("n", preprocessing.DistributedMinMaxScaler(), ["depths"])], ValueError, "depths"),
    ([("n", preprocessing.DistributedMinMaxScaler(), ["wind"])], ValueError, "could not convert"),
    ([("n", preprocessing.DistributedMinMaxScaler((2, 1)), ["level"])], ValueError, "Minimum"),
    ([("n", preprocessing.DistributedOneHotEncoder(drop="x"), ["level"])], ValueError, "'drop'"),
    ([("n", preprocessing.DistributedOneHotEncoder(), "wind")], ValueError, "2D|2-dim"),
    ([("n", "dropped", ["level"])], TypeError, "fit"),
    ([("n", "drop", ["level"]), ("n", "drop", ["level"])], ValueError, "unique"),
]  # fmt: skip


@pytest.mark.parametrize(("transformers", "kind", "message"), WRONG)
def test_errors_name_the_remedy_and_leave_nothing_behind(transformers, kind, message):
    model = DistributedColumnTransformer(transformers)
    before = dict(vars(model))
    with pytest.raises(kind, match=message):
        model.fit(framed(FRAME, (40, 50)))
    assert vars(model) == before


def test_other_columns_at_transform_are_refused_at_once():
    model = distributed(ColumnTransformer([("n", StandardScaler(), NUMBERS)]))
    model.fit(framed(FRAME, (40, 50)))
    with pytest.raises(ValueError, match="columns are missing"):
        model.transform(framed(FRAME[["level"]], (90,)))
    with pytest.raises(ValueError, match=r"features|columns"):
        model.transform(da.ones((4, 2)))


def test_in_memory_it_is_scikit_learns():
    theirs = ColumnTransformer(COLUMNS["filled"])
    mine = distributed(theirs)
    want = dense(theirs.fit_transform(FRAME))
    np.testing.assert_allclose(dense(mine.fit_transform(FRAME)), want, rtol=1e-12, atol=1e-15)
    result = mine.transform(framed(FRAME, (20, 70)))
    np.testing.assert_allclose(gathered(result), want, rtol=1e-12, atol=1e-15)
    made = make_distributed_column_transformer((StandardScaler(), NUMBERS), n_jobs=2)
    assert repr(made.transformers) == repr(
        make_column_transformer((StandardScaler(), NUMBERS)).transformers
    )
    assert made.n_jobs == 2
