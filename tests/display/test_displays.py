"""Pictures hold the numbers that they should, and need no screen."""

import dask.array as da
import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import lasso_path
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from dask_dml import (
    DistributedGDRegressor,
    DistributedGDRegressorCV,
    DistributedLinearSVC,
    DistributedSGDRegressor,
)
from dask_dml.display import (
    CoefficientDisplay,
    ConvergenceDisplay,
    CVCurveDisplay,
    PathDisplay,
    PredictionsDisplay,
)
from dask_dml.model_selection import regularization_path

matplotlib.use("Agg")
rng = np.random.default_rng(0)
X = rng.normal(size=(300, 6))
Y = X @ [2.0, -1.0, 0.5, 0.0, 0.0, 0.0] + rng.standard_t(3, size=300)
CV = DistributedGDRegressorCV(alphas=15, penalty="l1").fit(X, Y)


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    pyplot.close("all")


def drawn(display, ax=None):
    """Draw all of the figure, as a save would."""
    assert display.figure_ is display.ax_.figure
    assert ax is None or display.ax_ is ax
    display.figure_.canvas.draw()
    return display


# --- Convergence ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model",
    [
        DistributedGDRegressor("huber"),
        DistributedGDRegressor(),
        DistributedSGDRegressor(random_state=0),
        DistributedLinearSVC(loss="hinge"),
    ],
    ids=str,
)
def test_every_fit_has_a_history(model):
    model.fit(X, Y > 0 if isinstance(model, DistributedLinearSVC) else Y)
    lengths = {len(values) for values in model.history_.values()}
    assert len(lengths) == 1
    assert model.history_["n_rounds"][-1] <= model.n_rounds_
    assert np.all(np.diff(model.history_["seconds"]) >= 0.0)
    assert model.history_["seconds"][-1] <= model.fit_seconds_
    display = drawn(ConvergenceDisplay.from_estimator(model))
    np.testing.assert_array_equal(display.lines_[0].get_xdata(), model.history_["n_rounds"])


def test_several_fits_against_the_best():
    models = {
        name: DistributedGDRegressor("huber", solver=name, tol=1e-4).fit(X, Y)
        for name in ("newton", "lbfgs", "gd")
    }
    _, ax = pyplot.subplots()
    display = drawn(
        ConvergenceDisplay.from_estimator(models, x="seconds", y="excess", ax=ax, lw=3), ax
    )
    assert [line.get_label() for line in display.lines_] == list(models)
    assert display.lines_[0].get_linewidth() == 3
    best = min(min(model.history_["objective"]) for model in models.values())
    objective = np.array(models["gd"].history_["objective"])
    np.testing.assert_allclose(display.lines_[2].get_ydata(), objective / best - 1.0)
    drawn(display.plot(y="objective"))


def test_convergence_of_what_has_none():
    with pytest.raises(NotFittedError):
        ConvergenceDisplay.from_estimator(DistributedGDRegressor())
    with pytest.raises(ValueError, match="no history of rounds"):
        ConvergenceDisplay.from_estimator(CV)
    with pytest.raises(ValueError, match="y must be one of 'gap', 'objective', 'excess'"):
        ConvergenceDisplay.from_estimator(DistributedGDRegressor().fit(X, Y), y="loss")


# --- Paths, searches, coefficients ----------------------------------------------------------------


def test_path():
    alphas, coefs, _ = regularization_path(X, Y, alphas=20)
    display = drawn(PathDisplay(alphas, coefs, feature_names=list("abcdef"), chosen=0.1).plot())
    truth = lasso_path(X - X.mean(axis=0), Y - Y.mean(), alphas=alphas)[1]
    np.testing.assert_array_equal(display.n_nonzero, np.count_nonzero(truth, axis=0))
    assert display.lines_[0].get_label() == "a"  # the largest
    with pytest.raises(ValueError, match="one column for each alpha"):
        PathDisplay(alphas, coefs.T)


def test_path_of_a_search():
    dX, dy = da.from_array(X, chunks=(100, -1)), da.from_array(Y, chunks=100)
    display = drawn(PathDisplay.from_estimator(CV, dX, dy, n_labels=2))
    assert display.chosen == CV.alpha_
    at = int(np.argmin(np.abs(display.alphas - CV.alpha_)))
    np.testing.assert_allclose(display.coefs[:, at], CV.coef_, atol=1e-5)


@pytest.mark.parametrize("selection", ["min", "1se"])
def test_curve_of_penalties(selection):
    model = DistributedGDRegressorCV(alphas=15, penalty="l1", selection=selection).fit(X, Y)
    display = drawn(CVCurveDisplay.from_estimator(model))
    mean = model.mse_path_.mean(axis=1)
    np.testing.assert_allclose(display.lines_[0].get_ydata(), mean[::-1])
    _, at, score, error = display.best_
    assert at == model.alphas_[np.argmin(mean)]
    assert score == mean.min()
    folds = model.mse_path_[np.argmin(mean)]
    assert error == pytest.approx(folds.std(ddof=1) / np.sqrt(len(folds)))
    # The strongest penalty within one standard error of the best.
    within = model.alphas_[mean <= score + error].max()
    assert model.alpha_ == (at if selection == "min" else within)


