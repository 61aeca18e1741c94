"""Tables with everything that real ones have, chunked in every way, and what to compare."""

from __future__ import annotations

from itertools import pairwise

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import scipy.sparse as sp
from hypothesis import strategies as st

N = 80
rng = np.random.default_rng(7)


def holes(values, share=0.2):
    values = values.copy()
    values[rng.random(len(values)) < share] = np.nan
    return values


FRAME = pd.DataFrame(
    {
        "level": holes(rng.normal(size=N).round(1) * 3.0 + 5.0),
        "count": rng.integers(0, 6, N),
        "wind": rng.choice(["N", "E", "south", None], N),
        "kind": pd.Categorical(rng.choice(["a", "b"], N), categories=["c", "b", "a"]),
        "flag": rng.random(N) < 0.3,
        "nullable": pd.array(rng.integers(0, 3, N), dtype="Int64"),
        "same": np.full(N, 2.5),
        "void": np.full(N, np.nan),
        "day": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 4, N), unit="D"),
    },
    index=pd.Index(range(3, N + 3), name="row"),
)
FRAME.loc[FRAME.index[::9], "nullable"] = pd.NA

#: Up to eight chunks, empty ones among them.
chunkings = st.lists(st.integers(0, N), max_size=7).map(
    lambda cuts: tuple(np.diff([0, *sorted(cuts), N]).tolist())
)


def framed(frame, sizes):
    bounds = list(pairwise(np.cumsum((0, *sizes))))
    return dd.from_map(lambda bound: frame.iloc[slice(*bound)], bounds, meta=frame.iloc[:0])


def arrayed(array, sizes, *, columns=-1, unknown=False):
    """Make a dask array of a dense or CSR one, with chunk sizes that may be unknown."""
    if sp.issparse(array):
        bounds = list(pairwise(np.cumsum((0, *sizes))))
        parts = [
            da.from_delayed(dask.delayed(array[a:b]), (b - a, array.shape[1]), array.dtype,
                            meta=array[:0])
            for a, b in bounds
        ]  # fmt: skip
        made = da.concatenate(parts, allow_unknown_chunksizes=True)
    else:
        made = da.from_array(array, chunks=(sizes, columns))
    if unknown:
        made._chunks = ((np.nan,) * len(sizes), *made.chunks[1:])
    return made


def gathered(lazy):
    """Return all chunks of a dask array, put together as they are."""
    parts = dask.compute(*np.ravel(lazy.to_delayed()))
    assert len({type(part) for part in parts}) == 1
    if sp.issparse(parts[0]):
        assert all(part.format == "csr" for part in parts)
        return sp.vstack(parts).toarray()
    return np.concatenate(parts)


def assert_same_values(mine, truth, rtol=1e-12):
    """Compare fitted attributes or results: numbers to rtol, everything else exactly."""
    if sp.issparse(truth):
        truth = truth.toarray()
        mine = mine.toarray() if sp.issparse(mine) else mine
    if isinstance(truth, list | tuple):
        assert len(mine) == len(truth)
        for one, other in zip(mine, truth, strict=True):
            assert_same_values(one, other, rtol)
    elif isinstance(truth, np.ndarray):
        assert mine.dtype == truth.dtype
        assert mine.shape == truth.shape
        if truth.dtype.kind == "f":
            np.testing.assert_allclose(mine, truth, rtol=rtol, atol=1e-15)
        else:
            equal = (mine == truth) | (pd.isna(mine) & pd.isna(truth))
            assert np.all(equal)
    elif isinstance(truth, float):
        np.testing.assert_allclose(mine, truth, rtol=rtol)
    elif hasattr(truth, "get_params"):
        assert type(mine) is type(truth)
        assert_same_fit(mine, truth, rtol)
    elif not callable(truth):
        assert mine is truth or mine == truth, (mine, truth)


#: Attributes that scikit-learn's transformers do not have.
OWN = {"rank_error_"}


def assert_same_fit(mine, truth, rtol=1e-12):
    """Compare all that scikit-learn's fit has left, private attributes among it."""
    assert vars(mine).keys() - OWN == vars(truth).keys()
    for name, value in vars(truth).items():
        try:
            assert_same_values(vars(mine)[name], value, rtol)
        except AssertionError as error:
            error.add_note(f"attribute {name}")
            raise
