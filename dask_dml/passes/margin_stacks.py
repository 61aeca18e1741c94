"""Points of several support vector machines as one, for a pass over rows that all of them see."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from dask_dml.passes.margins import MarginPoint, MarginSums


def kind(point: MarginPoint) -> Hashable:
    """Return what points have in common that can be joined; None for one that cannot be."""
    if point.occurring is not None:
        return None
    moving = point.move is not None
    return point.hessian, point.split, moving, point.grid.shape[1], point.columns.tobytes()


def content(point: MarginPoint) -> Hashable:
    """Return a value that is the same for points that ask for the same sums, and no others."""
    parts = (
        point.label, point.cost, point.parameters, point.coef, point.intercept, point.move,
        point.move_intercept, point.grid, point.stride,
    )  # fmt: skip
    return kind(point), tuple(None if part is None else part.tobytes() for part in parts)


def n_bytes(point: MarginPoint) -> int:
    """Return what the sums at a point take."""
    n_problems, p = point.coef.shape
    width = (len(point.columns) or p) + 2
    return 8 * n_problems * (2 * p + (width**2 if point.hessian else 0))


def joined(points: Sequence[MarginPoint]) -> MarginPoint:
    """Return one point with the problems of several of the same kind."""
    if len(points) == 1:
        return points[0]
    moves = [point.move for point in points if point.move is not None]
    return replace(
        points[0],
        label=np.concatenate([point.label for point in points]),
        cost=np.concatenate([point.cost for point in points]),
        parameters=np.concatenate([point.parameters for point in points]),
        coef=np.concatenate([point.coef for point in points]),
        intercept=np.concatenate([point.intercept for point in points]),
        move=np.concatenate(moves) if moves else None,
        move_intercept=np.concatenate([point.move_intercept for point in points]),
        grid=np.concatenate([point.grid for point in points]),
        stride=np.concatenate([point.stride for point in points]),
    )


def parted(total: MarginSums, points: Sequence[MarginPoint]) -> list[MarginSums]:
    """Return the sums of each of the points that were joined."""
    bounds = np.cumsum([0, *(len(point.coef) for point in points)]).tolist()
    return [
        MarginSums(
            total.gradient[start:stop],
            None if total.positive is None else total.positive[start:stop],
            total.sums[start:stop],
            total.line[start:stop],
            None if total.hessian is None else total.hessian[start:stop],
        )
        for start, stop in pairwise(bounds)
    ]
