"""The elastic net penalty and what solvers need of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ElasticNet:
    """``l1 * ||w||_1 + l2 / 2 * ||w||_2**2``; either weight may be zero.

    Attributes
    ----------
    l1, l2 : float
        Weights of the two norms.
    """

    l1: float = 0.0
    l2: float = 0.0

    def __bool__(self) -> bool:
        return bool(self.l1 > 0.0 or self.l2 > 0.0)

    def value(self, w: np.ndarray) -> float:
        """Return the penalty of coefficients of shape (n_features,)."""
        return float(self.l1 * np.abs(w).sum() + 0.5 * self.l2 * (w @ w))

    def prox(self, v: np.ndarray, step: np.ndarray | float) -> np.ndarray:
        """Return ``argmin_w (w - v)**2 / (2 step) + penalty(w)``, coordinate by coordinate."""
        return soft_threshold(v, step * self.l1) / (1.0 + step * self.l2)

    def subgradient(self, w: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        """Return the smallest element of ``gradient + d penalty(w)``; zero at the optimum."""
        smooth = gradient + self.l2 * w
        at_zero = soft_threshold(smooth, self.l1)
        return np.where(w == 0.0, at_zero, smooth + self.l1 * np.sign(w))

    def dual_scale(self, gradient: np.ndarray) -> float:
        """Return the factor that takes ``gradient`` into the domain of the conjugate.

        One without a penalty: then the domain is the single point zero.
        """
        if self.l2 > 0.0 or self.l1 == 0.0:
            return 1.0
        largest = float(np.abs(gradient).max(initial=0.0))
        return 1.0 if largest <= self.l1 else self.l1 / largest

    def fenchel_gap(self, w: np.ndarray, gradient: np.ndarray) -> float:
        """Return ``penalty(w) + penalty*(-gradient) + w @ gradient``.

        Never negative, and written so that nothing cancels at the optimum.  Infinite where the
        conjugate is.
        """
        if self.l2 > 0.0:
            # The conjugate is sum soft(g, l1)**2 / (2 l2): completing the square leaves
            # the distance to its argument and, where the sign differs, an L1 remainder.
            best = -soft_threshold(gradient, self.l1) / self.l2
            square = 0.5 * self.l2 * float(np.sum((w - best) ** 2))
            clipped = np.clip(-gradient - self.l2 * best, -self.l1, self.l1)
            return square + float(np.sum(self.l1 * np.abs(w) - clipped * w))
        if self.l1 > 0.0:
            if np.abs(gradient).max(initial=0.0) > self.l1 * (1.0 + 1e-12):
                return np.inf
            return float(np.sum(self.l1 * np.abs(w) + gradient * w))
        return 0.0 if not np.any(gradient) else np.inf


def make_penalty(name: str | None, alpha: float, l1_ratio: float | None) -> ElasticNet:
    """Return the penalty of scikit-learn's name.

    Parameters
    ----------
    name : {"l2", "l1", "elasticnet", None}
        As in `sklearn.linear_model.SGDRegressor`.
    alpha : float
        Strength.
    l1_ratio : float or None
        Share of the L1 norm; read for ``"elasticnet"`` only.

    Raises
    ------
    ValueError
        If the share is wanted and None.
    """
    if name is None:
        return ElasticNet()
    ratio = {"l2": 0.0, "l1": 1.0, "elasticnet": l1_ratio}[name]
    if ratio is None:
        raise ValueError("l1_ratio must be set when penalty is 'elasticnet'.")
    return ElasticNet(l1=alpha * ratio, l2=alpha * (1.0 - ratio))


def soft_threshold(v: np.ndarray, threshold: np.ndarray | float) -> np.ndarray:
    """Return ``sign(v) * max(|v| - threshold, 0)``."""
    return np.sign(v) * np.maximum(np.abs(v) - threshold, 0.0)
