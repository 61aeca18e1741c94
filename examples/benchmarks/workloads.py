"""The workloads: a table, an objective that the harness evaluates itself, and who takes part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from . import data
from .peers import (
    Contestant,
    PlainRead,
    celer,
    gd,
    glum,
    ours,
    quantile_by_highs,
    sgd,
    skglm,
    sklearn,
    snap_linear,
    snap_svc,
    svc,
)

Objective = Callable[[Any, np.ndarray, np.ndarray, np.ndarray], float]


@dataclass(frozen=True)
class Workload:
    """One comparison.

    Parameters
    ----------
    title : str
        What is fitted, for the report.
    table : callable
        Makes X and y.
    objective : callable
        ``objective(X, y, coef, intercept)`` in float64; None: nothing is compared but time.
    contestants : dict
        Name to :class:`Contestant`; the first is the one whose ratio is reported.
    accuracy : float or None
        Relative distance from the best objective known that counts as reached; None: every
        contestant is timed at its first tolerance, and its distance reported.
    bar : float or None
        The ratio to ``rival`` that the first contestant is to stay below.
    rival : str or None
        Whom the bar is about; None: the fastest of the others.
    """

    title: str
    table: Callable[[], data.Table]
    objective: Objective
    contestants: dict[str, Contestant]
    accuracy: float | None = 1e-6
    bar: float | None = None
    rival: str | None = None


def regression(
    residuals: Callable[[np.ndarray], np.ndarray], alpha: float, l1_ratio: float = 0.0
) -> Objective:
    """Return the objective of a penalised mean loss, summed over the outputs."""

    def value(X: Any, y: np.ndarray, coef: np.ndarray, intercept: np.ndarray) -> float:
        w = np.atleast_2d(np.asarray(coef, dtype=np.float64))
        target = y.reshape(len(y), -1).astype(np.float64)
        total = 0.0
        for k, row in enumerate(w):
            # Tiles, since a float32 table is not to be copied as a whole.
            for start in range(0, len(y), 65_536):
                rows = slice(start, start + 65_536)
                z = X[rows].astype(np.float64) @ row + np.ravel(intercept)[k % np.size(intercept)]
                total += float(residuals(target[rows, k] - z).sum()) / len(y)
        penalty = l1_ratio * np.abs(w).sum() + 0.5 * (1.0 - l1_ratio) * (w * w).sum()
        return total + alpha * float(penalty)

    return value


def squared(r: np.ndarray) -> np.ndarray:
    """Return half the squares."""
    return 0.5 * r * r


def huber(r: np.ndarray, epsilon: float = 1.35) -> np.ndarray:
    """Return Huber's loss."""
    a = np.abs(r)
    return np.where(a <= epsilon, 0.5 * r * r, epsilon * a - 0.5 * epsilon**2)


def epsilon_insensitive(r: np.ndarray, epsilon: float = 0.5) -> np.ndarray:
    """Return what exceeds epsilon."""
    return np.maximum(np.abs(r) - epsilon, 0.0)


def pinball(r: np.ndarray, quantile: float = 0.9) -> np.ndarray:
    """Return the loss of quantile regression."""
    return np.maximum(quantile * r, (quantile - 1.0) * r)


def margins(loss: str, C: float) -> Objective:
    """Return liblinear's objective, intercept penalised, summed over the classes."""

    def value(X: Any, y: np.ndarray, coef: np.ndarray, intercept: np.ndarray) -> float:
        w = np.atleast_2d(np.asarray(coef, dtype=np.float64))
        b = np.ravel(np.asarray(intercept, dtype=np.float64))
        labels = np.unique(y)
        total = 0.0
        for k, row in enumerate(w):
            sign = np.where(y == (labels[1] if len(w) == 1 else labels[k]), 1.0, -1.0)
            t = np.maximum(1.0 - sign * (X @ row + b[k]), 0.0)
            total += 0.5 * float(row @ row + b[k] ** 2)
            total += C * float(t.sum() if loss == "hinge" else t @ t)
        return total

    return value


