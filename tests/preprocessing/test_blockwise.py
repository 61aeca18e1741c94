"""Any scikit-learn transformer by chunks: the same as on the gathered rows."""

import pickle

import dask
import dask.array as da
import dask.bag as db
import dask.dataframe as dd
import distributed
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction import FeatureHasher
from sklearn.feature_extraction.text import HashingVectorizer, TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    Binarizer,
    FunctionTransformer,
    MaxAbsScaler,
    Normalizer,
    PolynomialFeatures,
    StandardScaler,
)
from sklearn.random_projection import SparseRandomProjection

from dask_dml import DistributedGDRegressor, DistributedLinearSVC, to_sklearn
from dask_dml.compose import make_distributed_column_transformer
from dask_dml.preprocessing import BlockwiseTransformer

from .family_cases import FRAME, N, arrayed, assert_same_values, framed, gathered, rng

TABLE = rng.normal(size=(N, 3))
CHUNKS = (30, 0, 1, 49)
TEXTS = [f"{('one', 'two', 'red')[number % 3]} fish {number}" for number in range(N)]


@pytest.fixture(autouse=True)
def scheduler():
    with dask.config.set(scheduler="synchronous"):
        yield


def lazily(table):
    if isinstance(table, pd.DataFrame | pd.Series):
        return framed(table, CHUNKS)
    if table.ndim == 1:
        return da.from_array(table, chunks=(CHUNKS,))
    return arrayed(table, CHUNKS, columns=2)


def date_parts(table):
    return pd.DataFrame({"month": table["day"].dt.month, "date": table["day"].dt.day})


DATES = FunctionTransformer(date_parts, feature_names_out=lambda _, __: ["month", "date"])
CASES = [
    (PolynomialFeatures(2), TABLE),
    (PolynomialFeatures(2, include_bias=False), sp.csr_array(TABLE * (TABLE > 0))),
    (PolynomialFeatures(2), FRAME[["count", "same"]]),
    (Normalizer(copy=False), TABLE.astype(np.float32)),
    (Binarizer(threshold=0.5), TABLE),
    (FunctionTransformer(np.log1p, feature_names_out="one-to-one"), FRAME[["same"]]),
    (DATES, FRAME[["day"]]),
    (HashingVectorizer(n_features=32), pd.Series(TEXTS, name="title")),
    (HashingVectorizer(n_features=32, ngram_range=(1, 2)), np.array(TEXTS, object)),
    (SparseRandomProjection(2, random_state=0), TABLE),
    (make_pipeline(PolynomialFeatures(2), Normalizer()), TABLE),
    (FrozenEstimator(StandardScaler().fit(TABLE[:20])), TABLE),
    (FrozenEstimator(make_pipeline(PCA(2), MaxAbsScaler()).fit(TABLE[:20])), TABLE),
]


@pytest.mark.parametrize(("inside", "table"), CASES, ids=lambda one: type(one).__name__)
def test_chunks_give_scikit_learns_answer(inside, table):
    theirs = clone(inside).fit(table, None)
    want = theirs.transform(table.copy())
    mine = BlockwiseTransformer(clone(inside))
    lazy = lazily(table)
    result = mine.fit(lazy).transform(lazy)
    assert sp.issparse(getattr(result, "_meta", None)) == sp.issparse(want)
    if isinstance(want, pd.DataFrame):
        pd.testing.assert_frame_equal(result.compute(), want)
    else:
        assert result.dtype == want.dtype
        assert_same_values(gathered(result), want)
    if hasattr(theirs, "get_feature_names_out"):
        assert mine.get_feature_names_out().tolist() == theirs.get_feature_names_out().tolist()
    for name in ("n_features_in_", "feature_names_in_"):
        assert hasattr(mine, name) == hasattr(theirs, name)
    here = clone(mine).fit(table).transform(table)
    assert type(here) is type(want)
    again = pickle.loads(pickle.dumps(mine)) if inside is not DATES else mine
    plain = to_sklearn(again)
    assert type(plain) is type(inside)
    assert type(plain.transform(table)) is type(want)


