"""The line search of Newton steps for a support vector machine.

A pass evaluates the loss at a trial step and at some fractions and multiples of it, so that one
or two trials are enough nearly always.  What comes back is never higher than the start.
"""

from __future__ import annotations

from collections.abc import Callable, Generator

import numpy as np

from dask_dml.objective.margins import STEPS, MarginEvaluation, MarginProblem, MarginQuery
from dask_dml.solvers.margin_systems import dot, ridge_of, slope_of

#: Share of the best decrease along the line that a step must bring, trials that may look for it,
#: and the shortest step.
GOOD_ENOUGH, MAX_TRIALS, MIN_STEP = 0.3, 30, 1e-14
#: Share of the objective that rounding may hide.
ROUNDING = 1e-13
#: Coefficients beyond which squares might overflow.
LARGEST = 1e150


def search(
    problem: MarginProblem,
    e: MarginEvaluation,
    move: np.ndarray,
    query: Callable[[float, bool], MarginQuery],
    *,
    looks: bool,
) -> Generator[MarginQuery, MarginEvaluation, MarginEvaluation | None]:
    """Go along a move; the point is the first whose pass finds it good enough.

    Parameters
    ----------
    problem : MarginProblem
        The problem.
    e : MarginEvaluation
        Where the search begins.
    move : ndarray of shape (n_features + 1,)
        The direction; the intercept is last.
    query : callable
        Makes the query of a step's length, with values along the line or without.
    looks : bool
        Whether the first trial has values along the line.

    Returns
    -------
    trial : MarginEvaluation or None
        Where none is good enough, the lowest of them; None where none is lower than the start.
    """
    start = np.append(e.query.coef, e.query.intercept)
    ridge = ridge_of(problem, len(e.query.coef))
    lowest: MarginEvaluation | None = None
    least, step = np.inf, 1.0
    for _ in range(MAX_TRIALS if is_bounded(start, move) else 0):
        trial = yield query(step, looks)
        if not np.isfinite(trial.objective):
            looks = True
            step *= 0.1
            continue
        if not looks:
            ends = float(slope_of(problem, e) @ move), float(slope_of(problem, trial) @ move)
            gain = smoothed(problem, e) - smoothed(problem, trial)
            if needs_no_search(ends, gain, trial.objective, GOOD_ENOUGH):
                return trial
            looks = True
            step *= between(*ends)
            continue
        values, slopes = objective_along(start, move, step, trial.line, ridge, l1=problem.l1)
        whole = int(np.flatnonzero(STEPS == 1.0)[0])
        gain, possible = values[0] - values[whole], values[0] - values.min()
        if gain >= GOOD_ENOUGH * possible and gain >= 0.0:
            return trial
        if max(possible, abs(gain)) <= ROUNDING * abs(values[0]):
            return trial
        if gain > 0.0 and values[whole] < least:
            lowest, least = trial, values[whole]
        step *= best_step(slopes)
        if step < MIN_STEP:
            break
    return lowest


def best_step(rates: np.ndarray) -> float:
    """Return where the line search's function has its minimum, as a fraction of the step.

    The rate of change is monotone, and piecewise linear where the loss is smoothed: its root
    lies between two of the steps.
    """
    right = int(np.argmax(rates > 0.0)) if np.any(rates > 0.0) else len(STEPS) - 1
    if right == 0:
        return float(0.1 * STEPS[1])
    left = right - 1
    low, high = rates[left], rates[right]
    share = low / (low - high) if high > low and low < 0.0 < high else 1.0
    return float(STEPS[left] + min(max(share, 1e-3), 1.0) * (STEPS[right] - STEPS[left]))


def between(first: float, last: float) -> float:
    """Return where a rate of change is zero, as a fraction of the step, from those at its ends."""
    if first >= 0.0:
        return 0.1
    return min(max(first / (first - last), 0.1), 1.0) if last > 0.0 else 1.0


def objective_along(
    start: np.ndarray,
    move: np.ndarray,
    step: float,
    line: np.ndarray,
    ridge: np.ndarray,
    *,
    l1: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Return smoothed objective and its rate of change at `STEPS` of a trial step.

    Parameters
    ----------
    start, move : ndarray of shape (n_features + 1,)
        Where the search begins, and its direction.
    step : float
        The trial's part of the move.
    line : ndarray of shape (n_steps, 2)
        Smoothed loss and its rate of change along the move.
    ridge : ndarray of shape (n_features + 1,)
        Weights of the penalty.
    l1 : bool
        Whether it is of the absolute values.
    """
    values, rates = line[:, 0].copy(), line[:, 1] * step
    # Where the loss overflows it goes up.
    far = ~(np.isfinite(values) & np.isfinite(rates))
    values[far], rates[far] = np.inf, np.inf
    at = STEPS * step
    if l1:
        for j, fraction in enumerate(at):
            z = start + fraction * move
            values[j] += float(ridge @ np.abs(z))
            rates[j] += step * float((ridge * np.sign(z)) @ move)
        return values, rates
    weighted = ridge * move
    first, second = dot(weighted, start), dot(weighted, move)
    values += 0.5 * dot(ridge * start, start) + at * first + 0.5 * at**2 * second
    rates += step * (first + at * second)
    return values, rates


def needs_no_search(
    ends: tuple[float, float], gain: float, objective: float, enough: float
) -> bool:
    """Return whether a whole step is good, by the rates of change at its ends and its gain."""
    if abs(gain) <= 1e-13 * abs(objective):
        return True
    return gain >= -0.5 * enough * ends[0] * between(*ends)


def smoothed(problem: MarginProblem, e: MarginEvaluation) -> float:
    """Return the smoothed objective."""
    return e.value + problem.penalty_value(e.query.coef, e.query.intercept)


def is_bounded(start: np.ndarray, move: np.ndarray) -> bool:
    """Return whether squares of the coefficients after a move can be formed."""
    farthest = np.abs(start).max(initial=0.0) + np.abs(move).max(initial=0.0)
    return bool(farthest < LARGEST)
