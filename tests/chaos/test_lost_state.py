"""What nodes keep between rounds is lost at any round of a fit: same answer, or a clear error.

Without a cluster: rounds of this process that forget, as those of a cluster whose worker dies do.
"""

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone

from dask_dml import DistributedLinearSVC, DistributedSGDRegressor
from dask_dml.rounds import choose
from dask_dml.rounds.base import StateLost
from dask_dml.rounds.local import LocalRounds

pytestmark = pytest.mark.chaos

RNG = np.random.default_rng(3)
X = RNG.standard_normal((600, 8)) * (RNG.random((600, 8)) < 0.6)
Y = X @ RNG.standard_normal(8) + 0.3 * RNG.standard_normal(600)
CLASSES = (Y > 0.2).astype(int)
WIDE = sp.hstack([sp.csr_array(X), sp.csr_array((600, 1500))], format="csr")

FITS = {
    "dual hinge": (DistributedLinearSVC(loss="hinge", solver="dual"), CLASSES),
    "dual squared hinge": (DistributedLinearSVC(solver="dual"), CLASSES),
    "newton hinge": (DistributedLinearSVC(loss="hinge", solver="newton"), CLASSES),
    "svrg": (DistributedSGDRegressor(max_iter=6, tol=None, random_state=0), Y),
    "averaged": (
        DistributedSGDRegressor(
            max_iter=5, tol=None, random_state=0, variance_reduction=None, loss="huber"
        ),
        Y,
    ),
    "plain": (
        DistributedSGDRegressor(
            max_iter=5, tol=None, random_state=0, learning_rate="constant", eta0=0.01
        ),
        Y,
    ),
}


def forgetful(lost_at, *, chosen=None):
    """Return rounds that lose a shard's state at some of their updates, counted from one."""

    class Forgetful(LocalRounds):
        updates, losses = 0, 0

        def update(self, function, broadcast=None):
            Forgetful.updates += 1
            if (
                Forgetful.updates in lost_at
                if chosen is None
                else function.__name__ == chosen and Forgetful.losses < lost_at
            ):
                Forgetful.losses += 1
                self._state.pop(1, None)
                raise StateLost([1])
            return super().update(function, broadcast)

    return Forgetful


def fitted(monkeypatch, name, rows, rounds):
    model, y = FITS[name]
    monkeypatch.setattr(choose, "LocalRounds", rounds)
    return clone(model).set_params(n_shards=3).fit(rows, y)


@pytest.mark.parametrize("rows", [X, WIDE], ids=["dense", "wide CSR"])
@pytest.mark.parametrize("name", ["svrg", "averaged", "plain"])
def test_sgd_has_the_same_bits_whenever_state_is_lost(monkeypatch, name, rows):
    counted = forgetful(())
    whole = fitted(monkeypatch, name, rows, counted)
    expected = np.append(whole.coef_, whole.intercept_)
    assert counted.updates >= 5
    for first in range(1, counted.updates + 1):
        # Once, and again in the repetition.
        rounds = forgetful((first, first + 1, first + 3))
        found = fitted(monkeypatch, name, rows, rounds)
        assert rounds.losses
        np.testing.assert_array_equal(np.append(found.coef_, found.intercept_), expected)
        assert found.n_iter_ == whole.n_iter_


@pytest.mark.parametrize("name", ["dual hinge", "dual squared hinge", "newton hinge"])
def test_svc_is_solved_whenever_state_is_lost(monkeypatch, name):
    counted = forgetful(())
    whole = fitted(monkeypatch, name, X, counted)
    best = whole.objective_
    for first in range(1, counted.updates + 1):
        found = fitted(monkeypatch, name, X, forgetful((first, first + 2)))
        assert found.converged_
        np.testing.assert_allclose(found.objective_, best, rtol=2 * whole.tol)
        assert found.n_support_.sum() > 0


@pytest.mark.parametrize("name", ["dual hinge", "dual squared hinge"])
@pytest.mark.parametrize("losses", [1, 3])
def test_support_vectors_are_counted_although_the_dual_variables_were_lost(
    monkeypatch, name, losses
):
    """They are solved for again, and from the beginning: the answer has the same bits."""
    whole = fitted(monkeypatch, name, X, forgetful(()))
    expected = whole.coef_, whole.n_support_
    rounds = forgetful(losses, chosen="count_dual_support")
    found = fitted(monkeypatch, name, X, rounds)
    assert rounds.losses == losses
    np.testing.assert_array_equal(found.coef_, expected[0])
    np.testing.assert_array_equal(found.n_support_, expected[1])
    assert found.n_support_.sum() > 0


@pytest.mark.parametrize(
    ("name", "chosen"),
    [
        ("dual hinge", "count_dual_support"),
        ("svrg", "on_node"),
        ("dual squared hinge", "dual_round"),
    ],
)
def test_losses_without_end_are_an_error(monkeypatch, name, chosen):
    with pytest.raises(RuntimeError, match=r"workers were lost 6 times.*max-recoveries"):
        fitted(monkeypatch, name, X, forgetful(np.inf, chosen=chosen))
