"""Tables that are hard for linear models: generated ones, and real ones where they are at hand.

Every table has classes and targets, so that each estimator can be tried on each.  The same name
gives the same numbers in every process.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn import datasets
from sklearn.feature_extraction.text import HashingVectorizer

SCALINGS = ("raw", "standardised", "minmax")


@dataclass(frozen=True)
class Table:
    """Rows with classes and targets.

    Attributes
    ----------
    name, scaling : str
        What `load` was asked for.
    X : ndarray or csr_array of shape (n, p)
        The columns, float64.
    labels : ndarray of shape (n,)
        Classes, as whole numbers.
    y : ndarray of shape (n,)
        Targets.
    """

    name: str
    scaling: str
    X: Any
    labels: np.ndarray
    y: np.ndarray

    @property
    def is_sparse(self) -> bool:
        """Whether X is CSR."""
        return sp.issparse(self.X)


Made = tuple[Any, np.ndarray, np.ndarray]


def _targets(rng: np.random.Generator, X: Any, noise: float = 0.3) -> tuple[np.ndarray, Any]:
    """Return classes and targets that depend on all columns, whatever their scale."""
    spread = np.sqrt(np.asarray((X**2).mean(axis=0)).ravel()) if sp.issparse(X) else X.std(axis=0)
    w = rng.standard_normal(X.shape[1]) / np.where(spread > 0.0, spread, 1.0)
    w /= np.sqrt(X.shape[1])
    score = X @ w
    score = (score - np.median(score)) / max(score.std(), 1e-300)
    y = score + noise * rng.standard_t(3, len(score))
    return (y > np.median(y)).astype(np.int64), y


def _rare(rng: np.random.Generator, n: int = 20_000) -> Made:
    """A few dense columns, many that are other than zero in 1e-4 of the rows, with large values."""
    dense = rng.standard_normal((n, 6))
    rare = np.zeros((n, 60))
    for column in range(rare.shape[1]):
        hit = rng.choice(n, rng.integers(1, 2 + n // 5000), replace=False)
        rare[hit, column] = rng.lognormal(2.0, 1.5, len(hit))
    X = np.hstack([dense, rare])
    score = dense @ [2.0, -1.0, 1.0, 0.5, 0.0, 0.0] + 0.5 * rng.standard_normal(n)
    # Where a rare column is set it decides the class, but for a few rows.
    decided = (rare * rng.choice([-1.0, 1.0], rare.shape[1])).sum(axis=1)
    score += 4.0 * decided + 2.0 * np.sign(score)
    labels = (score > 0.0).astype(np.int64)
    wrong = rng.choice(n, n // 500, replace=False)
    labels[wrong] = 1 - labels[wrong]
    return X, labels, score + rng.standard_t(2, n)


def _connections(rng: np.random.Generator, n: int = 40_000) -> Made:
    """Rows as of network connections: a few kinds, and columns that are set in 1 to 20 rows."""
    kind = rng.integers(0, 12, n)
    centre = 2.0 * rng.standard_normal((12, 30))
    dense = np.maximum(centre[kind] + 0.3 * rng.standard_normal((n, 30)) * rng.random((n, 1)), 0.0)
    service = (kind + (rng.random(n) < 0.1) * rng.integers(0, 8, n)) % 20
    rare = np.zeros((n, 68))
    for column in range(rare.shape[1]):
        hit = rng.choice(n, rng.integers(1, 21), replace=False)
        rare[hit, column] = rng.lognormal(1.0, 1.0, len(hit))
    labels = (rng.random(12) < 0.6)[kind].astype(np.int64)
    wrong = rng.choice(n, n // 1000, replace=False)
    labels[wrong] = 1 - labels[wrong]
    y = labels + rare.sum(axis=1) + 0.1 * rng.standard_t(2, n)
    return np.hstack([dense, np.eye(20)[service], rare]), labels, y


def _heavy_tails(rng: np.random.Generator) -> Made:
    X = np.hstack([rng.standard_t(1.2, (5000, 8)), rng.lognormal(0.0, 2.5, (5000, 8))])
    labels, y = _targets(rng, np.sign(X) * np.log1p(np.abs(X)))
    return X, labels, y * rng.lognormal(0.0, 1.5, len(y))


def _levels(rng: np.random.Generator, n: int, counts: tuple[int, ...]) -> list[np.ndarray]:
    """Return categories, some of which are frequent and most of which are rare."""
    columns = []
    for count in counts:
        share = 1.0 / np.arange(1, count + 1) ** 1.3
        columns.append(rng.choice(count, n, p=share / share.sum()))
    return columns


def _one_hot(rng: np.random.Generator, n: int = 6000) -> Made:
    """All levels of each category: their columns add up to that of the intercept."""
    levels = _levels(rng, n, (5, 20, 60))
    X = np.hstack([np.eye(count)[level] for level, count in zip(levels, (5, 20, 60), strict=True)])
    labels, y = _targets(rng, X)
    return X, labels, y


def _one_hot_sparse(rng: np.random.Generator, n: int = 10_000) -> Made:
    counts = (10, 100, 400)
    parts = [
        sp.csr_array((np.ones(n), (np.arange(n), level)), shape=(n, count))
        for level, count in zip(_levels(rng, n, counts), counts, strict=True)
    ]
    X = sp.csr_array(sp.hstack([*parts, sp.csr_array(rng.standard_t(2, (n, 3)))]))
    labels, y = _targets(rng, X)
    # A scale of y as that of money, with a tail as of claims.
    return X, labels, 100.0 * y + 1000.0 * rng.lognormal(0.0, 2.0, n) * (rng.random(n) < 0.1)


def _near_separable(rng: np.random.Generator) -> Made:
    X, labels, y = _separable(rng)
    wrong = rng.choice(len(labels), 3, replace=False)
    labels[wrong] = 1 - labels[wrong]
    return X, labels, y


def _separable(rng: np.random.Generator) -> Made:
    X = rng.standard_normal((3000, 20))
    score = X @ rng.standard_normal(20) / np.sqrt(20)
    return X + 0.02 * np.sign(score)[:, None], (score > 0.0).astype(np.int64), score


def _imbalanced(rng: np.random.Generator) -> Made:
    X = rng.standard_normal((20_000, 10))
    labels = np.zeros(len(X), dtype=np.int64)
    labels[rng.choice(len(X), 2, replace=False)] = 1
    X[labels == 1] += 1.0
    y = X @ rng.standard_normal(10) + rng.standard_normal(len(X))
    # A target as rare as the class.
    return X, labels, np.where(labels == 1, 1e4, y)


def _duplicates(rng: np.random.Generator) -> Made:
    X = rng.standard_normal((120, 12))
    labels, y = _targets(rng, X, noise=1.0)
    again = rng.integers(0, 120, 6000)
    labels = np.where(rng.random(6000) < 0.05, 1 - labels[again], labels[again])
    return X[again], labels, y[again]


def _offsets(rng: np.random.Generator) -> Made:
    """Columns far from zero, constant columns, and targets far from zero."""
    X = rng.standard_normal((4000, 12))
    labels, y = _targets(rng, X)
    X[:, 3:7] += [1e3, 1e5, 1e7, -1e6]
    X[:, 7] = 3.0
    X[:, 8] = 0.0
    X[:, 9] = 1e5
    return X, labels, y + 1e6


def _more_columns(rng: np.random.Generator) -> Made:
    X = rng.standard_normal((120, 1200)) * np.geomspace(0.1, 10.0, 1200)
    labels, y = _targets(rng, X)
    return X, labels, y


def _few_rows(rng: np.random.Generator) -> Made:
    X = rng.standard_normal((30, 2500)) * np.geomspace(1.0, 100.0, 2500)
    labels, y = _targets(rng, X)
    return X, labels, y


def _text(rng: np.random.Generator, n: int = 4000, p: int = 2**15) -> Made:
    """Rows like hashed text: words by Zipf's law, each row of unit length."""
    words = np.exp(rng.random((n, 12)) * np.log(1e5)).astype(np.int64)
    columns = words * 2654435761 % p
    X = sp.csr_array(
        (np.ones(columns.size), (np.repeat(np.arange(n), 12), columns.ravel())), (n, p)
    )
    X.sum_duplicates()
    length = np.sqrt(np.asarray(X.multiply(X).sum(axis=1)).ravel())
    X.data /= np.repeat(length, np.diff(X.indptr))
    score = X @ rng.standard_normal(p) + 0.2 * rng.standard_normal(n)
    return X, (score > np.median(score)).astype(np.int64), score


