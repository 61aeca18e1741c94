"""What a sample of rows makes of the objective, against brute force."""

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.optimize import minimize, minimize_scalar

from dask_dml.blocks import Shard, frozen
from dask_dml.kernels.sgd_rows import CONSTANT, CORRECTED, draws
from dask_dml.objective.losses import make_loss
from dask_dml.objective.penalties import make_penalty
from dask_dml.rounds.local import LocalRounds
from dask_dml.solvers.sgd import sample_pass
from dask_dml.solvers.sgd.local_steps import Visit, Wants
from dask_dml.solvers.sgd.node_cache import Ground, Memory, Node
from dask_dml.solvers.sgd.sample_model import Known, Proposal, SampleModel, Sampler
from dask_dml.solvers.sgd.task import Nodes, frame_of, look

PENALTIES = {
    "none": make_penalty(None, 0.0, 0.0),
    "l2": make_penalty("l2", 0.3, 0.0),
    "elasticnet": make_penalty("elasticnet", 0.5, 0.6),
}


def sample_model(penalty, seed=0, p=4):
    rng = np.random.default_rng(seed)
    factor = rng.standard_normal((p + 3, p + 1))
    point = rng.standard_normal(p + 1)
    point[1] = 0.0
    return SampleModel(factor.T @ factor, point, rng.standard_normal(p + 1), PENALTIES[penalty])


def value(model, change):
    """Return the objective of the model after a change, relative to the point's data term."""
    w = model.point[:-1] + change[:-1]
    data = model.gradient @ change + 0.5 * change @ model.bend @ change
    return data + model.penalty.l1 * np.abs(w).sum() + 0.5 * model.penalty.l2 * w @ w


def minimiser(model, free, n_rounds=600):
    """Minimise coordinate by coordinate: ten lines that know nothing of active sets."""
    w, origin = model.point.copy(), model.point
    for _ in range(n_rounds):
        for j in range(len(w) if free else len(w) - 1):
            slope = model.gradient[j] + model.bend[j] @ (w - origin)
            last = j == len(w) - 1
            l1, l2 = (0.0, 0.0) if last else (model.penalty.l1, model.penalty.l2)
            target = model.bend[j, j] * w[j] - slope
            w[j] = np.sign(target) * max(abs(target) - l1, 0.0) / (model.bend[j, j] + l2)
    return w - origin


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("free", [True, False])
@pytest.mark.parametrize("penalty", PENALTIES)
def test_best_change_is_the_minimiser(penalty, free, seed):
    model = sample_model(penalty, seed)
    found, expected = model.best_change(free), minimiser(model, free)
    np.testing.assert_allclose(found, expected, atol=1e-8)
    zeros = (model.point + expected)[:-1] == 0.0
    np.testing.assert_array_equal((model.point + found)[:-1][zeros], 0.0)
    assert free or found[-1] == 0.0


@pytest.mark.parametrize("penalty", PENALTIES)
def test_decreases_are_differences_of_the_objective(penalty):
    model = sample_model(penalty)
    rng, still = np.random.default_rng(1), np.zeros(5)
    for _ in range(5):
        change = rng.standard_normal(5)
        fall = value(model, still) - value(model, change)
        assert model.decrease(change) == pytest.approx(fall, abs=1e-12)
        along = minimize_scalar(
            lambda t, d=change: value(model, t * d), bounds=(0.0, 4.0), options={"xatol": 1e-10}
        )
        most = max(value(model, still) - along.fun, 0.0)
        assert model.largest_decrease(change) == pytest.approx(most, abs=1e-8)


def test_slopes_and_bends_on_a_span_are_derivatives():
    model = sample_model("l2")
    changes = np.random.default_rng(2).standard_normal((3, 5))
    slopes, bends = model.on_span(changes)

    def along(*shares):
        return value(model, np.array(shares) @ changes)

    unit = np.eye(3)
    # The objective is quadratic: central differences are exact but for rounding.
    for i in range(3):
        assert slopes[i] == pytest.approx(0.5 * (along(*unit[i]) - along(*-unit[i])), rel=1e-10)
        for j in range(3):
            signs = [(a, b) for a in (1, -1) for b in (1, -1)]
            mixed = sum(a * b * along(*(a * unit[i] + b * unit[j])) for a, b in signs)
            assert bends[i, j] == pytest.approx(mixed / 4.0, rel=1e-10)


