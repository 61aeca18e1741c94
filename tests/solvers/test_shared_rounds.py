"""Batches of fits on folds of the same rows, against each fit on those rows alone."""

import threading

import dask.array as da
import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone

from dask_dml import DistributedGDRegressor, DistributedLinearSVC, DistributedSGDRegressor
from dask_dml.input.labels import read_labels
from dask_dml.input.read import read_input
from dask_dml.passes.divisions import Consecutive, Listed
from dask_dml.passes.fold_rows import Fold
from dask_dml.passes.folds import DividedRows
from dask_dml.rounds import open_rounds
from dask_dml.rounds.base import StateLost
from dask_dml.rounds.streaming import StreamingRounds
from dask_dml.solvers.shared_rounds import Fit, SharedRounds

RNG = np.random.default_rng(11)
N, P, FOLDS = 240, 4, 5
X = RNG.normal(size=(N, P)) * [1.0, 3.0, 0.2, 1.0] + [0.0, 5.0, 0.0, -2.0]
Y = np.column_stack([X @ [1.0, -1.0, 4.0, 0.0], X @ [0.0, 0.5, 0.0, 2.0]])
Y += RNG.standard_t(3, size=Y.shape)
LABELS = np.array(["a", "b", "c"])[np.digitize(Y[:, 0] + RNG.normal(size=N), [-8.0, -3.0])]
WEIGHT = 10.0 ** RNG.uniform(-1, 1, N)
SPARSE = np.where(RNG.random((N, P)) < 0.5, X, 0.0)
DIVISIONS = [Consecutive(N, FOLDS), Listed(RNG.integers(0, FOLDS, N).astype(np.int16), FOLDS)]


def chunked(array, engine):
    if engine == "memory":
        return array
    sizes = (100, 0, 90, 50)
    if sp.issparse(array):
        return da.from_array(array.toarray(), chunks=(sizes, P)).map_blocks(sp.csr_array)
    return da.from_array(array, chunks=(sizes, *array.shape[1:]))


def fit_together(models, X, y, weight=None, engine="memory", division=DIVISIONS[0], rounds_of=None):
    """Fit every model on each of the folds; return the lists of models, and the passes."""
    labels = None
    y, weight = chunked(y, engine), None if weight is None else chunked(weight, engine)
    if isinstance(models[0], DistributedLinearSVC):
        labels = read_labels(y, in_memory=engine == "memory")
        y = labels.y
    chunks = read_input(clone(models[0]), chunked(X, engine), y, weight)
    batch, fits = [], []
    for model in models:
        for held in range(FOLDS):
            batch.append(clone(model))
            fold = Fold(0, tuple(part for part in range(FOLDS) if part != held))
            fits.append(Fit(fold, lambda r, m=batch[-1]: m._fit_rounds(r, chunks, np.inf, labels)))
    bounds = np.cumsum([0, 100, 0, 90]) if engine != "memory" else np.zeros(1, np.intp)
    opened = StreamingRounds(chunks) if engine == "streaming" else open_rounds(chunks)
    with opened as rounds:
        given = rounds if rounds_of is None else rounds_of(rounds)
        results = SharedRounds(given, DividedRows((division,), bounds), 2).run(fits)
        n_rounds = rounds.n_rounds
    for result in results:
        if result is not None:
            raise result
    return np.reshape(batch, (len(models), FOLDS)), n_rounds


def check_alone(models, batch, X, y, weight=None, division=DIVISIONS[0], atol=1e-8):
    parts = division.parts(0, N)
    slowest = 0
    for model, folds in zip(models, batch, strict=True):
        for held, found in enumerate(folds):
            rows = np.flatnonzero(parts != held)
            alone = clone(model).fit(X[rows], y[rows], None if weight is None else weight[rows])
            np.testing.assert_allclose(found.coef_, alone.coef_, atol=atol)
            np.testing.assert_allclose(found.intercept_, alone.intercept_, atol=atol)
            if hasattr(alone, "classes_"):
                assert found.classes_.tolist() == alone.classes_.tolist()
            slowest = max(slowest, alone.n_rounds_)
    return slowest


REGRESSORS = [
    {"solver": "statistics", "penalty": "elasticnet"},
    {"loss": "huber", "solver": "newton", "tol": 1e-10},
    {"loss": "huber", "solver": "lbfgs", "tol": 1e-8},
    {"loss": "squared_epsilon_insensitive", "solver": "accelerated", "penalty": "l1", "tol": 1e-10},
    {"solver": "gd", "max_iter": 30, "tol": 0.0},
]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # 30 iterations
@pytest.mark.parametrize("options", REGRESSORS, ids=lambda o: o["solver"])
@pytest.mark.parametrize("division", DIVISIONS[1:], ids=["shuffled"])
def test_twenty_penalties_and_five_folds_in_one_batch(options, division):
    models = [DistributedGDRegressor(**options, alpha=a) for a in np.geomspace(1e-3, 1.0, 20)]
    batch, n_rounds = fit_together(models, X, Y, WEIGHT, division=division)
    # A pass to divide the rows, and where parts have statistics one for them.
    slowest = check_alone(models[::6], batch[::6], X, Y, WEIGHT, division, atol=1e-4)
    assert n_rounds <= slowest + 5


