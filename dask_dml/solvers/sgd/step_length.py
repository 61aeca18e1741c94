"""What one problem makes of the models that corrected local steps have led to.

The averaged change of the nodes' models is a direction: for squared error the best point of the
space of all recent directions follows from the gradients at their ends, exactly and with no
further pass; for other losses the same model is a proposal, and a step is accepted only if the
objective falls.  So the iteration converges whatever the nodes' rows are, where plain averaging
diverges when every node sees another part of the distribution.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dask_dml.objective.penalties import ElasticNet
from dask_dml.objective.problem import Evaluation, Problem, Query, relative_gap
from dask_dml.solvers.base import Continuation, left_to_gain

#: Directions that are kept, and numbers that they may hold.
MAX_DIRECTIONS, MAX_MEMORY = 20, 2**23
#: A trial is taken as it is if the model promises no more than twice its decrease elsewhere.
GOOD_SHARE = 0.5
#: Share of the first loss from which losses follow from gradients without another pass.
KNOWN = 1e-6
#: By how much of the objective rounding may lift a lower bound above it.
WRONG = 1e-6
#: Trials of one exchange.
MAX_TRIALS = 8


@dataclass(frozen=True)
class Anchor:
    """A point with all that is known of it.

    Attributes
    ----------
    point : ndarray of shape (n_features + 1,)
        Coefficients and intercept in the frame's coordinates.
    value : float
        Data term of the (smoothed) loss.
    gradient : ndarray of shape (n_features + 1,)
        Its gradient.
    objective : float
        Objective of the loss proper, penalty included.
    relative_gap : float
        Relative duality gap.
    """

    point: np.ndarray
    value: float
    gradient: np.ndarray
    objective: float
    relative_gap: float


class CorrectedStep:
    """One problem between two exchanges.

    Parameters
    ----------
    problem : Problem
        Loss and penalty.
    point : ndarray of shape (n_features + 1,)
        Where to start.
    width : float
        First smoothing width.
    metric : ndarray of shape (n_features + 1,)
        Relative step lengths of the coordinates.
    floor : float
        What relative gaps are at least relative to.
    residual_mean : ndarray of shape (n_features,)
        Mean of the columns in the frame's coordinates.

    Attributes
    ----------
    query : Query or None
        What is to be evaluated next; None when the nodes are to take steps.
    anchor : Anchor
        The best point so far, which the nodes start from.
    length : float
        How far along the last change the best point was, by the gradients at its ends.
    lower : float
        Largest lower bound of the optimum so far.
    converged : bool
        Whether a stopping rule has ended the steps; set by the loop.
    stalled : bool
        Whether there is nowhere left to go.
    """

    def __init__(
        self,
        problem: Problem,
        point: np.ndarray,
        width: float,
        metric: np.ndarray,
        floor: float,
        residual_mean: np.ndarray,
    ) -> None:
        self.problem = problem
        self.continuation = Continuation(problem.loss.width, width)
        self.metric = metric
        self.floor = floor
        self.residual_mean = residual_mean
        self.lower = -np.inf
        # Nothing is known yet.
        self.anchor = Anchor(point, np.inf, np.zeros_like(point), np.inf, np.inf)
        self.query: Query | None = self._ask(point)
        self.converged = False
        self.stalled = False
        self._known = False
        self._first_value = 0.0
        self.length = 1.0
        self._length = 1.0
        self._trials = 0
        self._improved = False
        self._gained = np.inf
        self._capacity = max(2, min(MAX_DIRECTIONS, MAX_MEMORY // (2 * len(point))))
        self._moves, self._changes = np.empty((2, self._capacity, len(point)))
        # Their products, by pairs: of moves and changes, and of the moves' coefficients.
        self._bends, self._squares = np.zeros((2, self._capacity, self._capacity))
        self._n_kept, self._oldest = 0, 0

    @property
    def reached(self) -> tuple[float, float]:
        """Objective and relative duality gap of the best point."""
        return self.anchor.objective, self.anchor.relative_gap

    @property
    def squares(self) -> bool:
        """Whether gradients are linear."""
        return self.problem.loss.quadratic

    def know(self, value: float, gradient: np.ndarray) -> None:
        """Take value and gradient at the start for granted (squared error, from a survey)."""
        assert self.query is not None
        point = np.append(self.query.coef, self.query.intercept)
        self._settle(point, value, gradient)

    def walked(self, change: np.ndarray, reach: np.ndarray, *, whole: bool = False) -> None:
        """Take the averaged change of the nodes' models and ask about the point it leads to.

        Parameters
        ----------
        change : ndarray of shape (n_features + 1,)
            The change.
        reach : ndarray of shape (n_features + 1,)
            Length of a gradient step that is safe in every coordinate.
        whole : bool, default=False
            Whether the change has the length that is thought best.
        """
        self._trials = 0
        if whole:
            self._length = 1.0
        a, l1 = self.anchor, self.problem.penalty.l1
        length = 1.0 if self.squares else self._length
        point = a.point + length * change
        if l1 > 0.0:
            # Where a proximal step from the anchor ends at zero, a small number is noise.
            zero = np.abs(a.point - reach * a.gradient) <= reach * l1
            zero &= np.abs(point) <= reach * l1
            zero[-1] = False
            point[zero] = 0.0
        self.query = self._ask(point)

    def tell(self, e: Evaluation) -> None:
        """Take the answer to the query."""
        point = np.append(e.query.coef, e.query.intercept)
        gradient = np.append(e.gradient, e.intercept_gradient)
        here = self.bounded(point, e.value, gradient, e.objective, e.gap)
        if not self._known:
            self._accept(here, e)
        elif self.squares:
            self._tell_squares(here)
        else:
            self._tell_other(here, e)

    # Squared error: all is known on the span of the directions.

    def _tell_squares(self, here: Anchor) -> None:
        a = self.anchor
        move, change = here.point - a.point, here.gradient - a.gradient
        if not np.any(move):
            self.query, self.stalled = None, True
            return
        start, end = self._slope(a, move), self._slope(here, move)
        self.length = start / (start - end) if end > start else 1.0
        self._remember(move, change)
        options = [self._of_model(here.point)]
        if self.problem.penalty.l1 > 0.0:
            t = self._length_of(move, change)
            options.append((t * move, t * change))
        self._settle_between(*min(options, key=lambda option: self._value_at(*option)))

    def _value_at(self, move: np.ndarray, change: np.ndarray) -> float:
        """Return the objective of squared error after a move, relative to the anchor's."""
        a = self.anchor
        data = float((a.gradient + 0.5 * change) @ move)
        return data + self.problem.penalty.value(a.point[:-1] + move[:-1])

    def _length_of(self, move: np.ndarray, change: np.ndarray) -> float:
        """Return the best length of a move where the penalty has kinks."""
        a, penalty = self.anchor, self.problem.penalty
        slope, bend = float(a.gradient @ move), float(change @ move)

        def value(t: float) -> float:
            return t * (slope + 0.5 * t * bend) + penalty.value(a.point[:-1] + t * move[:-1])

        best = minimise_convex(value)
        # The nodes' models have zeros; a length other than one would lose them.
        enough = value(0.0) - GOOD_SHARE * (value(0.0) - value(best))
        return 1.0 if value(1.0) <= enough else best

    def _settle_between(self, move: np.ndarray, change: np.ndarray) -> None:
        a = self.anchor
        value = a.value + float(a.gradient @ move + 0.5 * change @ move)
        if value > KNOWN * self._first_value:
            self._settle(a.point + move, value, a.gradient + change)
        else:
            # So little is left that rounding of what it was computed from may be more.
            self._known, self.query = False, self._ask(a.point + move)

    def bounded(
        self, point: np.ndarray, value: float, gradient: np.ndarray, objective: float, gap: float
    ) -> Anchor:
        """Return a point with the gap to the best lower bound so far.

        Raises
        ------
        RuntimeError
            If the bound is above the objective by more than rounding.
        """
        if np.isfinite(objective) and np.isfinite(gap):
            self.lower = max(self.lower, objective - gap)
            wrong = self.lower - objective
            if wrong > WRONG * max(objective, self.floor):
                raise RuntimeError(
                    "Internal error of stochastic gradient descent: the lower bound "
                    f"{self.lower!r} is above the objective {objective!r}. Please report this."
                )
            gap = max(-wrong, 0.0)
        return Anchor(point, value, gradient, objective, relative_gap(objective, gap, self.floor))

    def _settle(self, point: np.ndarray, value: float, gradient: np.ndarray) -> None:
        objective = value + self.problem.penalty.value(point[:-1])
        mean = -float(gradient[-1])
        shifted = gradient[:-1] + mean * self.residual_mean
        penalty = self.problem.penalty
        scale = penalty.dual_scale(shifted)
        # As in `Objective`: balancing the residuals costs half their squared mean, scaling them
        # by s costs (1 - s)**2 times half their mean square.
        gap = 0.5 * mean**2 + (1.0 - scale) ** 2 * value
        gap += penalty.fenchel_gap(point[:-1], scale * shifted)
        self.anchor = self.bounded(point, value, gradient, objective, gap)
        self._first_value = max(self._first_value, value)
        self._known, self.query = True, None

    # Other losses: the model proposes, the objective decides.

    def _tell_other(self, here: Anchor, e: Evaluation) -> None:
        a = self.anchor
        move, change = here.point - a.point, here.gradient - a.gradient
        self._trials += 1
        finite = bool(np.isfinite(here.value) and np.all(np.isfinite(here.gradient)))
        gained = self._smooth(a) - self._smooth(here)
        start, end = self._slope(a, move), self._slope(here, move)
        if finite and float(change @ move) > 0.0:
            self._remember(move, change)
        best = start / (start - end) if end > start else 2.0
        if self._trials == 1:
            self.length = self._length * best
        if finite and gained > 0.0:
            proposal = self._proposal(here) if self._trials == 1 else None
            promised = 0.0 if proposal is None else proposal[0]
            self._length = float(np.clip(self._length * best, 0.05, 2.0))
            if proposal is not None and GOOD_SHARE * promised > gained:
                self._accept(here, e, wait=True)
                self.query = self._ask(a.point + proposal[1])
            else:
                self._accept(here, e)
        elif self._trials >= MAX_TRIALS or not np.any(move):
            self.query = None
            self._length = 1.0
            self._forget()
        elif self._trials > 1 and self._improved:
            self.query = None
        else:
            best = float(np.clip(best, 0.05, 0.5)) if finite else 0.05
            self._length *= best
            self.query = self._ask(a.point + best * move)

    def _proposal(self, here: Anchor) -> tuple[float, np.ndarray] | None:
        """Return where the model has its minimum, and the decrease that it promises there."""
        move, change = self._of_model(here.point)
        if not np.any(move):
            return None
        l2 = self.problem.penalty.l2
        bend = float(change @ move) + l2 * float(move[:-1] @ move[:-1])
        promised = -self._slope(self.anchor, move) - 0.5 * bend
        return promised, move

    def _accept(self, here: Anchor, e: Evaluation, *, wait: bool = False) -> None:
        # Gaps are loose bounds; what the last exchange gained says more of what is left.
        gained = np.inf if not self._known else self._smooth(self.anchor) - self._smooth(here)
        self._gained = gained + (self._gained if self._improved else 0.0)
        self.anchor, self._known = here, True
        self._first_value = max(self._first_value, here.value)
        self._improved = wait
        self.query = None
        if wait:
            return
        norm = float(np.linalg.norm(np.sqrt(self.metric) * self._pull(here)))
        left = min(left_to_gain(e, norm), 2.0 * self._gained)
        if self.continuation.narrow(left, e.slack):
            self._forget()
            self._known = False
            self.query = self._ask(here.point)

    def _pull(self, here: Anchor) -> np.ndarray:
        """Return the smallest subgradient of the objective."""
        coef = self.problem.penalty.subgradient(here.point[:-1], here.gradient[:-1])
        return np.append(coef, here.gradient[-1])

    # What both share

    def _ask(self, point: np.ndarray) -> Query:
        return Query(point[:-1], float(point[-1]), self.continuation.width)

    def _smooth(self, a: Anchor) -> float:
        return a.value + self.problem.penalty.value(a.point[:-1])

    def _slope(self, a: Anchor, move: np.ndarray) -> float:
        """Return the slope of the objective along a move; with L1, a bound of it."""
        penalty: ElasticNet = self.problem.penalty
        w, m = a.point[:-1], move[:-1]
        kinks = np.where(w != 0.0, np.sign(w) * m, np.abs(m))
        return float(a.gradient @ move + penalty.l2 * (w @ m) + penalty.l1 * kinks.sum())

    def _remember(self, move: np.ndarray, change: np.ndarray) -> None:
        at = self._oldest if self._n_kept == self._capacity else self._n_kept
        self._moves[at], self._changes[at] = move, change
        self._n_kept = min(self._n_kept + 1, self._capacity)
        self._oldest = (at + 1) % self._capacity
        S, Y = self._moves[: self._n_kept], self._changes[: self._n_kept]
        # Gradients are linear: the products are symmetric but for rounding.
        bends, squares = 0.5 * (S @ change + Y @ move), S[:, :-1] @ move[:-1]
        for table, row in ((self._bends, bends), (self._squares, squares)):
            table[at, : len(row)] = table[: len(row), at] = row

    def _forget(self) -> None:
        self._n_kept, self._oldest = 0, 0

    def _of_model(self, newest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the best move in the span of the directions, and the change of the gradient.

        With an L1 penalty, directions count that leave the zeros of the newest point alone, and
        the signs are taken to stay as they are.
        """
        a, penalty = self.anchor, self.problem.penalty
        S, Y = self._moves[: self._n_kept], self._changes[: self._n_kept]
        fit = np.ones(len(S), dtype=np.bool_)
        kinks = np.zeros(len(a.point) - 1)
        if penalty.l1 > 0.0:
            zero = np.append(newest[:-1] == 0.0, False)
            same = not np.any(a.point[zero])
            fit = ~np.any(S[:, zero], axis=1) & same
            S, Y = S[fit], Y[fit]
            kinks = penalty.l1 * np.sign(np.where(a.point != 0.0, a.point, newest)[:-1])
        if not len(S):
            return np.zeros_like(a.point), np.zeros_like(a.point)
        kept = np.ix_(np.flatnonzero(fit), np.flatnonzero(fit))
        bend = self._bends[kept] + penalty.l2 * self._squares[kept]
        pull = -(S @ a.gradient + S[:, :-1] @ (penalty.l2 * a.point[:-1] + kinks))
        diagonal = np.diagonal(bend)
        scale = 1.0 / np.sqrt(np.where(diagonal > 0.0, diagonal, 1.0))
        matrix = bend * np.outer(scale, scale)
        shares = scale * np.linalg.lstsq(matrix, scale * pull, rcond=1e-12)[0]
        return shares @ S, shares @ Y


def minimise_convex(
    value: Callable[[float], float], low: float = 0.0, high: float = 4.0, n: int = 60
) -> float:
    """Return the minimiser of a convex function of one variable by golden section."""
    golden = 0.5 * (np.sqrt(5.0) - 1.0)
    left, right = high - golden * (high - low), low + golden * (high - low)
    at_left, at_right = value(left), value(right)
    for _ in range(n):
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - golden * (high - low)
            at_left = value(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + golden * (high - low)
            at_right = value(right)
    return 0.5 * (low + high)
