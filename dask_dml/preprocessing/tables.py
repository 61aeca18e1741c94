"""Tables: chunks whose columns may be of any kind, in the containers that scikit-learn takes.

A table is a pandas DataFrame, a two-dimensional ndarray or a CSR matrix; where a transformer wants
one column of texts it is a Series or a one-dimensional ndarray.  An empty one says what its
collection's chunks are like.  Nothing here knows Dask.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from dask_dml.input.containers import is_sparse
from dask_dml.input.sparse_format import check_sparse

Table: TypeAlias = Any  # pandas.DataFrame, numpy.ndarray or scipy.sparse CSR
Columns: TypeAlias = "int | list[int] | None"  # one (as a vector), some, all


#: The kind of a vector of anything, such as what a Dask bag holds.
OBJECTS = np.empty(0, object)


def objects(items: Sequence[Any]) -> np.ndarray:
    """Return a vector of anything, lists and mappings as well."""
    made = np.empty(len(items), object)
    for number, item in enumerate(items):
        made[number] = item
    return made


def is_frame(table: Table) -> bool:
    """Whether a table is a pandas DataFrame or Series."""
    return hasattr(table, "iloc")


def settled(table: Table) -> Table:
    """Return a table whose texts have NaN where they are missing, as scikit-learn expects it.

    Dask reads text as a dtype with `pandas.NA`, which can neither be sorted nor compared; what
    pandas itself reads has NaN.  All else is returned as it is.

    Raises
    ------
    ValueError
        If a sparse matrix contradicts its shape: scikit-learn would read outside of its memory.
    """
    if not is_frame(table):
        if is_sparse(table):
            check_sparse(table)
        return table
    if table.ndim == 1:
        return _settled_series(table) if _has_na(table.dtype) else table
    places = [place for place, dtype in enumerate(table.dtypes) if _has_na(dtype)]
    if not places:
        return table
    return table.assign(
        **{table.columns[place]: _settled_series(table.iloc[:, place]) for place in places}
    )


def _has_na(dtype: Any) -> bool:
    import pandas as pd

    return isinstance(dtype, pd.StringDtype) and dtype.na_value is pd.NA


def _settled_series(series: Any) -> Any:
    import pandas as pd

    values = series.to_numpy(dtype=object, na_value=np.nan)
    return pd.Series(values, index=series.index, name=series.name, dtype=object)


def take(table: Table, columns: Columns) -> Table:
    """Return some columns of a table, given by number; a single number gives a vector."""
    if columns is None:
        return table
    return table.iloc[:, columns] if is_frame(table) else table[:, columns]


def column(table: Table, number: int) -> Any:
    """Return a column as a Series or a one-dimensional ndarray."""
    if is_frame(table):
        return table if table.ndim == 1 else table.iloc[:, number]
    if is_sparse(table):
        return table[:, [number]].toarray()[:, 0]
    return table if table.ndim == 1 else table[:, number]


def rows(table: Table, numbers: np.ndarray) -> Table:
    """Return some rows of a table, given by number."""
    return table.iloc[numbers] if is_frame(table) else table[numbers]


def stacked(parts: Sequence[Table]) -> Table:
    """Return the rows of some tables of one kind, one below the other."""
    if is_frame(parts[0]):
        import pandas as pd

        return pd.concat(parts)
    if is_sparse(parts[0]):
        import scipy.sparse as sp

        return sp.vstack(parts, format="csr")
    return np.concatenate(parts)


def width(table: Table) -> int:
    """Return the number of columns."""
    return 1 if table.ndim == 1 else int(table.shape[1])


def build(like: Table, values: Sequence[Sequence[Any]]) -> Table:
    """Make a small table of given values, of the kind of another.

    Parameters
    ----------
    like : table
        Its container, names and dtypes are taken over; dtypes as far as the values allow.
    values : sequence of sequences
        Values of each column, all equally many.

    Returns
    -------
    table : table
    """
    if is_frame(like):
        import pandas as pd

        if like.ndim == 1:
            return _series(values[0], like.dtype).rename(like.name)
        parts = [
            _series(some, dtype).rename(name)
            for some, dtype, name in zip(values, like.dtypes, like.columns, strict=True)
        ]
        table = pd.concat(parts, axis=1) if parts else pd.DataFrame(index=[0])
        table.columns = like.columns
        return table
    made = np.empty((len(values[0]) if len(values) else 1, len(values)), object)
    for number, some in enumerate(values):
        made[:, number] = objects(list(some))
    # Other lengths than those of the empty table's strings may come.
    made = made.astype(like.dtype.kind if like.dtype.kind in "US" else like.dtype)
    if is_sparse(like):
        return type(like)(made)
    return made[:, 0] if like.ndim == 1 else made


def build_frame(values: np.ndarray, names: Any) -> Any:
    """Make a pandas DataFrame of an array and names."""
    import pandas as pd

    return pd.DataFrame(values, columns=names)


def _series(values: Sequence[Any], dtype: Any) -> Any:
    import pandas as pd

    if isinstance(dtype, pd.CategoricalDtype):
        observed = [value for value in values if not pd.isna(value)]
        if not all(value in dtype.categories for value in observed):
            return pd.Series(pd.Categorical(values))
    if isinstance(dtype, np.dtype) and dtype.kind == "f":
        values = [np.nan if value is pd.NA else value for value in values]
    return pd.Series(list(values), dtype=dtype)


def example(like: Table) -> Table:
    """Make a table of one row, of values that any column of the kind could hold."""
    if is_frame(like):
        kinds = [like.dtype] if like.ndim == 1 else list(like.dtypes)
    else:
        kinds = [like.dtype] * width(like)
    return build(like, [[_value(kind)] for kind in kinds])


def _value(dtype: Any) -> Any:
    import pandas as pd

    if isinstance(dtype, pd.CategoricalDtype):
        known = dtype.categories
        # Dask has a category that says so where it does not know them.
        return known[0] if len(known) else "a"
    if pd.api.types.is_datetime64_any_dtype(dtype):
        return pd.Timestamp("2000-01-01", tz=getattr(dtype, "tz", None))
    if pd.api.types.is_timedelta64_dtype(dtype):
        return pd.Timedelta(0)
    if pd.api.types.is_bool_dtype(dtype):
        return False
    return 1 if pd.api.types.is_numeric_dtype(dtype) else "a"


def number_dtype(like: Table) -> np.dtype:
    """Return the dtype in which scikit-learn holds a table's numbers: float32 if all are."""
    kinds = list(like.dtypes) if is_frame(like) and like.ndim == 2 else [like.dtype]
    known = bool(kinds) and all(isinstance(kind, np.dtype) for kind in kinds)
    single = known and np.result_type(*kinds) == np.float32
    return np.dtype(np.float32 if single else np.float64)


def is_nan(marker: Any) -> bool:
    """Whether a marker of missing values finds NaN among floats."""
    import pandas as pd

    return marker is pd.NA or (isinstance(marker, float | np.floating) and bool(np.isnan(marker)))


def same_value(value: Any, marker: Any) -> bool:
    """Whether a value is the one that stands for a missing one, as in `mask`."""
    return bool(mask(np.array([value], object), marker)[0])


def mask(values: np.ndarray, marker: Any) -> np.ndarray:
    """Return where values are missing: those equal to a marker, as scikit-learn compares.

    Parameters
    ----------
    values : ndarray
        Any dtype.
    marker : object
        NaN finds NaN but not None; `pandas.NA` finds all that pandas takes for missing; any
        other value finds its equals.

    Returns
    -------
    missing : ndarray of bool
    """
    import pandas as pd

    if marker is pd.NA:
        return np.asarray(pd.isna(values))
    if is_nan(marker):
        if values.dtype.kind in "iub":
            return np.zeros(values.shape, np.bool_)
        return np.asarray(values != values, np.bool_)
    return np.asarray(values == marker, np.bool_)
