"""What one row contributes: the piecewise family that holds every loss of the package.

With the residual ``r = y - f`` and the excess ``a = max(|r| - margin, 0)`` every loss is

    phi(r) = scale * a**2 / 2                     where a <= width,
             scale * width * (a - width / 2)      beyond.

Squared error, squared epsilon-insensitive loss (no bound), Huber's loss and the smoothed
epsilon-insensitive loss differ only in ``margin``, ``width`` and ``scale``; so there is one
kernel, and no branch on the kind of loss inside a loop over rows.  ``width`` may be larger than
that of the loss proper (its *target*): solvers that take the width down by continuation then
still learn the value of the target loss and a bound of the distance to it.
"""

from __future__ import annotations

import numba
import numpy as np
from llvmlite import ir
from numba.extending import intrinsic

#: Reassociation lets a dot product use vector registers.  Plain ``fastmath=True`` would also
#: assume that there is no NaN and no infinity, and so delete the checks for them.
FAST = {"reassoc", "contract", "nsz", "arcp", "afn"}

jit = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath=FAST)
#: Where vector registers do not pay.
ordered = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath=FAST - {"reassoc"})
#: For sums of small differences of large numbers, which reassociation would cost their digits.
exact = numba.njit(nogil=True, cache=True, error_model="numpy")
inline = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath=FAST, inline="always")

#: Columns of the array of loss parameters, one row per problem.
MARGIN, WIDTH, SCALE, TARGET_WIDTH, TARGET_SLOPE, TARGET_SCALE, TARGET_INVERSE = range(7)
N_PARAMETERS = 7

#: Columns of the array of weighted sums, one row per problem.
VALUE, TARGET_VALUE, SLACK, DUAL, DUAL_ABS, DUAL_SQUARE, DUAL_EXCESS, RESIDUAL, CURVATURE = range(9)
N_SUMS = 9

#: Stands for "every row weighs one"; kernels take arrays only, so that they compile once.
NO_WEIGHT = np.empty(0)
NO_WEIGHT.flags.writeable = False


@intrinsic
def _expect(_, address):  # noqa: ARG001 - the signature names it
    """Ask for the cache line of an address that will be read soon."""
    number = ir.IntType(32)

    def generate(_, builder, __, arguments):
        pointer = builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [pointer.type, number, number, number])
        function = builder.module.declare_intrinsic("llvm.prefetch", [pointer.type], kind)
        # To be read, into the second cache (the first has too few places to wait in), as data.
        read, level, data = (ir.Constant(number, value) for value in (0, 1, 1))
        builder.call(function, [pointer, read, level, data])

    return numba.void(numba.intp), generate


@inline
def expect(start, n_bytes):
    """Have memory brought near while other rows are worked on: without, steps take twice as long.

    Rows that are not visited in their order are not foreseen by the processor.
    """
    for line in range(0, n_bytes, 64):
        _expect(start + line)  # type: ignore[call-arg]  # numba passes the typing context


@inline
def weight_of_row(weight, unit, i):
    """Return the weight of row ``i``; an empty array stands for ones."""
    if weight.shape[0] == 0:
        return unit
    return unit * weight[i]


@inline
def slope_of_row(r, margin, width, scale):
    """Return the derivative of the loss at residual ``r``."""
    return np.copysign(scale * min(max(abs(r) - margin, 0.0), width), r)


@jit
def loss_sums(r, weight, unit, parameters, sums, u, curvature):
    """Add the loss sums of some rows of one problem; write their weighted slopes.

    Parameters
    ----------
    r : ndarray of shape (n_rows,)
        Residuals.
    weight : ndarray of shape (n_rows,)
        Sample weights of these rows.
    unit : float
        Factor on all weights.
    parameters : ndarray of shape (7,)
        Loss parameters.
    sums : ndarray of shape (9,)
        Added to.  ``SLACK`` gathers ``phi0(r) + phi0*(u) - u r >= 0`` of the target loss phi0
        with ``u = phi'(r)``, the slope of the wider one: what the wider width costs in the
        duality gap.
    u : ndarray of shape (n_rows,) or (0,)
        Receives ``s * phi'(r)``, unless empty; may be ``r`` itself.
    curvature : ndarray of shape (n_rows,) or (0,)
        Receives ``s * phi''(r)``, unless empty.
    """
    margin, width, scale = parameters[MARGIN], parameters[WIDTH], parameters[SCALE]
    target_width, target_slope = parameters[TARGET_WIDTH], parameters[TARGET_SLOPE]
    target_scale, target_inverse = parameters[TARGET_SCALE], parameters[TARGET_INVERSE]
    value = target_value = slack = dual = dual_abs = dual_square = dual_excess = 0.0
    residual = inside = 0.0
    for i in range(r.shape[0]):
        s = unit * weight[i]
        ri = r[i]
        excess = max(abs(ri) - margin, 0.0)
        short = min(excess, width)
        slope = scale * short
        weighted = s * slope
        beyond = target_slope * (excess - 0.5 * target_width)
        within = 0.5 * target_scale * excess * excess
        target = beyond if excess > target_width else within
        value += weighted * (excess - 0.5 * short)
        target_value += s * target
        slack += s * (target + 0.5 * target_inverse * slope * slope - slope * excess)
        dual += np.copysign(weighted, ri)
        dual_abs += weighted
        dual_square += weighted * slope
        dual_excess += weighted * excess
        residual += s * ri
        inside += s if (abs(ri) >= margin) & (excess <= width) else 0.0
    sums[VALUE] += value
    sums[TARGET_VALUE] += target_value
    sums[SLACK] += slack
    sums[DUAL] += dual
    sums[DUAL_ABS] += dual_abs
    sums[DUAL_SQUARE] += dual_square
    sums[DUAL_EXCESS] += dual_excess
    sums[RESIDUAL] += residual
    sums[CURVATURE] += scale * inside
    if curvature.shape[0] > 0:
        for i in range(r.shape[0]):
            bent = (abs(r[i]) >= margin) & (abs(r[i]) - margin <= width)
            curvature[i] = scale * unit * weight[i] if bent else 0.0
    if u.shape[0] > 0:
        for i in range(r.shape[0]):
            u[i] = unit * weight[i] * slope_of_row(r[i], margin, width, scale)


@inline
def group_weights(weight, start, out):
    """Copy the weights of some rows; an empty array stands for ones, which ``out`` holds."""
    if weight.shape[0] > 0:
        for i in range(out.shape[0]):
            out[i] = weight[start + i]


@inline
def group_targets(y, start, column, mean, out):
    """Write the targets of some rows less their mean.

    A loop of its own, before predictions are subtracted: in one expression reassociation would
    make ``y - (mean + f)`` of ``(y - mean) - f``, and a mean far from zero cost ``f`` its digits.
    """
    for i in range(out.shape[0]):
        out[i] = y[start + i, column] - mean


@jit
def slopes_of_tile(F, y, start, weight, unit, column, target_mean, c, parameters, sums, bend):
    """Replace predictions ``F[c]`` by weighted slopes and add problem ``c``'s loss sums."""
    targets = np.empty(F.shape[1])
    group_targets(y, start, column[c], target_mean[c], targets)
    for i in range(F.shape[1]):
        F[c, i] = targets[i] - F[c, i]
    s = np.ones(F.shape[1])
    group_weights(weight, start, s)
    loss_sums(F[c], s, unit, parameters[c], sums[c], F[c], bend)
