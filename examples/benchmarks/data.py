"""The tables of the benchmarks: generated from fixed seeds, or real ones where they are found."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

Table = tuple[Any, np.ndarray]


def centred(X: np.ndarray, y: np.ndarray) -> Table:
    """Return columns and target without means.

    The optimal intercept is zero then, whether a library fits one, penalises it or leaves it out.
    """
    return X - X.mean(axis=0), y - y.mean(axis=0)


def regression(
    n_rows: int,
    n_features: int,
    *,
    decades: float = 0.0,
    noise: str = "normal",
    n_outputs: int = 1,
    dtype: str = "float64",
    informative: int | None = None,
) -> Table:
    """Return a linear model's table whose columns' scales fall over some decades."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n_rows, n_features))
    scale = np.logspace(0.0, -decades, n_features)
    X *= scale
    w = rng.standard_normal((n_features, n_outputs)) / scale[:, None]
    if informative is not None:
        w[informative:] = 0.0
    y = X @ w
    y += rng.standard_normal(y.shape) if noise == "normal" else rng.standard_t(2, y.shape)
    X, y = centred(X, y)
    return X.astype(dtype), (y[:, 0] if n_outputs == 1 else y).astype(dtype)


def classes(n_rows: int, n_features: int) -> Table:
    """Return two overlapping classes, labelled -1 and 1."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n_rows, n_features))
    w = rng.standard_normal(n_features) / np.sqrt(n_features)
    return X, np.where(X @ w + 0.5 * rng.standard_normal(n_rows) > 0, 1.0, -1.0)


def hashed_text(n_rows: int, n_features: int) -> Table:
    """Return rows like hashed text: some 137 words by Zipf's law, each row of unit length."""
    rng = np.random.default_rng(0)
    n_words = 157
    words = np.exp(rng.random((n_rows, n_words)) * np.log(1e6)).astype(np.int64)
    columns = (words * 2654435761 % n_features).astype(np.int32)
    w = rng.standard_normal(n_features) * np.minimum(1.0, 30.0 / np.arange(1, n_features + 1))
    score = (w[words % n_features] + 0.1 * rng.standard_normal(words.shape)).sum(axis=1)
    indptr = np.arange(n_rows + 1, dtype=np.int32) * n_words
    X = sp.csr_array((np.ones(columns.size), columns.ravel(), indptr), shape=(n_rows, n_features))
    X.sum_duplicates()
    X.data /= np.repeat(np.sqrt(X.multiply(X).sum(axis=1)), np.diff(X.indptr))
    return X, np.where(score > np.median(score), 1.0, -1.0)


def digits(copies: int) -> Table:
    """Return scikit-learn's digits, each several times with noise of its own."""
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    X = np.tile(X / 16.0, (copies, 1))
    X += 0.05 * rng.standard_normal(X.shape)
    return X, np.tile(y, copies).astype(np.float64)


def folder() -> Path:
    """Return the folder of the real tables; FileNotFoundError where there is none."""
    name = os.environ.get("DASK_DML_DATA")
    if not name:
        raise FileNotFoundError("DASK_DML_DATA does not name the folder of the real tables")
    return Path(name).resolve()


def air_quality() -> Table:
    """Return the hours of Beijing's stations: PM2.5 from the weather and the other gases."""
    import pandas as pd

    tables = [
        pd.read_csv(path, low_memory=False)
        for path in sorted(folder().glob("prsa_beijing_air/**/*.csv"))
    ]
    if not tables:
        raise FileNotFoundError("no table of air quality")
    table = pd.concat(tables, ignore_index=True)
    for name in ("PM10", "SO2", "NO2", "CO", "O3", "TEMP", "PRES", "DEWP", "RAIN", "WSPM"):
        table[name] = pd.to_numeric(table[name], errors="coerce")
    table = table.dropna(subset=["PM2.5"])
    numbers = table[["PM10", "SO2", "NO2", "CO", "O3", "TEMP", "PRES", "DEWP", "RAIN", "WSPM"]]
    parts = [numbers.fillna(numbers.median()).to_numpy(np.float64)]
    parts += [
        pd.get_dummies(table[name], dtype=np.float64).to_numpy()[:, 1:]
        for name in ("month", "hour", "wd", "station")
    ]
    X = np.column_stack(parts)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    return centred(X, table["PM2.5"].to_numpy(np.float64))


def w8a() -> Table:
    """Return the web pages of w8a."""
    from sklearn.datasets import load_svmlight_file

    paths = [path for path in folder().glob("w8a/**/*") if path.is_file()]
    paths = [path for path in paths if path.suffix.lower() not in {".md", ".txt", ".html"}]
    if not paths:
        raise FileNotFoundError("no table of web pages")
    X, y = load_svmlight_file(str(paths[0]))
    return sp.csr_array(X), np.where(y > 0, 1.0, -1.0)


def headlines() -> Table:
    """Return the tf-idf weights of headlines' words and pairs of words: clickbait or not."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts: list[str] = []
    labels: list[float] = []
    for path in sorted(folder().glob("clickbait/**/*.gz")):
        with gzip.open(path, "rt", encoding="utf-8", errors="replace") as file:
            lines = [line.strip() for line in file if line.strip()]
        texts += lines
        labels += [-1.0 if path.name.startswith("non") else 1.0] * len(lines)
    if len(set(labels)) < 2:
        raise FileNotFoundError("no headlines")
    order = np.random.default_rng(0).permutation(len(texts))
    X = TfidfVectorizer(ngram_range=(1, 2)).fit_transform([texts[i] for i in order])
    return sp.csr_array(X), np.asarray(labels)[order]


def save(X: Any, y: np.ndarray, place: Path) -> None:
    """Write a table for the processes that fit it."""
    if sp.issparse(X):
        for name in ("data", "indices", "indptr"):
            np.save(place / f"{name}.npy", getattr(X, name))
        np.save(place / "shape.npy", np.asarray(X.shape))
    else:
        np.save(place / "X.npy", X)
    np.save(place / "y.npy", y)


def load(place: Path) -> Table:
    """Read a table."""
    y = np.load(place / "y.npy")
    if (place / "X.npy").exists():
        return np.load(place / "X.npy"), y
    parts = [np.load(place / f"{name}.npy") for name in ("data", "indices", "indptr")]
    # Not an array: some libraries know matrices only.
    return sp.csr_matrix(tuple(parts), shape=tuple(np.load(place / "shape.npy"))), y


def from_disk(place: Path, n_chunks: int) -> tuple[Any, Any]:
    """Return dask arrays of a saved dense table, whose chunks are read when they are needed."""
    import dask.array as da

    arrays = []
    for name in ("X", "y"):
        held = np.load(place / f"{name}.npy", mmap_mode="r")
        rows = da.core.normalize_chunks(-(-len(held) // n_chunks), held.shape[:1])
        bounds = np.cumsum([0, *rows[0]])
        arrays.append(
            da.map_blocks(
                read,
                da.from_array(bounds[:-1], chunks=1),
                da.from_array(bounds[1:], chunks=1),
                path=str(place / f"{name}.npy"),
                new_axis=tuple(range(1, held.ndim)),
                chunks=(rows[0], *((n,) for n in held.shape[1:])),
                dtype=held.dtype,
                meta=np.empty((0,) * held.ndim, held.dtype),
            )
        )
    return arrays[0], arrays[1]


def read(start: np.ndarray, stop: np.ndarray, path: str) -> np.ndarray:
    """Read some rows of a saved array."""
    return np.array(np.load(path, mmap_mode="r")[int(start[0]) : int(stop[0])])