def proposal_of(penalty):
    first = sample_model(penalty)
    bends = [first.bend, first.bend + 0.1 * sample_model(penalty, 1).bend]
    halves = [SampleModel(bend, first.point, first.gradient, first.penalty) for bend in bends]
    whole = SampleModel(0.5 * sum(bends), first.point, first.gradient, first.penalty)
    changes = [model.best_change(free=True) for model in halves]
    checks = [(halves[0], changes[1]), (halves[1], changes[0])]
    return Proposal(whole, whole.best_change(free=True), checks)


@pytest.mark.parametrize("penalty", ["none", "l2"])
def test_a_mixture_is_the_best_one_by_both_halves(penalty):
    proposal = proposal_of(penalty)
    other = np.random.default_rng(3).standard_normal(5)

    def promise(shares):
        return float(
            np.mean(
                [
                    m.decrease(shares[0] * other + shares[1] * change)
                    for m, change in proposal.checks
                ]
            )
        )

    best = minimize(lambda shares: -promise(shares), np.zeros(2), tol=1e-12)
    change, promised = proposal.blend(other)
    assert promised == pytest.approx(-best.fun, rel=1e-8)
    np.testing.assert_allclose(
        change, best.x[0] * other + best.x[1] * proposal.change, rtol=1e-4, atol=1e-6
    )
    assert promised >= max(promise([0.0, 1.0]), proposal.promised) - 1e-12


def test_with_zeros_at_stake_the_better_change_is_taken_as_it_is():
    proposal = proposal_of("elasticnet")
    good, poor = proposal.model.best_change(free=True), -proposal.change
    np.testing.assert_array_equal(proposal.blend(good)[0], good)
    change, promised = proposal.blend(poor)
    np.testing.assert_array_equal(change, proposal.change)
    falls = [model.decrease(own) for model, own in proposal.checks]
    assert promised == proposal.promised == pytest.approx(np.mean(falls))


# The sample itself


def make_rows(n=301, p=5, seed=0, weighted=False):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, p)) * (rng.random((n, p)) < 0.6)
    X[:, 0] = 40.0 + rng.standard_normal(n)
    y = np.column_stack([X[:, 1] + rng.standard_normal(n), 3.0 * rng.standard_normal(n)])
    return X, y, rng.random(n) + 0.2 if weighted else None


def visit_of(loss, width, target_mean, point):
    n_problems = len(target_mean)
    return Visit(
        point=point,
        gradient=np.zeros_like(point),
        kind=CORRECTED,
        literal=False,
        column=np.arange(n_problems),
        parameters=np.tile(loss.parameters(width), (n_problems, 1)),
        schedule=np.tile([CONSTANT, 0.1, 0.0, 0.0, 0.0], (n_problems, 1)),
        l2=np.zeros(n_problems),
        l1=np.zeros(n_problems),
        target_mean=target_mean,
        batch=1,
        n_steps=None,
        shuffle=True,
        key=7,
        epoch=0,
        rows_before=0,
        tail=0.5,
        wants=Wants(mean=True),
    )


def slope(loss, epsilon, r):
    size = np.abs(r)
    return (
        np.sign(r)
        * {
            "squared_error": size,
            "huber": np.minimum(size, epsilon),
            "epsilon_insensitive": np.where(
                size > epsilon, np.minimum((size - epsilon) / 0.2, 1), 0
            ),
            "squared_epsilon_insensitive": 2.0 * np.maximum(size - epsilon, 0.0),
        }[loss]
    )