def ridge(title: str, table: Callable[[], data.Table], n_rows: int, **extra: Any) -> Workload:
    """Return a workload of squared error with an L2 penalty."""
    alpha = extra.pop("alpha", 1e-4)
    more = extra.pop("more", {})
    return Workload(
        title,
        table,
        regression(squared, alpha),
        {
            "dask_dml": ours(gd(alpha=alpha), **extra.pop("holding", {})),
            "scikit-learn cholesky": Contestant(
                sklearn("linear_model", "Ridge", alpha=alpha * n_rows, solver="cholesky"), (1e-4,)
            ),
            "scikit-learn auto": Contestant(
                sklearn("linear_model", "Ridge", alpha=alpha * n_rows, solver="auto"), (1e-4,)
            ),
        }
        | more,
        **extra,
    )


def lasso(title: str, table: Callable[[], data.Table], n_rows: int, alpha: float) -> Workload:
    """Return a workload of squared error with an L1 penalty."""
    return Workload(
        title,
        table,
        regression(squared, alpha, 1.0),
        {
            "dask_dml": ours(gd(alpha=alpha, penalty="l1")),
            "scikit-learn Lasso": Contestant(
                sklearn("linear_model", "Lasso", alpha=alpha, precompute=True)
            ),
            "celer": Contestant(celer(alpha)),
            "skglm": Contestant(skglm("Lasso", alpha=alpha)),
            "snapml": Contestant(snap_linear("l1", alpha * n_rows)),
        },
    )


def svm(title: str, table: Callable[[], data.Table], loss: str, C: float, **extra: Any) -> Workload:
    """Return a workload of a linear SVM."""
    return Workload(
        title,
        table,
        margins(loss, C),
        {
            "dask_dml": ours(svc(loss=loss, C=C)),
            "liblinear": Contestant(
                sklearn("svm", "LinearSVC", loss=loss, C=C, dual=True, max_iter=3000),
                (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6),
            ),
            "snapml": Contestant(snap_svc(loss, C), (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)),
        },
        **extra,
    )


def pair(title: str, mine: Contestant, theirs: Contestant, **extra: Any) -> Workload:
    """Return a workload whose two contestants are compared by time alone, each as it comes."""
    return Workload(
        title,
        extra.pop("table"),
        extra.pop("objective"),
        {"dask_dml": mine, "scikit-learn": theirs},
        accuracy=None,
        rival="scikit-learn",
        **extra,
    )


def small(kind: str, n_rows: int, n_features: int, **mine: Any) -> Workload:
    """Return a workload of fits that take milliseconds."""
    title = f"{kind.replace('-', ' ')}, {n_rows:,} x {n_features}"
    loss = kind.replace("-", "_")
    if "hinge" in kind:
        table, objective = partial(data.classes, n_rows, n_features), margins(loss, 0.01)
        own = svc(C=0.01, loss=loss)
        other = sklearn("svm", "LinearSVC", C=0.01, loss=loss, dual=True)
    else:
        table, objective = partial(data.regression, n_rows, n_features), regression(squared, 1e-3)
        own = gd(alpha=1e-3)
        other = sklearn("linear_model", "Ridge", alpha=1e-3 * n_rows, max_iter=None)
        if kind == "sgd":
            own = sgd(alpha=1e-3, max_iter=5)
            other = sklearn("linear_model", "SGDRegressor", alpha=1e-3, max_iter=5)
    return pair(
        title + (" on a warm cluster" if mine.get("cluster") else " in memory"),
        Contestant(own, (1e-4,), **{"repeat": 20} | mine),
        Contestant(other, (1e-4,), repeat=20),
        table=table,
        objective=objective,
        bar=None if mine.get("cluster") else 1.5,
    )


def layouts(title: str, make: Any, table: Any, objective: Any, **holdings: Any) -> Workload:
    """Return a workload that holds the same rows in several ways."""
    return Workload(
        title,
        table,
        objective,
        {name.replace("_", " "): ours(make, **holding) for name, holding in holdings.items()},
    )


def streamed(title: str, make: Any, objective: Objective, reads: int) -> Workload:
    """Return a workload over rows on disk, twice the workers' memory, beside plain reads."""
    holding: dict[str, Any] = {
        "cluster": (2, 1),
        "n_chunks": 80,
        "streamed": True,
        "memory_limit": 500 * 2**20,
    }
    return Workload(
        f"{title}, 2 GB on disk, two workers of 0.5 GB: beside one plain read",
        partial(data.regression, 2_500_000, 100),
        objective,
        {
            "dask_dml": Contestant(make, (1e-4,), **holding),
            "plain read": Contestant(PlainRead, (0.0,), **holding),
        },
        accuracy=None,
        bar=1.3 * reads,
        rival="plain read",
    )


