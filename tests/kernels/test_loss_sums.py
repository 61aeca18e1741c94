"""The gradient passes against plain NumPy and finite differences."""

from itertools import product

import numpy as np
import pytest
import scipy.sparse as sp
from pass_inputs import make_point, make_shard, plain
from reference import LOSSES

from dask_dml.kernels import rows
from dask_dml.passes.evaluate import loss_sums

N, P = 137, 7
RNG = np.random.default_rng(0)
X = RNG.standard_normal((N, P)) * (RNG.random((N, P)) < 0.6)
Y = RNG.standard_normal((N, 3)) * 2
WEIGHT = RNG.uniform(0, 2, N) * (RNG.random(N) < 0.8)
COEF = RNG.standard_normal((3, P))
B = np.array([0.3, -0.2, 0.1])

LAYOUTS = list(product((False, True), (np.float64, np.float32)))


@pytest.mark.parametrize(("sparse", "dtype"), LAYOUTS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n_problems", [1, 3])
@pytest.mark.parametrize("loss", LOSSES)
def test_values_and_gradients_are_those_of_plain_numpy(sparse, dtype, weighted, n_problems, loss):
    weight = WEIGHT if weighted else None
    shard = make_shard(X, Y, weight, cuts=(1, 50, 50), dtype=dtype, sparse=sparse, number=1)
    mean = RNG.standard_normal(P) * 0.1
    losses = [(loss, 0.3 * (c + 1)) for c in range(n_problems)]
    column = [2, 0, 1][:n_problems]
    point = make_point(
        COEF[:n_problems], B[:n_problems], losses, mean=mean, target_mean=0.5, column=column,
        units=[9.0, 0.7],
    )  # fmt: skip
    got = loss_sums(shard, point)
    s = 0.7 * (np.ones(N) if weight is None else weight)
    for c in range(n_problems):
        value, gradient, total = plain(
            X.astype(dtype), Y[:, column[c]], s, COEF[c], B[c], losses[c], mean, 0.5
        )
        np.testing.assert_allclose(got.sums[c, rows.VALUE], value, rtol=1e-12)
        np.testing.assert_allclose(got.sums[c, rows.TARGET_VALUE], value, rtol=1e-12)
        np.testing.assert_allclose(got.gradient[c], gradient, rtol=1e-11, atol=1e-11)
        np.testing.assert_allclose(got.sums[c, rows.DUAL], total, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(("sparse", "dtype"), LAYOUTS)
@pytest.mark.parametrize("hessian", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_are_finite_differences_of_the_values(sparse, dtype, hessian, loss):
    """A width above the loss's own makes kinks smooth, so that differences make sense."""
    shard = make_shard(X, Y[:, 0], WEIGHT, dtype=dtype, sparse=sparse)

    def at(w, b):
        point = make_point(w, b, [(loss, 0.4)], mean=np.full(P, 0.2), hessian=hessian, widths=[0.8])
        return loss_sums(shard, point)

    here, h = at(COEF[0], 0.1), 1e-6
    for j in range(P + 1):
        step = np.zeros(P + 1)
        step[j] = h
        up = at(COEF[0] + step[:P], 0.1 + step[P]).sums[0, rows.VALUE]
        down = at(COEF[0] - step[:P], 0.1 - step[P]).sums[0, rows.VALUE]
        slope = here.gradient[0, j] if j < P else here.sums[0, rows.DUAL]
        # The pass sums slopes in r, and r falls where the coefficients grow.
        assert (up - down) / (2 * h) == pytest.approx(-slope, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(("sparse", "dtype"), LAYOUTS)
@pytest.mark.parametrize("n_problems", [1, 2])
@pytest.mark.parametrize("loss", LOSSES)
def test_hessians_are_the_curvature_weighted_products(sparse, dtype, n_problems, loss):
    shard = make_shard(X, Y, WEIGHT, cuts=(40,), dtype=dtype, sparse=sparse)
    mean = np.linspace(-1, 1, P)
    losses = [(loss, 0.4), (loss, 0.9)][:n_problems]
    point = make_point(
        COEF[:n_problems], 0.1, losses, mean=mean, hessian=True, widths=[0.8] * n_problems
    )
    got = loss_sums(shard, point)
    for c in range(n_problems):
        centred = X.astype(dtype) - mean
        excess = np.abs(Y[:, 0] - centred @ COEF[c] - 0.1)
        if "insensitive" in loss:
            excess = excess - losses[c][1]
        bend = {
            "squared_error": np.ones(N),
            "squared_epsilon_insensitive": 2.0 * (excess > 0),
            # Smoothed to a width of 0.8: the slope beyond is that of the loss.
            "huber": (excess <= max(0.8, losses[c][1])) * losses[c][1] / max(0.8, losses[c][1]),
            "epsilon_insensitive": ((excess > 0) & (excess <= 0.8)) / 0.8,
        }[loss]
        rows_of_one = np.column_stack([centred, np.ones(N)])
        expected = (rows_of_one * (WEIGHT * bend)[:, None]).T @ rows_of_one
        np.testing.assert_allclose(np.tril(got.hessian[c]), np.tril(expected), atol=1e-10)
        np.testing.assert_allclose(got.sums[c, rows.CURVATURE], WEIGHT @ bend, rtol=1e-12)


@pytest.mark.parametrize("hessian", [False, True])
@pytest.mark.parametrize("shift", [0.0, 1e6, 1e9])
def test_offset_columns_keep_their_digits(shift, hessian):
    moved = X + shift
    shard = make_shard(moved, Y[:, 0], WEIGHT)
    mean = moved.mean(axis=0)
    point = make_point(COEF[0], 0.1, [("huber", 0.5)], mean=mean, offset=shift > 0, hessian=hessian)
    got = loss_sums(shard, point)
    _, gradient, _ = plain(moved, Y[:, 0], WEIGHT, COEF[0], 0.1, ("huber", 0.5), mean)
    np.testing.assert_allclose(got.gradient[0], gradient, rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 1023, 1024, 1025, 2049])
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("hessian", [False, True])
def test_every_number_of_rows_is_summed_completely(n, sparse, hessian):
    """Groups and pairs of rows have edges."""
    values = np.arange(2.0 * n).reshape(n, 2) / max(n, 1)
    shard = make_shard(values, np.arange(n) / 7.0, None, sparse=sparse)
    w = np.array([0.5, -0.25])
    got = loss_sums(shard, make_point(w, 0.25, [("squared_error", 0.0)], hessian=hessian))
    _, gradient, total = plain(
        values, np.arange(n) / 7.0, np.ones(n), w, 0.25, ("squared_error", 0.0)
    )
    np.testing.assert_allclose(got.gradient[0], gradient, rtol=1e-12)
    np.testing.assert_allclose(got.sums[0, rows.DUAL], total, rtol=1e-12)


@pytest.mark.parametrize("sparse", [False, True])
def test_float32_data_accumulate_in_float64(sparse):
    """Two hundred thousand float32 additions would leave about three digits."""
    n = 200_000
    values = np.full((n, 1), 0.1, np.float32)
    shard = make_shard(values, np.zeros(n), dtype=np.float32, sparse=sparse)
    got = loss_sums(shard, make_point([1.0], 0.0, [("squared_error", 0.0)]))
    one = float(np.float32(0.1))
    np.testing.assert_allclose(got.gradient[0, 0], -n * one**2, rtol=1e-10)
    assert got.gradient.dtype == got.sums.dtype == np.float64


def test_partial_sums_add_up():
    whole = make_shard(X, Y[:, 0], WEIGHT)
    first = make_shard(X[:30], Y[:30, 0], WEIGHT[:30])
    second = make_shard(X[30:], Y[30:, 0], WEIGHT[30:])
    point = make_point(COEF[0], 0.1, [("huber", 0.5)], hessian=True)
    total = loss_sums(first, point) + loss_sums(second, point)
    expected = loss_sums(whole, point)
    np.testing.assert_allclose(total.gradient, expected.gradient, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(total.sums, expected.sums, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(total.hessian, expected.hessian, rtol=1e-12, atol=1e-12)


def test_csr_with_64_bit_indices_and_empty_rows():
    csr = sp.csr_array(X)
    csr.indices, csr.indptr = csr.indices.astype(np.int64), csr.indptr.astype(np.int64)
    shard = make_shard(X, Y[:, 0], sparse=True)
    wide = make_shard(X, Y[:, 0], sparse=True)
    object.__setattr__(wide.blocks[0], "X", csr)
    point = make_point(COEF[0], 0.1, [("huber", 0.5)], hessian=True)
    np.testing.assert_array_equal(loss_sums(shard, point).gradient, loss_sums(wide, point).gradient)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize(("n_problems", "hessian"), [(1, False), (2, False), (1, True)])
@pytest.mark.parametrize("n", [1, 2, 7, 100])
def test_targets_far_from_zero_leave_predictions_their_digits(sparse, n_problems, hessian, n):
    """A compiler that may reassociate makes ``y - (mean + f)`` of ``(y - mean) - f``."""
    w = np.array([0.1, 0.2, 0.3]) * 1e-9
    values = np.random.default_rng(n).standard_normal((n, 3))
    shard = make_shard(values, np.full(n, 1e9), sparse=sparse)
    point = make_point(
        np.tile(w, (n_problems, 1)), 0.0, [("squared_error", 0.0)] * n_problems,
        target_mean=1e9, hessian=hessian,
    )  # fmt: skip
    got = loss_sums(shard, point).sums[0, rows.RESIDUAL]
    assert got == pytest.approx(-(values @ w).sum(), rel=1e-9, abs=1e-22)