@pytest.mark.parametrize("units", [None, 3.5])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n_blocks", [1, 3])
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize(
    "loss", ["squared_error", "huber", "epsilon_insensitive", "squared_epsilon_insensitive"]
)
def test_a_sample_of_all_rows_has_the_exact_moments(loss, sparse, n_blocks, weighted, units):
    X, y, weight = make_rows(weighted=weighted)
    epsilon, number, mean = 0.4, 2, np.array([40.0, 0.0, 0.0, 0.0, 0.0])
    if not sparse:
        mean = mean + 0.1
    point, target_mean = np.random.default_rng(1).standard_normal((2, 6)), np.array([0.2, -1.0])
    rows = np.array_split(np.arange(len(y)), n_blocks)
    container = sp.csr_array if sparse else np.ascontiguousarray
    shard = Shard(number, tuple(
        frozen(container(X[i]), np.ascontiguousarray(y[i]),
               None if weight is None else weight[i], ())
        for i in rows
    ))  # fmt: skip
    given = None if units is None else np.full(3, units)
    node = Node(shard, Memory(Ground(mean, np.ones(6), None, given)))
    visit = visit_of(make_loss(loss, epsilon), 0.2, target_mean, point)
    found = sample_pass.curvatures(node, sample_pass.Directions(None, visit, (0, 0, len(y))))
    Z = np.column_stack([X - mean, np.ones(len(X))])
    s = np.ones(len(y)) if weight is None else weight
    total = (units or 1.0) * s.sum()
    assert found.shape == (1 if loss == "squared_error" else 2, 2, 7, 6)
    for c in range(len(found)):
        left = y[:, c] - target_mean[c] - Z @ point[c]
        pull = slope(loss, epsilon, left)
        # The least curvature keeps rows inside the tube from counting for nothing.
        least = 1e-3 * (5.0 if loss == "epsilon_insensitive" else 2.0)
        bend = s * np.where(pull != 0.0, pull / left, least)
        parts = [
            (Z[half].T * bend[half]) @ Z[half] * (total / s[half].sum())
            for half in (slice(0, None, 2), slice(1, None, 2))
        ]
        tolerance = 1e-12 * np.abs(parts[0]).max()
        np.testing.assert_allclose(found[c, 0, :-1], parts[0], rtol=1e-10, atol=tolerance)
        np.testing.assert_allclose(found[c, 1, :-1], parts[1], rtol=1e-10, atol=tolerance)
        np.testing.assert_allclose(found[c, :, -1], total, rtol=1e-12)
        # Halves weighted by their rows are the whole.
        shares = np.array([s[0::2].sum(), s[1::2].sum()]) / s.sum()
        whole = (Z.T * bend) @ Z * (total / s.sum())
        np.testing.assert_allclose(
            np.tensordot(shares, found[c, :, :-1], axes=1), whole, rtol=1e-10, atol=tolerance
        )


@pytest.mark.parametrize("sparse", [False, True])
def test_directions_have_the_bends_of_the_moments(sparse):
    X, y, weight = make_rows(weighted=True)
    container = sp.csr_array if sparse else np.ascontiguousarray
    shard = Shard(0, (frozen(container(X), y, weight, ()),))
    mean = np.array([40.0, 0.0, 0.0, 0.0, 0.0])
    node = Node(shard, Memory(Ground(mean, np.ones(6), None, None)))
    rng = np.random.default_rng(4)
    visit = visit_of(make_loss("huber", 0.5), 0.0, np.zeros(2), rng.standard_normal((2, 6)))
    changes = rng.standard_normal((2, 3, 6))
    ask = sample_pass.Directions
    whole = sample_pass.curvatures(node, ask(None, visit, (len(y),)))[:, :, :-1]
    found = sample_pass.curvatures(node, ask(changes, visit, (len(y),)))[:, :, :-1]
    for c, half in np.ndindex(2, 2):
        expected = changes[c] @ whole[c, half] @ changes[c].T
        np.testing.assert_allclose(found[c, half], expected, rtol=1e-9, atol=1e-9)


def test_parabolas_lie_above_hubers_loss_and_touch_it():
    parameters = make_loss("huber", 0.7).parameters(0.0)
    u = np.linspace(-5.0, 5.0, 2001)

    def loss(r):
        return np.where(np.abs(r) < 0.7, 0.5 * r**2, 0.7 * (np.abs(r) - 0.35))

    for r in (-4.0, -0.71, -0.3, 0.01, 0.69, 1.0, 3.0):
        c = sample_pass.majorant_curvature(np.array([r]), parameters)[0]
        pull = np.clip(r, -0.7, 0.7)
        parabola = loss(np.array(r)) + pull * (u - r) + 0.5 * c * (u - r) ** 2
        assert np.all(parabola >= loss(u) - 1e-12)
        # A flatter one would not do.
        assert c == pytest.approx(pull / r)