@pytest.mark.parametrize("kind", ["dict", "pair", "string"])
def test_bags(kind):
    items = {
        "dict": [dict.fromkeys(text.split(), 2.0) for text in TEXTS],
        "pair": [[(word, 2.0) for word in text.split()] for text in TEXTS],
        "string": [text.split() for text in TEXTS],
    }[kind]
    hasher = FeatureHasher(16, input_type=kind)
    bag = db.from_sequence(items, npartitions=3)
    result = BlockwiseTransformer(hasher).fit_transform(bag.map(lambda item: item))
    assert_same_values(gathered(result), hasher.transform(items))
    none = bag.filter(lambda _: False)
    assert BlockwiseTransformer(hasher).fit_transform(none).compute().shape == (0, 16)


def test_texts_of_a_bag_into_a_fit(client):
    """As in a README: a bag of texts, hashed, into a classifier, and out as scikit-learn's."""
    labels = np.array(["fish 1" in text for text in TEXTS], int)
    model = make_pipeline(
        BlockwiseTransformer(HashingVectorizer(n_features=256, ngram_range=(1, 2))),
        DistributedLinearSVC(C=10.0),
    ).fit(db.from_sequence(TEXTS, npartitions=3), labels)
    assert model.score(db.from_sequence(TEXTS, npartitions=2), labels) > 0.9
    assert (to_sklearn(model).predict(TEXTS) == labels).mean() > 0.9


def test_a_sample_is_what_it_says():
    lazy = da.from_array(TABLE, chunks=(CHUNKS, 3))
    few = BlockwiseTransformer(PCA(2), subsample=20, random_state=0).fit(lazy)
    assert few.n_samples_seen_ == 20
    again = clone(few).fit(lazy.rechunk((CHUNKS, 1)))
    np.testing.assert_array_equal(again.transformer_.mean_, few.transformer_.mean_)
    for kind in (lambda x: x, pd.DataFrame, sp.csr_array):
        every = BlockwiseTransformer(StandardScaler(with_mean=False), subsample=N)
        every.fit(lazily(kind(TABLE)))
        assert every.n_samples_seen_ == N
        truth = StandardScaler(with_mean=False).fit(kind(TABLE))
        np.testing.assert_allclose(every.transformer_.scale_, truth.scale_, rtol=1e-12)


def test_every_row_is_as_likely_to_be_drawn():
    """Over 300 draws of 20 of 80 rows: within five deviations of the expected 75 each."""
    parts = np.split(np.arange(N), np.cumsum(CHUNKS)[:-1])
    drawn = np.zeros(N, int)
    for seed in range(300):
        model = BlockwiseTransformer(PCA(), subsample=20, random_state=seed)
        learner = model.learner(parts[0][:0])
        some = [learner.observe(part, number) for number, part in enumerate(parts)]
        sample = learner.after((some[0] + some[1]) + (some[2] + some[3])).value
        assert (np.diff(sample.table) > 0).all()
        drawn[sample.table] += 1
    assert drawn.sum() == 300 * 20
    assert np.abs(drawn - 75).max() < 5 * np.sqrt(300 * 0.25 * 0.75)


