"""Loss sums that multipliers move, against plain NumPy."""

import numpy as np
import pytest
import reference
from pass_inputs import make_point, make_shard

from dask_dml.kernels import rows
from dask_dml.passes.evaluate import loss_sums, shifted_loss_sums

X, Y, WEIGHT = reference.table(90, 4, seed=3)
KINK, WIDTH = ("epsilon_insensitive", 0.2), 0.7


def evaluate(shard, state, coef, *, advance=False, hessian=False):
    point = make_point(coef, 0.1, [KINK], hessian=hessian, widths=[WIDTH])
    point = type(point)(**(vars(point) | {"numbers": (0,), "advance": (advance,)}))
    return shifted_loss_sums(shard, state, point)


def envelope(v):
    """Return the smoothed loss and its slope: the best of ``loss(z) + (v - z)**2 / (2 WIDTH)``."""
    excess = np.maximum(np.abs(v) - KINK[1], 0.0)
    value = np.where(excess <= WIDTH, excess**2 / (2 * WIDTH), excess - WIDTH / 2)
    return value, np.sign(v) * np.minimum(excess / WIDTH, 1.0)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("hessian", [False, True])
def test_shifted_sums_are_those_of_plain_numpy(sparse, dtype, hessian):
    shard = make_shard(X, Y, WEIGHT, cuts=(30, 30), dtype=dtype, sparse=sparse)
    first, second = np.full(4, 0.3), np.array([1.0, -0.5, 0.2, 0.0])
    state, plain = evaluate(shard, None, first, hessian=hessian)
    np.testing.assert_allclose(
        plain.sums,
        loss_sums(shard, make_point(first, 0.1, [KINK], hessian=hessian, widths=[WIDTH])).sums,
        rtol=1e-12, atol=1e-12,
    )  # fmt: skip
    r = Y - X.astype(dtype).astype(float) @ first - 0.1
    multiplier = envelope(r)[1]
    _, got = evaluate(shard, state, second, advance=True, hessian=hessian)
    _, kept = evaluate(shard, state, second, hessian=hessian)
    r = Y - X.astype(dtype).astype(float) @ second - 0.1
    value, slope = envelope(r + WIDTH * multiplier)
    loss = np.maximum(np.abs(r) - KINK[1], 0.0)
    expected = {
        rows.VALUE: value - WIDTH * multiplier**2 / 2,
        rows.TARGET_VALUE: loss,
        rows.SLACK: loss + KINK[1] * np.abs(slope) - slope * r,
        rows.DUAL: slope,
        rows.DUAL_ABS: np.abs(slope),
        rows.DUAL_SQUARE: slope**2,
        rows.DUAL_EXCESS: slope * r - KINK[1] * np.abs(slope),
        rows.RESIDUAL: r,
    }
    for name, terms in expected.items():
        np.testing.assert_allclose(got.sums[0, name], WEIGHT @ terms, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(got.gradient[0], (WEIGHT * slope) @ X.astype(dtype), rtol=1e-9)
    assert abs(kept.sums[0, rows.VALUE] - got.sums[0, rows.VALUE]) > 1e-3
    if hessian:
        v = r + WIDTH * multiplier
        bent = (np.abs(v) >= KINK[1]) & (np.abs(v) <= KINK[1] + WIDTH)
        ones = np.column_stack([X.astype(dtype).astype(float), np.ones(len(Y))])
        full = (ones * (WEIGHT * bent / WIDTH)[:, None]).T @ ones
        np.testing.assert_allclose(np.tril(got.hessian[0]), np.tril(full), rtol=1e-9, atol=1e-9)