def test_samples_are_in_proportion_and_not_too_small():
    assert sample_pass.sample_sizes((8000, 1000, 100, 10), 1024) == (899, 112, 64, 10)
    assert sample_pass.sample_sizes((), 1024) == ()


@pytest.mark.parametrize(
    ("n_features", "n_problems", "quadratic", "able"),
    [(511, 50, True, True), (512, 1, True, False), (511, 2, False, False), (300, 2, False, True)],
)
def test_moments_that_all_nodes_send_stay_small(n_features, n_problems, quadratic, able):
    known = Known(np.ones(n_features), None, centred=True)
    rounds = LocalRounds([Shard(0, (frozen(np.ones((2, 1)), np.ones((2, 1)), None, ()),))])
    sampler = Sampler(Nodes(rounds, None), PENALTIES["l2"], known, n_problems, quadratic=quadratic)
    assert sampler.able == able


# What must not be taken from the sample


class Watched(Nodes):
    """Nodes that count what is asked of them."""

    n_probes = 0

    def probe(self, function, broadcast=None):
        self.n_probes += 1
        return super().probe(function, broadcast)


@pytest.mark.parametrize("trace", [0.0, 1e-5])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("sparse", [False, True])
def test_a_column_missing_from_the_sample_has_its_variance_and_no_correlation(
    sparse, fit_intercept, trace
):
    n, p, key, l2 = 4000, 3, 7, 0.01
    seeds = np.random.SeedSequence([key, 0, 0, 1])
    seen = draws(seeds.generate_state(1, np.uint64)[0], 1024, n)
    hidden = np.setdiff1d(np.arange(n), seen)
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, p)) * (rng.random((n, p)) < 0.5) + 0.5 * (not sparse)
    # Next to nothing that goes with another column, or nothing.
    X[:, 1] = trace * X[:, 0]
    X[hidden[:20], 1] = 5.0
    y = rng.standard_normal(n)[:, None]
    nodes = Watched(
        LocalRounds([Shard(0, (frozen(sp.csr_array(X) if sparse else X, y, None, ()),))]), None
    )
    survey = look(nodes, None)
    frame = frame_of(survey, centred=fit_intercept)
    metric = np.append(np.ones(p), float(fit_intercept))
    nodes.settle(Ground(frame.mean, metric, None, None))
    square = np.mean(X**2, axis=0)
    variance = np.var(X, axis=0) if fit_intercept else square
    mean = frame.residual_mean
    penalty = make_penalty("l2", l2, 0.0)
    sampler = Sampler(
        nodes, penalty, Known(frame.spread**2 - mean**2 * fit_intercept, mean, fit_intercept), 1,
        quadratic=True,
    )  # fmt: skip
    point = np.append(rng.standard_normal(p), 0.0)[None]
    visit = visit_of(make_loss("squared_error", 0.0), 0.0, np.zeros(1), point)
    gradient = np.append(rng.standard_normal(p), 0.0)
    change = sampler.propose(Visit(**(vars(visit) | {"gradient": gradient[None], "key": key})))[0]
    expected = -(gradient[1] + l2 * point[0, 1]) / (variance[1] + l2)
    assert change[1] == pytest.approx(expected, rel=1e-9)
    # The others are as if it were not there, but for the sample's noise.
    rest = [0, 2]
    moments = np.cov(X[:, rest].T, ddof=0) if fit_intercept else X[:, rest].T @ X[:, rest] / n
    pull = -(gradient[rest] + l2 * point[0, rest])
    others = np.linalg.solve(moments + l2 * np.eye(2), pull)
    np.testing.assert_allclose(change[rest], others, rtol=0.15)
    assert fit_intercept or change[-1] == 0.0
    # Second moments of squared error are the same everywhere: they are gathered once.
    sampler.propose(Visit(**(vars(visit) | {"gradient": gradient[None], "key": key})))
    assert nodes.n_probes == 1