def test_a_column_transformer_learns_samples_and_all_else_in_one_pass(client):
    text = pd.Series(TEXTS, index=FRAME.index)
    frame = FRAME.assign(text=text)[["level", "count", "same", "text"]].fillna(0.0)

    def note(part):
        distributed.get_worker().log_event("drawn from", len(part))
        return part

    lazy = framed(frame, (40, 40)).map_partitions(note, meta=frame.iloc[:0])
    columns = make_distributed_column_transformer(
        (BlockwiseTransformer(TfidfVectorizer(), subsample=N), "text"),
        (BlockwiseTransformer(PCA(2), subsample=30, random_state=1), ["level", "count"]),
        (PolynomialFeatures(2, include_bias=False), ["level", "count"]),
        sparse_threshold=1.0,
    ).fit(lazy)
    assert len(client.get_events("drawn from")) == 2
    want = TfidfVectorizer().fit_transform(text)
    result = columns.transform(lazy).compute()
    np.testing.assert_allclose(result.toarray()[:, : want.shape[1]], want.toarray(), rtol=1e-12)
    model = make_pipeline(columns, DistributedGDRegressor(alpha=1e-6)).fit(lazy, lazy["count"])
    served = to_sklearn(model)
    assert b"dask_dml" not in pickle.dumps(served)
    np.testing.assert_allclose(served.predict(frame), frame["count"], atol=0.05)
    assert "x0" not in columns.get_feature_names_out()[-1]


def test_parameters_of_the_inside_are_searched_and_output_set():
    lazy = da.from_array(TABLE, chunks=(40, 3))
    y = TABLE[:, 0] * TABLE[:, 1]
    pipeline = make_pipeline(
        BlockwiseTransformer(PolynomialFeatures(1)), DistributedGDRegressor(alpha=1e-8)
    )
    grid = {"blockwisetransformer__transformer__degree": [1, 2]}
    search = GridSearchCV(pipeline, grid, cv=2).fit(lazy, y)
    assert search.best_params_ == {"blockwisetransformer__transformer__degree": 2}
    frame = framed(FRAME[["count", "same"]], CHUNKS)
    mine = BlockwiseTransformer(PolynomialFeatures()).set_output(transform="pandas")
    want = (
        PolynomialFeatures().set_output(transform="pandas").fit_transform(FRAME[["count", "same"]])
    )
    result = mine.fit(frame).transform(frame)
    assert isinstance(result, dd.DataFrame)
    pd.testing.assert_frame_equal(result.compute(), want)
    doubled = BlockwiseTransformer(FunctionTransformer(np.exp, np.log)).fit(lazy)
    np.testing.assert_allclose(doubled.inverse_transform(doubled.transform(lazy)), TABLE)
    assert not hasattr(mine, "inverse_transform")


LAZY = da.from_array(TABLE, chunks=(40, 3))
WRONG = [
    (PCA(), None, LAZY, TypeError, "subsample, or hand over a fitted one"),
    (PCA().fit(TABLE), None, LAZY, TypeError, "stays as fitted"),
    (StandardScaler(), None, LAZY, TypeError, "DistributedStandardScaler"),
    (PCA(), 0, LAZY, ValueError, "positive int"),
    (PCA(), True, LAZY, ValueError, "positive int"),
    (TfidfVectorizer(), 9, db.from_sequence(TEXTS), TypeError, "to_dataframe"),
    (PCA(5), 9, LAZY, ValueError, "n_components=5"),
]


@pytest.mark.parametrize(("inside", "size", "table", "kind", "message"), WRONG)
def test_errors_name_the_remedy_and_leave_nothing_behind(inside, size, table, kind, message):
    model = BlockwiseTransformer(inside, subsample=size)
    before = dict(vars(model))
    with pytest.raises(kind, match=message):
        model.fit(table)
    assert vars(model) == before


def test_what_is_wrong_with_chunks_is_said():
    with pytest.raises(NotFittedError):
        BlockwiseTransformer(PolynomialFeatures()).transform(LAZY)
    poly = BlockwiseTransformer(PolynomialFeatures()).fit(LAZY)
    with pytest.raises(ValueError, match="expecting 3 features"):
        poly.transform(LAZY[:, :2])
    halves = BlockwiseTransformer(FunctionTransformer(lambda X: X[::2])).fit(LAZY)
    with pytest.raises(ValueError, match="made 20 rows of 40"):
        halves.transform(LAZY).compute()
    flat = BlockwiseTransformer(FunctionTransformer(lambda X: X[:, 0])).fit(LAZY)
    with pytest.raises(ValueError, match="1-dimensional output"):
        flat.transform(LAZY)