@pytest.mark.parametrize("engine", ["memory", "cluster", "streaming"])
@pytest.mark.parametrize(
    ("table", "division"),
    [(X, DIVISIONS[1]), (sp.csr_array(SPARSE), DIVISIONS[0])],
    ids=["dense-shuffled", "csr-consecutive"],
)
def test_every_engine(engine, table, division, request):
    if engine == "cluster":
        request.getfixturevalue("client")
    models = [DistributedGDRegressor("huber", alpha=0.1, penalty="elasticnet", tol=1e-9)]
    batch, _ = fit_together(models, table, Y, WEIGHT, engine, division)
    check_alone(models, batch, table, Y, WEIGHT, division, atol=1e-4)


@pytest.mark.parametrize(
    ("engine", "division"),
    [("memory", DIVISIONS[0]), ("cluster", DIVISIONS[1])],
    ids=["memory-consecutive", "cluster-shuffled"],
)
def test_support_vector_machines(engine, division, request):
    if engine == "cluster":
        request.getfixturevalue("client")
    models = [
        DistributedLinearSVC(C=0.1, tol=1e-9),
        DistributedLinearSVC(C=0.1, loss="hinge", solver="newton", tol=1e-8),
        DistributedLinearSVC(C=0.1, loss="hinge", solver="dual", class_weight="balanced", tol=1e-8),
        DistributedLinearSVC(C=1.0, penalty="l1", intercept_scaling=None, tol=1e-8),
    ]
    batch, _ = fit_together(models, X, LABELS, WEIGHT, engine, division)
    check_alone(models, batch, X, LABELS, WEIGHT, division, atol=2e-3)


def test_stochastic_steps():
    models = [DistributedSGDRegressor(alpha=a, random_state=0, tol=1e-9) for a in (0.01, 1.0)]
    batch, _ = fit_together(models, X, Y[:, 0])
    check_alone(models, batch, X, Y[:, 0], atol=1e-3)


def test_a_class_that_one_fold_holds_alone():
    labels = np.where(np.arange(N) < 20, "rare", np.where(Y[:, 0] > -5, "x", "y"))
    models = [DistributedLinearSVC(C=0.1, tol=1e-8)]
    for division in (DIVISIONS[0], Listed(DIVISIONS[0].parts(0, N)[::-1].astype(np.int16), FOLDS)):
        batch, _ = fit_together(models, X, labels, division=division)
        check_alone(models, batch, X, labels, division=division, atol=1e-4)


class Losing:
    """Rounds that lose what nodes keep, some times."""

    def __init__(self, rounds, at):
        self.rounds, self.at, self.n_updates = rounds, at, 0

    def __getattr__(self, name):
        return getattr(self.rounds, name)

    def update(self, function, broadcast=None):
        self.n_updates += 1
        if self.n_updates in self.at:
            self.rounds._state = {}
            raise StateLost([0])
        return self.rounds.update(function, broadcast)


@pytest.mark.parametrize("at", [(2,), (3, 4), (6, 9)])
def test_lost_state_is_told_again(at):
    models = [
        DistributedLinearSVC(C=0.1, loss="hinge", solver="dual", tol=1e-8),
        DistributedLinearSVC(C=0.1, loss="hinge", solver="newton", tol=1e-8),
    ]
    batch, _ = fit_together(models, X, LABELS, rounds_of=lambda rounds: Losing(rounds, at))
    check_alone(models, batch, X, LABELS, atol=2e-3)


def test_rounds_that_always_lose_end():
    with pytest.raises(RuntimeError, match="workers were lost"):
        fit_together(
            [DistributedLinearSVC(loss="hinge")], X, LABELS,
            rounds_of=lambda rounds: Losing(rounds, range(2, 100)),
        )  # fmt: skip


def test_a_fit_that_fails_leaves_the_others_alone():
    chunks = read_input(DistributedGDRegressor(), X, Y)
    good = DistributedGDRegressor("huber")

    def bad(rounds):
        rounds.map_reduce(raise_at_a_node)

    with open_rounds(chunks) as rounds:
        shared = SharedRounds(rounds, DividedRows((DIVISIONS[0],), np.zeros(1, np.intp)))
        fold = Fold(0, (0, 1))
        failed, done = shared.run(
            [Fit(fold, bad), Fit(fold, lambda r: good._fit_rounds(r, chunks, np.inf))]
        )
    assert isinstance(failed, ZeroDivisionError)
    assert done is None
    rows = DIVISIONS[0].parts(0, N) < 2
    np.testing.assert_allclose(
        good.coef_, DistributedGDRegressor("huber").fit(X[rows], Y[rows]).coef_, atol=1e-6
    )


def raise_at_a_node(shard, _):
    raise ZeroDivisionError


class Breaking(Losing):
    """Rounds that break off."""

    def update(self, function, broadcast=None):
        self.n_updates += 1
        if self.n_updates > 2:
            raise KeyboardInterrupt
        return self.rounds.update(function, broadcast)


def test_an_interrupted_round_ends_every_thread():
    with pytest.raises(KeyboardInterrupt):
        fit_together([DistributedGDRegressor("huber")], X, Y, rounds_of=lambda r: Breaking(r, ()))
    assert not [t for t in threading.enumerate() if t.name.startswith("dask_dml-fit")]
