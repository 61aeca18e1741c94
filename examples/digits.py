"""Recognise handwritten digits: ten classes, from many shifted copies of a small collection.

scikit-learn's 1,797 digits of 8 x 8 pixels are divided into 1,347 to learn from and 450 to test on.
The copies of the former, moved by up to a pixel and with noise, are made where they are needed, and
random Fourier features let a linear machine see which pixels belong together. `LinearSVC` gets the
same rows in memory.

Usage: python examples/digits.py [COPIES]
"""

from __future__ import annotations

import sys
import time

import dask.array as da
import numpy as np
from dask import delayed
from dask.distributed import Client, LocalCluster
from sklearn.datasets import load_digits
from sklearn.kernel_approximation import RBFSampler
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from dask_dml import DistributedLinearSVC, to_sklearn
from dask_dml.metrics import accuracy_score, confusion_matrix
from dask_dml.preprocessing import BlockwiseTransformer


def moved(pixels: np.ndarray, seed: int) -> np.ndarray:
    """Return images, each moved by up to a pixel, with another contrast and noise."""
    rng = np.random.default_rng(seed)
    images = np.pad(pixels.reshape(-1, 8, 8), ((0, 0), (1, 1), (1, 1)))
    rows, columns = rng.integers(0, 3, (2, len(images)))
    windows = np.lib.stride_tricks.sliding_window_view(images, (8, 8), axis=(1, 2))
    chosen = windows[np.arange(len(images)), rows, columns].reshape(pixels.shape)
    contrast = rng.uniform(0.8, 1.2, (len(images), 1))
    return chosen * contrast + rng.normal(0.0, 0.05, pixels.shape)


def copies(pixels: np.ndarray, labels: np.ndarray, n_copies: int) -> tuple[da.Array, da.Array]:
    """Return the images and moved copies of them, one chunk for each copy."""
    make = delayed(moved, pure=True)
    parts = [da.from_delayed(make(pixels, seed), pixels.shape, float) for seed in range(n_copies)]
    X = da.concatenate([da.from_array(pixels, chunks=-1), *parts])
    return X, da.from_array(np.tile(labels, n_copies + 1), chunks=len(labels))


def run(n_copies: int, n_components: int = 300) -> tuple[float, float]:
    """Fit both; return their shares of right answers for moved images that neither has seen."""
    pixels, labels = load_digits(return_X_y=True)
    seen, unseen, y_seen, y_unseen = train_test_split(
        pixels / 16.0, labels, test_size=0.25, random_state=0, stratify=labels
    )
    X, y = copies(seen, y_seen, n_copies)
    test = moved(unseen, 1_000_000)
    waves = RBFSampler(gamma=0.1, n_components=n_components, random_state=0)

    start = time.perf_counter()
    model = make_pipeline(BlockwiseTransformer(waves), DistributedLinearSVC()).fit(X, y)
    seconds = time.perf_counter() - start
    mine = accuracy_score(y_unseen, to_sklearn(model).predict(test))
    print(f"{len(X):,} rows, {n_components} features, ten classes: {seconds:.1f} s")
    print(
        f"moved digits held out: {mine:.4f} right; as they are: {model.score(unseen, y_unseen):.4f}"
    )
    print(confusion_matrix(y, model.predict(X)).diagonal().sum(), "of the rows of the fit right")

    start = time.perf_counter()
    theirs = make_pipeline(waves, LinearSVC()).fit(X.compute(), y.compute())
    seconds = time.perf_counter() - start
    print(f"LinearSVC in memory: {theirs.score(test, y_unseen):.4f} right, {seconds:.1f} s")
    alone = make_pipeline(waves, LinearSVC()).fit(seen, y_seen)
    print(f"LinearSVC without the copies: {alone.score(test, y_unseen):.4f} right")
    return mine, theirs.score(test, y_unseen)


def main() -> None:
    n_copies = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster),
    ):
        mine, theirs = run(n_copies)
    if mine < 0.9 or mine < theirs - 0.01:
        sys.exit(f"{mine:.4f} right is less than expected")


if __name__ == "__main__":
    main()
