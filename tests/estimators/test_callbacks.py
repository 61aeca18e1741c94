"""Callbacks see every round, can end a fit, and are always torn down."""

import threading
from importlib.util import find_spec

import dask.array as da
import numpy as np
import pytest
import reference
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from dask_dml import (
    DistributedGDRegressor,
    DistributedGDRegressorCV,
    DistributedLinearSVC,
    DistributedLinearSVCCV,
    DistributedSGDRegressor,
)
from dask_dml.callbacks import EarlyStopping
from dask_dml.estimators import callback_support
from dask_dml.model_selection import DistributedGridSearchCV
from dask_dml.rounds import choose
from dask_dml.solvers import margin_choose

rng = np.random.default_rng(0)
X = rng.normal(size=(300, 4)) * [1.0, 3.0, 0.1, 1.0] + 2.0
Y = X @ [1.0, -2.0, 3.0, 0.0] + rng.standard_t(3, size=300)
WEIGHT = rng.uniform(0.5, 2.0, 300)

FITS = {
    "statistics": (DistributedGDRegressor(), Y),
    "newton": (DistributedGDRegressor("huber"), Y),
    "multipliers": (DistributedGDRegressor("quantile", quantile=0.3), Y),
    "lbfgs": (DistributedGDRegressor("huber", solver="lbfgs"), Y),
    "accelerated": (DistributedGDRegressor("huber", penalty="l1", solver="accelerated"), Y),
    "gd": (DistributedGDRegressor(solver="gd", max_iter=30), Y),
    "outputs": (DistributedGDRegressor("huber"), np.column_stack([Y, -2.0 * Y])),
    "svrg": (DistributedSGDRegressor(random_state=0), Y),
    "averaged": (DistributedSGDRegressor(average=True, random_state=0), Y),
    "svc newton": (DistributedLinearSVC(), Y > 0),
    "svc dual": (DistributedLinearSVC(loss="hinge", solver="dual"), Y > 0),
    "svc consensus": (DistributedLinearSVC(solver="dual", max_iter=100), Y > 0),
    "svc turns": (DistributedLinearSVC(loss="hinge", tol=1e-6), Y > 0),
    "svc classes": (DistributedLinearSVC(loss="hinge", tol=1e-6), np.digitize(Y, [-5.0, 2.0])),
    "cv": (DistributedGDRegressorCV(), Y),
}
ROUNDS = [name for name in FITS if name != "cv"]


class Recorder:
    """Keeps what it is told; asks to stop after so many rounds."""

    def __init__(self, stop_after=np.inf, fail_after=np.inf):
        self.stop_after, self.fail_after = stop_after, fail_after
        self.events, self.models, self.data = [], [], []

    def setup(self, estimator, context):
        self.events.append("setup")

    def teardown(self, estimator, context):
        self.events.append("teardown")

    def on_fit_task_begin(self, estimator, context, *, X=None, y=None, metadata=None):
        if context.task_name == "fit":
            self.data.append((X, y, metadata))
            self.events.append("begin")

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        if context.task_name != "round":
            self.events.append("end")
            self.models.append(fitted_estimator)
            return False
        self.events.append("round")
        self.models.append(fitted_estimator)
        if self.events.count("round") >= self.fail_after:
            raise ArithmeticError("on purpose")
        return self.events.count("round") >= self.stop_after


def containers(engine, monkeypatch, x, y):
    if engine == "memory":
        return x, y
    if engine == "streaming":
        monkeypatch.setattr(choose, "CLUSTER_SHARE", 0.0)
        monkeypatch.setattr(choose, "LOCAL_SHARE", 0.0)
    return da.from_array(x, chunks=(120, -1)), da.from_array(y, chunks=(100, *y.shape[1:]))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", FITS)