def _six_decades(rng: np.random.Generator) -> Made:
    X = rng.standard_normal((3000, 12))
    labels, y = _targets(rng, X)
    return X * 10.0 ** rng.uniform(-3, 3, 12), labels, y


def _collinear(rng: np.random.Generator) -> Made:
    base = rng.standard_normal((3000, 8))
    X = np.hstack([base, base[:, :4], base @ rng.standard_normal((8, 4))])
    X[:, -1] += 1e-7 * rng.standard_normal(3000)
    labels, y = _targets(rng, base)
    return X, labels, y


def _perfect(rng: np.random.Generator) -> Made:
    """Targets that a model meets exactly."""
    X = rng.standard_normal((800, 6)) + 5.0
    y = X @ rng.standard_normal(6) + 2.0
    return X, (y > np.median(y)).astype(np.int64), y


def _tiny(rng: np.random.Generator) -> Made:
    X = rng.standard_normal((8, 3))
    return X, np.array([0, 1, 0, 1, 1, 0, 1, 0]), X @ [1.0, 2.0, 3.0] + rng.standard_normal(8)


def _sorted(rng: np.random.Generator) -> Made:
    """Rows in the order of the target: no chunk looks like another."""
    X = np.hstack([rng.standard_normal((5000, 6)), np.eye(10)[rng.integers(0, 10, 5000)]])
    labels, y = _targets(rng, X)
    order = np.argsort(y)
    return X[order], labels[order], y[order]


