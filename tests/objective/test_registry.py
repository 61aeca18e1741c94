"""The registry of losses is what estimators, their documentation and the guide say."""

import re
import typing
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from dask_dml import DistributedGDRegressor, DistributedSGDRegressor
from dask_dml.objective.losses import LOSSES, STOCHASTIC, make_loss

GUIDE = Path(__file__).parents[2] / "docs" / "guide" / "objectives.md"
#: The formulas of the guide in NumPy, epsilon 0.3 and quantile 0.8.
FORMULAS = {
    "squared_error": lambda r: 0.5 * r**2,
    "huber": lambda r: 0.5 * r**2 if abs(r) <= 0.3 else 0.3 * abs(r) - 0.5 * 0.3**2,
    "epsilon_insensitive": lambda r: max(0.0, abs(r) - 0.3),
    "squared_epsilon_insensitive": lambda r: max(0.0, abs(r) - 0.3) ** 2,
    "quantile": lambda r: max(0.8 * r, -0.2 * r),
}


@pytest.mark.parametrize(
    ("estimator", "names"),
    [(DistributedGDRegressor, tuple(LOSSES)), (DistributedSGDRegressor, STOCHASTIC)],
)
def test_estimators_state_the_losses_of_the_registry(estimator, names):
    stated = typing.get_type_hints(estimator.__init__)["loss"]
    assert typing.get_args(stated) == names
    told = re.search(r"loss : \{(.*?)\}", estimator.__doc__, re.DOTALL)[1]
    assert tuple(re.findall(r'"(\w+)"', told)) == names
    with pytest.raises(ValueError, match="loss"):
        estimator(loss="absolute").fit(np.eye(3), np.arange(3.0))


@pytest.mark.parametrize("name", LOSSES)
def test_the_guide_has_the_formula(name):
    (row,) = re.findall(rf'^\| `"{name}"` \| (.*?) \|$', GUIDE.read_text(), re.MULTILINE)
    assert row.startswith(f"${LOSSES[name].formula}$")


@pytest.mark.parametrize("name", LOSSES)
def test_values_and_conjugates_are_those_of_the_formula(name):
    loss, formula = make_loss(name, 0.3, 0.8), FORMULAS[name]
    for r in np.linspace(-2.0, 2.0, 41):
        np.testing.assert_allclose(loss.value(r), formula(r), atol=1e-15)
    slopes = np.linspace(-0.15, 0.15, 7)
    for u in slopes:
        # sup over r of u r - loss(r), which the slopes here attain within these bounds.
        found = minimize_scalar(lambda r, u=u: formula(r) - u * r, bounds=(-5, 5), method="bounded")
        v = u - loss.tilt
        conjugate = loss.margin * abs(v) + 0.5 * loss.inverse_curvature * v**2
        if abs(v) <= loss.slope:
            np.testing.assert_allclose(conjugate, -found.fun, atol=2e-6)


def test_an_unknown_loss_is_refused():
    with pytest.raises(ValueError, match="unknown loss 'cube'"):
        make_loss("cube", 0.1)