def test_every_round_has_a_model(name, monkeypatch):
    if name == "svc turns":  # a solver that gives up early, so that another has its turn
        monkeypatch.setattr(margin_choose, "take_turns", impatient)
    model, y = FITS[name]
    model, seen = clone(model), Recorder()
    model.set_callbacks(seen).fit(X, y)
    assert seen.events[:2] == ["setup", "begin"]
    assert seen.events[-2:] == ["end", "teardown"]
    assert seen.data[0][0] is X
    assert seen.data[0][1] is y
    *rounds, last = seen.models
    np.testing.assert_array_equal(last.coef_, model.coef_)
    assert bool(rounds) == (name != "cv")
    for one in rounds:
        assert one.coef_.shape == model.coef_.shape
        assert one.predict(X).shape == model.predict(X).shape
    # The models are those that the objectives are of, in the coordinates of X.
    if name not in ("averaged", "cv"):
        for one in rounds:
            assert one.loss_curve_[-1] == pytest.approx(objective_of(one, y), rel=1e-9)


def objective_of(model, y):
    if isinstance(model, DistributedLinearSVC):
        codes = range(len(model.classes_)) if len(model.classes_) > 2 else [1]
        total = 0.0
        for w, b, code in zip(model.coef_, model.intercept_, codes, strict=True):
            signs = np.where(np.searchsorted(model.classes_, y) == code, 1.0, -1.0)
            short = np.maximum(0.0, 1.0 - signs * (X @ w + b))
            loss = short if model.loss == "hinge" else short**2
            total += 0.5 * (w @ w + b * b) + model.C * loss.sum()
        return total
    kind = {"loss": model.loss, "penalty": model.penalty, "alpha": model.alpha,
            "epsilon": model.epsilon, "quantile": getattr(model, "quantile", 0.5)}  # fmt: skip
    return sum(
        reference.objective(X, target, coef, intercept, **kind)
        for target, coef, intercept in zip(
            np.atleast_2d(y.T), np.atleast_2d(model.coef_), np.atleast_1d(model.intercept_),
            strict=True,
        )
    )  # fmt: skip


def impatient(batch, solvers, limits):
    from dask_dml.solvers import margin_turns

    before, margin_turns.PATIENCE = margin_turns.PATIENCE, 2
    try:
        return margin_turns.take_turns(batch, solvers, limits)
    finally:
        margin_turns.PATIENCE = before


@pytest.mark.parametrize("name", ROUNDS)
@pytest.mark.parametrize("engine", ["memory", "cluster", "streaming"])
def test_a_callback_ends_a_fit(name, engine, monkeypatch, client):
    model, y = FITS[name]
    model, seen = clone(model), Recorder(stop_after=2)
    model.set_callbacks(seen).fit(*containers(engine, monkeypatch, X, y))
    n_rounds = seen.events.count("round")
    assert n_rounds <= 2
    assert seen.events[-2:] == ["end", "teardown"]
    if n_rounds == 2 and not model.converged_:
        np.testing.assert_allclose(seen.models[1].coef_, model.coef_, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ROUNDS)
def test_a_callback_that_fails_leaves_nothing(name, client):
    model, y = FITS[name]
    model, seen = clone(model), Recorder(fail_after=1)
    model.set_callbacks(seen)
    before = dict(vars(model))
    with pytest.raises(ArithmeticError, match="on purpose"):
        model.fit(*containers("cluster", None, X, y))
    assert seen.events[-1] == "teardown"
    assert vars(model) == before


def test_bad_input_tears_down():
    seen = Recorder()
    model = DistributedGDRegressor().set_callbacks(seen)
    with pytest.raises(ValueError, match="NaN"):
        model.fit(np.full((3, 2), np.nan), np.zeros(3))
    assert seen.events == ["setup", "begin", "teardown"]


def test_weights_reach_the_callbacks():
    seen = Recorder()
    DistributedGDRegressor().set_callbacks(seen).fit(X, Y, WEIGHT)
    assert seen.data[0][2]["sample_weight"] is WEIGHT


