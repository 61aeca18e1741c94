"""Rank the pages of a graph: PageRank as a sparse least-squares problem.

With the matrix P of a surfer who follows a random link, and jumps to a random page with probability
1 - d, the ranks r solve the linear system (I - d P') r = (1 - d) / n. Pages without links need no
care: the solution, divided by its sum, is that of a surfer who jumps from them (Langville and
Meyer, *Deeper inside PageRank*, 2004). `DistributedGDRegressor` solves the system as least squares
on CSR chunks; the power iteration, in NumPy, says whether the ranks are right.

Usage: python examples/pagerank.py [PAGES]
"""

from __future__ import annotations

import itertools
import sys
import time

import dask.array as da
import numpy as np
import scipy.sparse as sp
from dask import delayed
from dask.distributed import Client, LocalCluster

from dask_dml import DistributedGDRegressor

DAMPING = 0.85


def make_links(n_pages: int, n_links: int = 8) -> sp.csr_array:
    """Return a made-up graph: links lead to earlier pages, and to some of them far more often."""
    rng = np.random.default_rng(0)
    source = np.repeat(np.arange(n_pages), n_links)
    target = (n_pages * rng.random(len(source)) ** 4).astype(int)
    keep = (source != target) & (rng.random(n_pages)[source] > 0.1)  # a tenth links to nothing
    ones = np.ones(keep.sum())
    links = sp.csr_array((ones, (source[keep], target[keep])), shape=(n_pages, n_pages))
    links.data[:] = 1.0  # once is enough
    return links


def steps_to(links: sp.csr_array) -> sp.csr_array:
    """Return P': column j holds where a surfer goes from page j."""
    n_out = links.sum(axis=1)
    weights = np.divide(1.0, n_out, out=np.zeros(len(n_out)), where=n_out > 0)
    return sp.csr_array((sp.diags_array(weights) @ links).T)


def by_least_squares(
    steps: sp.csr_array, n_chunks: int
) -> tuple[np.ndarray, DistributedGDRegressor]:
    """Return the ranks, which add up to 1, and the fitted model."""
    n = steps.shape[0]
    system = sp.eye_array(n, format="csr") - DAMPING * steps
    bounds = np.linspace(0, n, n_chunks + 1).astype(int)
    parts = [
        da.from_delayed(delayed(system[a:b]), (b - a, n), float, meta=sp.csr_array((0, n)))
        for a, b in itertools.pairwise(bounds)
    ]
    X, y = da.concatenate(parts), np.full(n, 1.0 - DAMPING)  # ranks of mean 1, not 1 / n
    model = DistributedGDRegressor(penalty=None, fit_intercept=False, tol=1e-7).fit(X, y)
    return model.coef_ / model.coef_.sum(), model


def by_power_iteration(steps: sp.csr_array) -> np.ndarray:
    """Return the ranks that a surfer's steps settle at."""
    n = steps.shape[0]
    stuck = np.asarray(steps.sum(axis=0)) == 0
    ranks = np.full(n, 1.0 / n)
    for _ in range(1000):
        before = ranks
        ranks = DAMPING * (steps @ before + before[stuck].sum() / n) + (1.0 - DAMPING) / n
        if np.abs(ranks - before).sum() < 1e-14:
            break
    return ranks


def run(n_pages: int, n_chunks: int = 8) -> float:
    """Rank the pages both ways; return the largest relative difference of any rank."""
    links = make_links(n_pages)
    steps = steps_to(links)
    start = time.perf_counter()
    ranks, model = by_least_squares(steps, n_chunks)
    seconds = time.perf_counter() - start
    truth = by_power_iteration(steps)
    error = float(np.max(np.abs(ranks - truth) / truth))
    print(f"{n_pages:,} pages, {links.nnz:,} links: {seconds:.1f} s, {model.n_iter_} passes")
    print(f"largest relative difference from the power iteration: {error:.1e}")
    print("first pages:", np.argsort(-ranks)[:5].tolist(), np.argsort(-truth)[:5].tolist())
    try:
        import networkx
    except ImportError:
        return error
    graph = networkx.from_scipy_sparse_array(
        links, create_using=networkx.DiGraph, edge_attribute="w"
    )
    theirs = networkx.pagerank(graph, alpha=DAMPING, tol=1e-12, weight=None)
    print(f"from networkx: {max(abs(ranks[p] - r) / r for p, r in theirs.items()):.1e}")
    return error


def main() -> None:
    n_pages = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster),
    ):
        error = run(n_pages)
    if error > 1e-4:
        sys.exit(f"a relative difference of {error:.1e} is more than expected")


if __name__ == "__main__":
    main()
