"""When stochastic gradient descent stops."""

from __future__ import annotations

import time
from collections import deque

import numpy as np

from dask_dml.solvers.choose import MAX_STATISTICS
from dask_dml.solvers.few_rows import spanned_by_few
from dask_dml.solvers.sgd.task import SGDTask

#: Passes over which progress is judged, relative to ``n_iter_no_change``; and what share of ``tol``
#: the objective may fall meanwhile where it is taken to stand still for lack of a gap.
WINDOW, STILL = 4, 0.05
#: How much wider the gap may be then where the loss has a kink.
LOOSE = 10.0
#: Passes after which the gap's pace tells, and how many more are too many.
SOON, MANY = 8, 40.0
#: Share of all passes, or of those that there is time for, that steps have where there is no gap
#: and columns are many.
WIDE_SHARE = 0.2


class GapWatch:
    """Tells from objective and duality gap of one problem when it is solved, and when it won't be.

    Parameters
    ----------
    task : SGDTask
        Whose ``tol`` is the relative gap to be met.  Where there is no gap, as without a penalty,
        the objective has to stand still; where the loss has a kink, which rows lie at in the
        optimum, and bounds are loose, a gap some times wider will do then.
    floor : float
        What changes of the objective are at least relative to.
    n_rows : float, default=inf
        Rows of the data.

    Attributes
    ----------
    hopeless : bool
        Whether the objective has stood still for a while, and the gap, at its pace, will not be
        met by the last pass.
    slow : bool
        Whether columns, or rows, are so few that solvers of whole gradients prove the optimum, and
        the gap takes many passes more, or more than there is time for.  Without a gap, whether many
        passes have been made.
    """

    def __init__(self, task: SGDTask, floor: float, n_rows: float = np.inf) -> None:
        self.floor = floor
        self.tol, self.max_iter = task.tol, task.max_iter
        self.window = WINDOW * task.n_iter_no_change
        self.kink = task.loss.bounded_slope and task.loss.width == 0.0
        self.bounded = task.penalty.l1 > 0.0 or task.penalty.l2 > 0.0
        self.hopeless = self.slow = False
        spanned = spanned_by_few(task.loss, task.n_features, n_rows)
        self.few = task.n_features <= MAX_STATISTICS or spanned
        self.loose = LOOSE if self.kink and not self.few else 1.0
        self.deadline, self._began = task.deadline, time.monotonic()
        self._past: deque[tuple[int, float, float]] = deque()

    def met(self, objective: float, gap: float, n_passes: int) -> bool:
        """Take objective and relative gap after so many passes; return whether it is solved."""
        if self.tol is None:
            return False
        self._past.append((n_passes, objective, gap))
        while len(self._past) > 1 and self._past[1][0] <= n_passes - self.window:
            self._past.popleft()
        if gap <= self.tol:
            return True
        first, earlier, wider = self._past[0]
        needed = self._needed(wider, gap, n_passes - first)
        self.slow = self._is_slow(needed, n_passes, n_passes - first)
        if n_passes - first < self.window:
            return False
        fallen = (earlier - objective) / max(objective, self.floor, 1e-300)
        still = bool(fallen <= STILL * self.tol)
        if not self.bounded:
            return still
        if still and gap <= self.loose * self.tol:
            return True
        self.hopeless = bool(fallen <= self.tol and n_passes + needed > self.max_iter)
        return False

    def _needed(self, wider: float, gap: float, n_passes: int) -> float:
        """Return how many more passes the gap takes at its pace since it was wider."""
        if not self.bounded or not wider > gap:
            return np.inf
        assert self.tol is not None
        return float(np.log(gap / self.tol) / np.log(wider / gap) * n_passes)

    def _is_slow(self, needed: float, n_passes: int, since: int) -> bool:
        """Return whether other methods are sooner there than by so many passes more."""
        if since < SOON or (self.bounded and not self.few):
            return False
        now = time.monotonic()
        left = n_passes * (self.deadline - now) / max(now - self._began, 1e-9)
        if self.bounded:
            return needed > min(left, MANY)
        # Without a gap only the passes made tell; of many columns gradients need hundreds more.
        if self.few:
            return n_passes > 2 * self.window or left < n_passes
        return n_passes > WIDE_SHARE * min(self.max_iter, n_passes + left)

    def proven(self, gap: float) -> bool:
        """Return whether a relative gap shows that a problem that stands still is solved."""
        return self.tol is None or gap <= self.tol * self.loose


class Patience:
    """scikit-learn's stopping rule: too many passes in a row without enough improvement.

    Parameters
    ----------
    tol : float or None
        Least improvement; None never stops.
    n_iter_no_change : int
        Passes in a row.
    """

    def __init__(self, tol: float | None, n_iter_no_change: int) -> None:
        self.tol = tol
        self.limit = n_iter_no_change
        self.best = np.inf
        self.waited = 0

    def exhausted(self, value: float, n_passes: int) -> bool:
        """Take the value (less is better) after some more passes; return whether to stop."""
        if self.tol is None:
            return False
        improved = value < self.best - self.tol
        self.waited = 0 if improved else self.waited + n_passes
        self.best = min(self.best, value)
        return self.waited >= self.limit

    def restart(self) -> None:
        """Forget how long there was no improvement."""
        self.waited = 0