# --- Early stopping -------------------------------------------------------------------------------


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize(("scoring", "tol"), [(None, 0.01), ("neg_mean_squared_error", 1.0)])
def test_early_stopping(lazy, scoring, tol, client):
    held = (X[200:], Y[200:])
    if lazy:
        held = da.from_array(held[0], chunks=(30, -1)), da.from_array(held[1], chunks=50)
    stopping = EarlyStopping(*held, scoring=scoring, n_rounds_no_change=3, tol=tol)
    model = DistributedGDRegressor(solver="gd", learning_rate="backtracking", tol=1e-14)
    model.set_callbacks(stopping).fit(X[:200], Y[:200])
    assert not model.converged_
    assert stopping.stopped_
    scores = [score for _, score in stopping.scores_]
    best, worse, ended = -np.inf, 0, []
    for score in scores:  # the rule, again
        best, worse = (score, 0) if score > best + tol else (best, worse + 1)
        ended.append(worse == 3)
    assert ended == [False] * (len(scores) - 1) + [True]
    if scoring is None:
        assert scores[-1] == pytest.approx(model.score(X[200:], Y[200:]))


def test_early_stopping_every_few_rounds():
    stopping = EarlyStopping(X, Y, every=3, tol=0.0, n_rounds_no_change=2)
    model = DistributedGDRegressor(solver="gd", max_iter=12, tol=0.0)
    with pytest.warns(Warning, match="max_iter"):
        model.set_callbacks(stopping).fit(X, Y)
    passes = [n_rounds for n_rounds, _ in stopping.scores_]
    assert np.all(np.diff(passes) == 3)
    assert not stopping.stopped_