MILLION = partial(data.regression, 1_000_000, 100)
ILL = partial(data.regression, 1_000_000, 100, decades=2.6)
WIDE = partial(data.regression, 100_000, 2000, informative=50)
HEAVY = partial(data.regression, 1_000_000, 100, noise="heavy")
CLASSES = partial(data.classes, 300_000, 100)
TEXT = partial(data.hashed_text, 50_000, 2**18)

WORKLOADS: dict[str, Workload] = {
    "ridge": ridge(
        "ridge, 1,000,000 x 100",
        MILLION,
        1_000_000,
        bar=0.2,
        rival="snapml",
        more={
            "snapml": Contestant(snap_linear("l2", 1e-4 * 1_000_000)),
            "glum": Contestant(glum(1e-4, 0.0)),
        },
    ),
    "ridge-ill": ridge(
        "ridge, 1,000,000 x 100, condition number 400",
        ILL,
        1_000_000,
        bar=0.2,
        rival="snapml",
        more={"snapml": Contestant(snap_linear("l2", 1e-4 * 1_000_000))},
    ),
    "ridge-long": ridge(
        "ridge, 5,000,000 x 10", partial(data.regression, 5_000_000, 10), 5_000_000
    ),
    "ridge-2000": ridge("ridge, 100,000 x 2000", WIDE, 100_000),
    "ridge-2000-float32": ridge(
        "ridge, 100,000 x 2000, float32", partial(WIDE, dtype="float32"), 100_000
    ),
    "ridge-5000": ridge(
        "ridge, 20,000 x 5000", partial(data.regression, 20_000, 5000), 20_000, alpha=1e-2
    ),
    "ridge-outputs": ridge(
        "ridge, ten outputs, 1,000,000 x 100", partial(MILLION, n_outputs=10), 1_000_000
    ),
    "ridge-memory": ridge(
        "ridge, 1,000,000 x 100, NumPy arrays", MILLION, 1_000_000, holding={"cluster": None}
    ),
    "ridge-air": ridge("ridge, air quality", data.air_quality, 420_768, alpha=1e-3),
    "lasso": lasso("lasso, 1,000,000 x 100", MILLION, 1_000_000, 0.5),
    "lasso-2000": lasso("lasso, 100,000 x 2000", WIDE, 100_000, 0.1),
    "lasso-2000-float32": lasso(
        "lasso, 100,000 x 2000, float32", partial(WIDE, dtype="float32"), 100_000, 0.1
    ),
    "huber": Workload(
        "Huber, 1,000,000 x 100, heavy tails",
        HEAVY,
        regression(huber, 1e-4),
        {
            "dask_dml": ours(gd(loss="huber", epsilon=1.35, alpha=1e-4)),
        },
    ),
    "epsilon-insensitive": Workload(
        "epsilon-insensitive, 300,000 x 100",
        partial(data.regression, 300_000, 100),
        regression(epsilon_insensitive, 1e-3),
        {
            "dask_dml": ours(gd(loss="epsilon_insensitive", epsilon=0.5, alpha=1e-3)),
            "liblinear": Contestant(
                sklearn(
                    "svm",
                    "LinearSVR",
                    epsilon=0.5,
                    C=1.0 / (1e-3 * 300_000),
                    dual=True,
                    max_iter=3000,
                ),
                (1e-1, 1e-2, 1e-3, 1e-4, 1e-5),
            ),
        },
    ),
    "quantile": Workload(
        "quantile 0.9 with an L1 penalty, 20,000 x 20, heavy tails",
        partial(data.regression, 20_000, 20, noise="heavy"),
        regression(pinball, 1e-3, 1.0),
        {
            "dask_dml": ours(gd(loss="quantile", quantile=0.9, alpha=1e-3, penalty="l1")),
            "scikit-learn": Contestant(quantile_by_highs(0.9, 1e-3), (1e-7,)),
        },
    ),
    "hinge": svm(
        "hinge, 300,000 x 100, C=1e-3",
        CLASSES,
        "hinge",
        1e-3,
        bar=0.4,
        rival="snapml",
    ),
    "squared-hinge": svm(
        "squared hinge, 300,000 x 100, C=1e-3",
        CLASSES,
        "squared_hinge",
        1e-3,
        bar=0.4,
        rival="snapml",
    ),
    "text-squared-hinge": svm(
        "squared hinge, hashed text, 50,000 x 262,144, C=1", TEXT, "squared_hinge", 1.0
    ),
    "text-hinge": svm("hinge, hashed text, 50,000 x 262,144, C=1", TEXT, "hinge", 1.0),
    "headlines-squared-hinge": svm(
        "squared hinge, tf-idf of headlines, C=1", data.headlines, "squared_hinge", 1.0
    ),
    "headlines-hinge": svm("hinge, tf-idf of headlines, C=1", data.headlines, "hinge", 1.0),
    "w8a-hinge": svm("hinge, w8a, C=1", data.w8a, "hinge", 1.0),
    "w8a-squared-hinge": svm("squared hinge, w8a, C=1", data.w8a, "squared_hinge", 1.0),
    "digits": svm(
        "ten classes, squared hinge, 57,504 x 64, C=1e-2",
        partial(data.digits, 32),
        "squared_hinge",
        1e-2,
        bar=0.1,
        rival="liblinear",
    ),
    "sgd-epoch": pair(
        "one pass of SGD, 1,000,000 x 100",
        ours(sgd(alpha=1e-4, max_iter=1, tol=None)),
        Contestant(
            sklearn("linear_model", "SGDRegressor", alpha=1e-4, max_iter=1, penalty="l2", tol=None)
        ),
        table=MILLION,
        objective=regression(squared, 1e-4),
        bar=1.0 / 15.0,
    ),
    "sgd": Workload(
        "SGD to accuracy, 300,000 x 100",
        partial(data.regression, 300_000, 100),
        regression(squared, 1e-4),
        {
            "dask_dml": ours(sgd(alpha=1e-4, max_iter=100)),
            "scikit-learn": Contestant(
                sklearn("linear_model", "SGDRegressor", alpha=1e-4, max_iter=100, average=True),
                (1e-3, 1e-5, 1e-7),
            ),
        },
        accuracy=1e-4,
    ),
    "small-ridge": small("ridge", 1000, 20),
    "small-sgd": small("sgd", 1000, 20),
    "small-squared-hinge": small("squared-hinge", 1000, 20),
    "small-hinge": small("hinge", 1000, 20),
    "warm-ridge": small("ridge", 2000, 10, cluster=(2, 1)),
    "warm-sgd": small("sgd", 2000, 10, cluster=(2, 1)),
    "warm-squared-hinge": small("squared-hinge", 2000, 10, cluster=(2, 1)),
    "warm-hinge": small("hinge", 2000, 10, cluster=(2, 1)),
    "threads-ridge": layouts(
        "ridge, 1,000,000 x 100: workers or threads",
        gd(alpha=1e-4),
        MILLION,
        regression(squared, 1e-4),
        two_workers={"cluster": (2, 1)},
        one_worker_of_two_threads={"cluster": (1, 2)},
        one_worker_of_one_thread={"cluster": (1, 1)},
    ),
    "threads-huber": layouts(
        "Huber, 1,000,000 x 100: workers or threads",
        gd(alpha=1e-4, loss="huber", epsilon=1.35),
        HEAVY,
        regression(huber, 1e-4),
        two_workers={"cluster": (2, 1)},
        one_worker_of_two_threads={"cluster": (1, 2)},
        one_worker_of_one_thread={"cluster": (1, 1)},
    ),
    "chunks": layouts(
        "ridge, 1,000,000 x 100: number of chunks",
        gd(alpha=1e-4),
        MILLION,
        regression(squared, 1e-4),
        ten={"n_chunks": 10},
        a_hundred={"n_chunks": 100},
        a_thousand={"n_chunks": 1000},
        ten_thousand={"n_chunks": 10_000},
    ),
    "streamed-ridge": streamed("ridge", gd(alpha=1e-4), regression(squared, 1e-4), 2),
    "streamed-huber": streamed(
        "Huber", gd(alpha=1e-4, loss="huber", epsilon=1.35), regression(huber, 1e-4), 7
    ),
}