def test_curves_of_scikit_learns_searches():
    pipeline = make_pipeline(StandardScaler(), DistributedGDRegressor(penalty="elasticnet"))
    step = pipeline.steps[-1][0]
    grid = {f"{step}__alpha": [1e-3, 1e-2, 1e-1, 1.0], f"{step}__l1_ratio": [0.1, 0.9]}
    search = GridSearchCV(pipeline, grid, cv=3).fit(X, Y)
    display = drawn(CVCurveDisplay.from_estimator(search))
    assert len(display.scores) == 2
    assert display.best_[2] == pytest.approx(search.best_score_)
    assert display.best_[1] == search.best_params_[f"{step}__alpha"]
    with pytest.raises(ValueError, match=r"no metric 'r2', only \['score'\]"):
        CVCurveDisplay.from_estimator(search, metric="r2")
    one = GridSearchCV(DistributedGDRegressor(), {"loss": ["huber", "squared_error"]}, cv=2)
    with pytest.raises(ValueError, match="one of them numeric"):
        CVCurveDisplay.from_estimator(one.fit(X, Y))


def test_coefficients():
    model = DistributedGDRegressor().fit(X, np.column_stack([Y, -3.0 * Y]))
    display = drawn(CoefficientDisplay.from_estimator(model, n_largest=2))
    assert [bar.get_width() for bar in display.bars_[1]] == list(model.coef_[1, :2])
    assert [text.get_text() for text in display.ax_.get_yticklabels()] == ["x0", "x1"]


# --- Predictions ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["residual_vs_predicted", "actual_vs_predicted"])
@pytest.mark.parametrize("weighted", [False, True])
def test_predictions_are_counted(kind, weighted, client):
    model = DistributedGDRegressor().fit(X, Y)
    weight = rng.uniform(size=300) if weighted else None
    chunked = da.from_array(X, chunks=((100, 0, 200), (6,))), da.from_array(Y, chunks=150)
    lazy = {"sample_weight": None if weight is None else da.from_array(weight, chunks=60)}
    display = drawn(
        PredictionsDisplay.from_estimator(model, *chunked, kind=kind, n_cells=12, **lazy)
    )
    predicted = model.predict(X)
    other = Y - predicted if kind == "residual_vs_predicted" else Y
    counts, *edges = np.histogram2d(predicted, other, bins=12, weights=weight)
    np.testing.assert_allclose(display.x_edges, edges[0])
    np.testing.assert_allclose(display.counts, counts, atol=1e-9)
    memory = PredictionsDisplay.from_estimator(
        model, X, Y, kind=kind, n_cells=12, sample_weight=weight, plot=False
    )
    np.testing.assert_allclose(memory.counts, counts, atol=1e-9)


def test_predictions_that_cannot_be_drawn():
    with pytest.raises(ValueError, match="one output"):
        PredictionsDisplay.from_predictions(np.ones((3, 2)), np.ones((3, 2)))
    with pytest.raises(ValueError, match="NaN or infinite"):
        PredictionsDisplay.from_predictions([1.0, np.nan], [1.0, 2.0])
    with pytest.raises(ValueError, match="no rows"):
        PredictionsDisplay.from_predictions([], [])
    with pytest.raises(ValueError, match="kind must be one of"):
        PredictionsDisplay.from_predictions([1.0], [1.0], kind="both")
    drawn(PredictionsDisplay.from_predictions([1.0, 1.0], [1.0, 1.0]))  # all in one cell


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"CoefficientDisplay.plot needs matplotlib.*\[viz\]"):
        CoefficientDisplay.from_estimator(CV)


# --- In notebooks ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["_repr_html_", "_repr_mimebundle_"])
def test_html(kind):
    def shown(model):
        made = getattr(model, kind)()
        return made if kind == "_repr_html_" else made["text/html"]

    model = DistributedLinearSVC(loss="hinge", C=0.5)
    assert "duality gap" not in shown(model)
    assert "dask-dml.readthedocs.io/en/stable/api/dask_dml.DistributedLinearSVC.html" in shown(
        model
    )
    model.fit(da.from_array(X, chunks=(100, -1)), np.digitize(Y, [-1.0, 1.0]))
    text = shown(model)
    for said in (
        "hinge, l2 penalty, C=0.5, 3 classes, each against the rest",
        "300 rows, 6 columns",
        f"<td style='text-align:left'>{model.solver_}</td>",
        f"<td style='text-align:left'>{model.n_rounds_}</td>",
        f"{model.duality_gap_:.1e}",
        "memory (in this process)",
        f"{model.fit_seconds_:.3g} s",
    ):
        assert said in text
    assert "penalty, alpha=" in shown(CV)
    assert "no penalty" in shown(DistributedGDRegressor("huber", penalty=None).fit(X, Y))