INSIDE = {
    "pipeline": lambda model, grid: make_pipeline(StandardScaler(), model),
    "search": lambda model, grid: GridSearchCV(model, grid, cv=2),
    "search of ours": lambda model, grid: DistributedGridSearchCV(model, grid, cv=2),
    "search of pipelines": lambda model, grid: DistributedGridSearchCV(
        make_pipeline(StandardScaler(), model),
        {f"{type(model).__name__.lower()}__{name}": values for name, values in grid.items()},
        cv=2,
    ),
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("place", INSIDE)
@pytest.mark.parametrize("name", ["gd", "svrg", "svc newton"])
def test_callbacks_of_the_estimator_inside(name, place):
    """Early stopping and the monitor of scores see every fit, wherever the estimator is."""
    module = pytest.importorskip("sklearn.callback")
    model, y = FITS[name]
    stopping = EarlyStopping(X, y, n_rounds_no_change=1)
    monitor = module.ScoringMonitor(scoring="accuracy" if y.dtype == bool else "r2")
    model = clone(model).set_callbacks(stopping, monitor)
    INSIDE[place](model, {"tol": [1e-9, 1e-2]}).fit(X, y)
    assert stopping.scores_
    logs = monitor.get_logs()
    logs = [logs] if hasattr(logs, "data") else logs
    assert {"round", "fit"} == {row["task_name"] for log in logs for row in log.data}


@pytest.mark.parametrize("place", INSIDE)
def test_early_stopping_of_what_makes_no_rounds(place):
    pytest.importorskip("sklearn.callback")
    outside = INSIDE[place](DistributedGDRegressor("huber"), {"tol": [1e-3]})
    outside.set_callbacks(EarlyStopping(X, Y))
    with pytest.raises(ValueError, match=r"pipeline\[-1\].set_callbacks"):
        outside.fit(X, Y)


@pytest.mark.parametrize(
    ("wrong", "said"), [({"tol": -1}, "'tol'"), ({"every": 0}, "'every'"), ({"scoring": 3}, "'sco")]
)
def test_early_stopping_checks_its_parameters(wrong, said):
    with pytest.raises(ValueError, match=said):
        EarlyStopping(X, Y, **wrong)


# --- Older releases of scikit-learn ---------------------------------------------------------------


OLD = issubclass(DistributedGDRegressor, callback_support.CallbackSupportMixin)


class Plain(*(() if OLD else (callback_support.CallbackSupportMixin,)), DistributedGDRegressor):
    """As with a scikit-learn that has no callbacks."""

    fit = callback_support.with_callbacks(DistributedGDRegressor.fit.__wrapped__)


class PlainSearch(
    *(() if OLD else (callback_support.CallbackSupportMixin,)), DistributedGridSearchCV
):
    """Likewise."""

    fit = callback_support.with_callbacks(DistributedGridSearchCV.fit.__wrapped__)


@pytest.mark.parametrize("piped", [False, True])
def test_searches_without_the_module_of_scikit_learn(piped):
    model = DistributedGDRegressor("huber")
    model = make_pipeline(StandardScaler(), model) if piped else model
    key = f"{'distributedgdregressor__' if piped else ''}alpha"
    seen = Counter()
    search = PlainSearch(model, {key: [1e-3, 1e-1]}, cv=2).set_callbacks(seen)
    clone(search).fit(X, Y)
    names = [event[0] for event in seen.events if isinstance(event, tuple)]
    assert names.count("round") > 2
    stages = [name for name in names if name != "round"]
    # A pipeline is fitted to all rows by itself, which nothing is passed on to.
    assert stages == (["search", "fit", "refit", "fit"] if piped else ["search", "refit", "fit"])
    assert seen.events[0] == "setup"
    assert seen.events[-1] == "teardown"


def test_without_the_module_of_scikit_learn():
    seen = Recorder()
    model = Plain("huber").set_callbacks(seen)
    clone(model).fit(X, Y)
    assert seen.events[:3] == ["setup", "begin", "round"]
    assert seen.events[-2:] == ["end", "teardown"]
    assert seen.models[-1].score(X, Y) == model.fit(X, Y).score(X, Y)
    stopped = Plain("huber").set_callbacks(Recorder(stop_after=2)).fit(X, Y)
    assert not stopped.converged_
    failing = Recorder(fail_after=1)
    with pytest.raises(ArithmeticError):
        Plain("huber").set_callbacks(failing).fit(X, Y)
    assert failing.events[-1] == "teardown"
    assert "_skl_callbacks" not in vars(model.set_callbacks())
    for wrong in (Recorder, 3):
        with pytest.raises(TypeError, match="must be instances"):
            model.set_callbacks(wrong)

    class Curious(Recorder):
        def on_fit_task_begin(self, estimator, context, *, weights=None):
            pass

    with pytest.raises(TypeError, match=r"Curious takes \['weights'\]"):
        Plain().set_callbacks(Curious()).fit(X, Y)


# --- Scikit-learn's own callbacks -----------------------------------------------------------------


class Counter(Recorder):
    """Is passed on to the steps of pipelines and searches."""

    max_propagation_depth = None
    # A search in threads shares it.
    lock = threading.Lock()

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        with self.lock:
            self.events.append((context.task_name, context.estimator_name))
        return False


def bars():
    """Return scikit-learn's progress bar, where it can be drawn."""
    try:
        import rich  # noqa: F401 - the bar wants it
        from sklearn.callback import ProgressBar
    except ImportError:
        return []
    return [ProgressBar()]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", ROUNDS)
def test_in_pipelines_and_searches(name, capsys):
    pytest.importorskip("sklearn.callback")
    model, y = FITS[name]
    if y.dtype == bool or y.ndim == 2:
        y = y.astype(float)
    seen, drawn = Counter(), bars()
    pipeline = make_pipeline(StandardScaler(), clone(model))
    step = pipeline.steps[-1][0]
    search = GridSearchCV(pipeline, {f"{step}__max_iter": [5]}, cv=2, refit=False)
    search.set_callbacks(seen, *drawn).fit(X, y)
    rounds = [event for event in seen.events if event[0] == "round"]
    assert {estimator for _, estimator in rounds} == {type(model).__name__}
    assert seen.events.count("setup") == seen.events.count("teardown") == 1
    assert not drawn or "GridSearchCV - fit" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("piped", [False, True])
@pytest.mark.parametrize("name", ["newton", "svrg", "svc newton", "svc classes", "outputs"])
def test_in_searches_that_share_passes(name, piped, capsys):
    model, y = FITS[name]
    seen, drawn = Counter(), bars()
    model, key = clone(model), "max_iter"
    if piped:
        model = make_pipeline(StandardScaler(), model)
        key = f"{model.steps[-1][0]}__max_iter"
    search = DistributedGridSearchCV(model, {key: [5, 6]}, cv=2)
    want = clone(search).fit(X, y)
    search.set_callbacks(seen, *drawn).fit(X, y)
    names = [event[0] for event in seen.events if isinstance(event, tuple)]
    assert seen.events.count("setup") == seen.events.count("teardown") == 1
    assert names.count("search") == names.count("refit") == 1
    assert names[-2:] == ["refit", "fit"]
    before = names.index("search")
    assert set(names[:before]) == {"round"}
    assert before >= 2
    # Pipelines of scikit-learn before 1.9 pass no callbacks on to their steps.
    assert "round" in names[before:] or (piped and find_spec("sklearn.callback") is None)
    mine, theirs = (s.best_estimator_[-1] if piped else s.best_estimator_ for s in (search, want))
    np.testing.assert_array_equal(mine.coef_, theirs.coef_)
    assert not drawn or "DistributedGridSearchCV - search" in capsys.readouterr().out


def test_fits_with_callbacks_of_their_own_are_made_one_by_one():
    """Callbacks that are set on the estimator see every round of every fit, and can end it."""
    seen = Recorder(stop_after=3)
    model = DistributedGDRegressor("huber").set_callbacks(seen)
    search = DistributedGridSearchCV(model, {"alpha": [1e-3, 1e-1]}, cv=2).fit(X, Y)
    assert seen.events.count("setup") == seen.events.count("teardown") == 5
    assert seen.events.count("round") >= 5
    assert not search.best_estimator_.converged_


def test_a_callback_that_fails_ends_a_search():
    class Failing(Counter):
        def on_fit_task_end(self, estimator, context):
            raise ArithmeticError("on purpose")

    seen = Failing()
    search = DistributedGridSearchCV(DistributedGDRegressor("huber"), {"alpha": [0.1, 1.0]}, cv=2)
    with pytest.raises(ArithmeticError, match="on purpose"):
        search.set_callbacks(seen).fit(X, Y)
    assert seen.events[-1] == "teardown"
    assert not hasattr(search, "best_params_")


def test_of_the_estimator_that_chooses_C(capsys):
    seen, drawn = Counter(), bars()
    model = DistributedLinearSVCCV(Cs=[0.01, 1.0], cv=2)
    model.set_callbacks(seen, *drawn).fit(X, Y > 0, WEIGHT)
    names = [event[0] for event in seen.events if isinstance(event, tuple)]
    assert names.count("round") > 2
    assert [n for n in names if n != "round"] == ["search", "refit", "fit"]
    assert seen.data[0][2]["sample_weight"] is WEIGHT
    assert not drawn or "DistributedLinearSVCCV - search" in capsys.readouterr().out


def test_scoring_monitor(client):
    callback = pytest.importorskip("sklearn.callback")
    monitor = callback.ScoringMonitor(scoring="r2")
    model = DistributedGDRegressor("huber").set_callbacks(monitor)
    model.fit(da.from_array(X, chunks=(100, -1)), da.from_array(Y, chunks=100))
    logged = monitor.get_logs().data
    assert [row["task_name"] for row in logged] == ["fit"] + ["round"] * (len(logged) - 1)
    assert logged[0]["r2"] == pytest.approx(model.score(X, Y))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", FITS)
def test_progress_bar(name, capsys):
    pytest.importorskip("rich")
    callback = pytest.importorskip("sklearn.callback")
    model, y = FITS[name]
    clone(model).set_callbacks(callback.ProgressBar()).fit(X, y)
    assert type(model).__name__ in capsys.readouterr().out