GENERATED: dict[str, Callable[[np.random.Generator], Made]] = {
    "rare": _rare,
    "connections": _connections,
    "heavy_tails": _heavy_tails,
    "one_hot": _one_hot,
    "one_hot_sparse": _one_hot_sparse,
    "near_separable": _near_separable,
    "separable": _separable,
    "imbalanced": _imbalanced,
    "duplicates": _duplicates,
    "offsets": _offsets,
    "more_columns": _more_columns,
    "few_rows": _few_rows,
    "text": _text,
    "six_decades": _six_decades,
    "collinear": _collinear,
    "perfect": _perfect,
    "tiny": _tiny,
    "sorted": _sorted,
}


def _bundled(name: str) -> Made:
    X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    y = np.asarray(y, dtype=np.float64)
    labels = (y > np.median(y)) if name == "diabetes" else y
    return np.asarray(X, dtype=np.float64), labels.astype(np.int64), y


BUNDLED = ("breast_cancer", "wine", "digits", "diabetes", "iris")


def _folder() -> Path | None:
    folder = os.environ.get("DASK_DML_DATA")
    return Path(folder) if folder else None


def _w8a(folder: Path) -> Made:
    X, y = datasets.load_svmlight_file(str(folder / "w8a" / "w8a"))
    X, y = sp.csr_array(X[::5]), y[::5]
    return X, (y > 0).astype(np.int64), y + np.asarray(X.sum(axis=1)).ravel() / 10.0


def _california_housing(folder: Path) -> Made:
    import pandas as pd

    table = pd.read_csv(folder / "california_housing" / "housing.csv").dropna().iloc[::2]
    table = pd.get_dummies(table, columns=["ocean_proximity"], dtype=float)
    y = table.pop("median_house_value").to_numpy(dtype=np.float64)
    return table.to_numpy(dtype=np.float64), (y > np.median(y)).astype(np.int64), y / 1000.0


def _nycflights13(folder: Path) -> Made:
    import pandas as pd

    table = pd.read_parquet(folder / "nycflights13" / "flights.parquet").dropna().iloc[::8]
    columns = ["month", "day", "dep_time", "dep_delay", "air_time", "distance", "hour"]
    parts = pd.get_dummies(table[["carrier", "origin", "dest"]], dtype=float)
    X = np.hstack([table[columns].to_numpy(dtype=np.float64), parts.to_numpy(dtype=np.float64)])
    y = table["arr_delay"].to_numpy(dtype=np.float64)
    return X, (y > 15.0).astype(np.int64), y


