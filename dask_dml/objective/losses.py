"""The regression losses, all members of one piecewise family.

See `dask_dml.kernels.rows` for the family.  A loss is three numbers; a *width* larger than the
loss's own gives a smoother loss below it (its Moreau envelope where the loss has a kink), which
is what continuation methods solve first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

#: Stands for "no width at all": wide enough to be a number, narrower than any residual.
_TINY = 1e-200


@dataclass(frozen=True)
class Loss:
    """A convex loss of the residual ``r = y - f``.

    Attributes
    ----------
    margin : float
        Residuals up to this size cost nothing.
    width : float
        The excess over the margin up to which the loss is quadratic; 0 for a kink, infinity for
        a loss that is quadratic throughout.
    slope : float
        Slope beyond the width; infinity for a loss that is quadratic throughout.
    curvature : float
        Second derivative in the quadratic part of a loss of infinite width.
    tilt : float
        Slope of a linear term ``tilt * r``, smaller than `slope`: what makes a loss lopsided.  The
        kernels know nothing of it, as its sum over the rows follows from the mean residual.  Only
        for losses with a kink and no margin.
    """

    margin: float = 0.0
    width: float = np.inf
    slope: float = np.inf
    curvature: float = 1.0
    tilt: float = 0.0

    @property
    def bounded_slope(self) -> bool:
        """Whether the loss grows linearly in the end."""
        return bool(np.isfinite(self.slope))

    @property
    def quadratic(self) -> bool:
        """Whether the loss is a plain parabola, so that one Newton step solves it."""
        return not self.bounded_slope and self.margin == 0.0

    @property
    def inverse_curvature(self) -> float:
        """Coefficient of ``u**2 / 2`` in the convex conjugate ``margin |u| + u**2 / ...``."""
        return self.width / self.slope if self.bounded_slope else 1.0 / self.curvature

    def parameters(self, width: float = 0.0) -> np.ndarray:
        """Return the kernels' parameters, shape (7,), at the loss's or a larger width."""
        if not self.bounded_slope:
            c = self.curvature
            return np.array([self.margin, np.inf, c, np.inf, 0.0, c, 1.0 / c])
        width = max(width, self.width, _TINY)
        target_scale = self.slope / self.width if self.width > 0.0 else 0.0
        return np.array(
            [
                self.margin,
                width,
                self.slope / width,
                self.width,
                self.slope,
                target_scale,
                self.inverse_curvature,
            ]
        )

    def max_curvature(self, width: float = 0.0) -> float:
        """Return the largest second derivative at the loss's or a larger width."""
        return float(self.parameters(width)[2])

    def value(self, residual: float) -> float:
        """Return the loss of one residual."""
        excess = max(abs(residual) - self.margin, 0.0)
        if not self.bounded_slope:
            return 0.5 * self.curvature * excess**2
        if excess > self.width:
            return self.slope * (excess - 0.5 * self.width) + self.tilt * residual
        return 0.5 * self.slope / self.width * excess**2 if self.width > 0.0 else 0.0


@dataclass(frozen=True)
class Entry:
    """A loss by name: what the estimators, their documentation and the tests know of it.

    Attributes
    ----------
    make : callable
        ``make(epsilon, quantile)`` returns the `Loss`.
    formula : str
        The loss of ``r = y - f``, in LaTeX, as the guide has it.
    stochastic : bool
        Whether `DistributedSGDRegressor` has it, too.
    """

    make: Callable[[float, float], Loss]
    formula: str
    stochastic: bool = True


def _huber(epsilon: float, _: float) -> Loss:
    if not epsilon > 0.0:
        raise ValueError(
            "loss='huber' needs epsilon > 0, got 0: the loss is linear beyond epsilon. "
            "For the absolute error use loss='epsilon_insensitive' with epsilon=0."
        )
    return Loss(width=epsilon, slope=epsilon)


#: All regression losses, by scikit-learn's names.
LOSSES: dict[str, Entry] = {
    "squared_error": Entry(lambda _, __: Loss(), r"\tfrac12 r^2"),
    "huber": Entry(
        _huber,
        r"\tfrac12 r^2$ where $\lvert r \rvert \le \varepsilon$, else "
        r"$\varepsilon \lvert r \rvert - \tfrac12 \varepsilon^2",
    ),
    "epsilon_insensitive": Entry(
        lambda epsilon, _: Loss(margin=epsilon, width=0.0, slope=1.0),
        r"\max(0, \lvert r \rvert - \varepsilon)",
    ),
    "squared_epsilon_insensitive": Entry(
        lambda epsilon, _: Loss(margin=epsilon, curvature=2.0),
        r"\max(0, \lvert r \rvert - \varepsilon)^2",
    ),
    # Half the absolute error, tilted (Koenker and Bassett, 1978).
    "quantile": Entry(
        lambda _, quantile: Loss(width=0.0, slope=0.5, tilt=quantile - 0.5),
        r"\max(q r, (q - 1) r)",
        stochastic=False,
    ),
}
#: Those of `DistributedSGDRegressor`.
STOCHASTIC = tuple(name for name, entry in LOSSES.items() if entry.stochastic)


def make_loss(name: str, epsilon: float, quantile: float = 0.5) -> Loss:
    """Return the loss of scikit-learn's name.

    Parameters
    ----------
    name : str
        A key of `LOSSES`; as in `sklearn.linear_model.SGDRegressor`, ``"quantile"`` as in
        `QuantileRegressor`.
    epsilon : float
        Where Huber's loss turns linear, or half the width of the insensitive tube; in units of y.
    quantile : float, default=0.5
        The quantile that ``"quantile"`` estimates, between 0 and 1.

    Raises
    ------
    ValueError
        If the name is unknown, or ``epsilon`` is zero where the loss would vanish.
    """
    if name not in LOSSES:
        raise ValueError(f"unknown loss {name!r}")
    return LOSSES[name].make(epsilon, quantile)