def _prsa_beijing_air(folder: Path) -> Made:
    import pandas as pd

    files = sorted((folder / "prsa_beijing_air").glob("*.csv"))
    table = pd.concat([pd.read_csv(file, na_values=[" "]).iloc[::40] for file in files]).dropna()
    columns = "year month hour SO2 NO2 CO O3 TEMP PRES DEWP RAIN WSPM".split()
    parts = pd.get_dummies(table[["station", "wd"]], dtype=float).to_numpy(dtype=np.float64)
    X = np.hstack([table[columns].to_numpy(dtype=np.float64), parts])
    y = table["PM2.5"].to_numpy(dtype=np.float64)
    return X, (y > 150.0).astype(np.int64), y


def _diabetes130(folder: Path) -> Made:
    import pandas as pd
    from sklearn.preprocessing import OneHotEncoder

    file = folder / "diabetes130" / "diabetic_data.csv.gz"
    table = pd.read_csv(file, na_values=["?"], keep_default_na=False, low_memory=False).iloc[::8]
    labels = (table.pop("readmitted") == "<30").to_numpy().astype(np.int64)
    table = table.drop(columns=["encounter_id", "patient_nbr"])
    y = table.pop("time_in_hospital").to_numpy(dtype=np.float64)
    numbers = table.select_dtypes("number")
    others = table.drop(columns=numbers.columns).astype(str)
    X = sp.hstack([OneHotEncoder().fit_transform(others), sp.csr_array(numbers.to_numpy(float))])
    return sp.csr_array(X), labels, y


def _clickbait(folder: Path) -> Made:
    texts, labels = [], []
    for label, name in enumerate(("non_clickbait_data", "clickbait_data")):
        with gzip.open(folder / "clickbait" / f"{name}.gz", "rt") as file:
            lines = [line for line in file.read().splitlines() if line.strip()][::6]
        texts += lines
        labels += [label] * len(lines)
    X = sp.csr_array(HashingVectorizer(n_features=2**17).transform(texts))
    return X, np.array(labels), np.array([float(len(text)) for text in texts])


REAL: dict[str, Callable[[Path], Made]] = {
    "w8a": _w8a,
    "california_housing": _california_housing,
    "nycflights13": _nycflights13,
    "prsa_beijing_air": _prsa_beijing_air,
    "diabetes130": _diabetes130,
    "clickbait": _clickbait,
}


def names() -> tuple[str, ...]:
    """Return the tables that can be loaded here."""
    real = tuple(REAL) if _folder() else ()
    return (*GENERATED, *BUNDLED, *real)


def kind(name: str) -> str:
    """Return whether a table is generated, one of scikit-learn's, or a real one of the folder."""
    return "generated" if name in GENERATED else "bundled" if name in BUNDLED else "real"


@lru_cache(maxsize=4)
def load(name: str, scaling: str = "raw") -> Table:
    """Return a table by name, its columns scaled.

    Sparse columns keep their zeros: they are divided by their spread or their largest value.
    """
    if name in GENERATED:
        X, labels, y = GENERATED[name](np.random.default_rng(zlib.crc32(name.encode())))
    elif name in BUNDLED:
        X, labels, y = _bundled(name)
    else:
        folder = _folder()
        assert folder is not None, f"{name} needs the folder that DASK_DML_DATA names"
        X, labels, y = REAL[name](folder)
    return Table(name, scaling, _scaled(X, scaling), labels, y)


def _scaled(X: Any, scaling: str) -> Any:
    if sp.issparse(X):
        # liblinear takes no larger ones.
        X = sp.csr_array((X.data, X.indices.astype(np.int32), X.indptr.astype(np.int32)), X.shape)
    if scaling == "raw":
        return X
    if sp.issparse(X):
        if scaling == "standardised":
            mean = np.asarray(X.mean(axis=0)).ravel()
            square = np.asarray(X.multiply(X).mean(axis=0)).ravel()
            scale = np.sqrt(np.maximum(square - mean**2, 0.0))
        else:
            scale = abs(X).max(axis=0).toarray().ravel()
        X.data = X.data / np.where(scale > 1e-12, scale, 1.0)[X.indices]
        return X
    if scaling == "standardised":
        scale = X.std(axis=0)
        shift = X.mean(axis=0)
    else:
        shift = X.min(axis=0)
        scale = X.max(axis=0) - shift
    constant = scale <= 1e-12 * np.abs(shift)
    return (X - shift) / np.where(constant | (scale == 0.0), 1.0, scale)
