"""Containers of numbers (NumPy, pandas, scipy.sparse) as plain arrays.

The checks use scikit-learn's wording where it has one.  Nothing here modifies what it is given.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp

from dask_dml.blocks import Matrix
from dask_dml.input.sparse_format import check_sparse

#: What is said of targets that are no numbers.
NO_NUMBERS_IN_Y = (
    "A regressor's targets are numbers: convert them, for example with y.astype(float). If they "
    "are classes, take a classifier, such as dask_dml.DistributedLinearSVC."
)


def check_columns(names: Iterable[Any], dtypes: Iterable[Any], *, objects: bool) -> None:
    """Reject columns of a frame that hold no numbers, by name.

    Parameters
    ----------
    names, dtypes : iterables
        The columns' names and dtypes.
    objects : bool
        Whether object and string columns pass, because a conversion will be tried.

    Raises
    ------
    ValueError
        Naming the columns and the remedy.
    """
    bad = not_numeric(names, dtypes, objects=objects)
    if bad:
        raise ValueError(
            f"The columns {', '.join(bad)} are not numeric. Leave them out, or encode them first, "
            "for example with pandas.get_dummies or dask.dataframe.get_dummies."
        )


def not_numeric(names: Iterable[Any], dtypes: Iterable[Any], *, objects: bool) -> list[str]:
    """Return the names, with dtypes, of columns that hold no numbers; see `check_columns`."""
    return [
        f"{name!r} ({dtype})"
        for name, dtype in zip(names, dtypes, strict=True)
        if not (_is_numeric(dtype) or (objects and _is_text(dtype)))
    ]


def is_sparse(value: Any) -> bool:
    """Whether a value is a scipy.sparse array or matrix."""
    return bool(sp.issparse(value))


def join_columns(parts: Sequence[Any]) -> Any:
    """Put column chunks of the same rows side by side; sparse where any of them is."""
    if len(parts) == 1:
        return parts[0]
    if any(is_sparse(part) for part in parts):
        for part in filter(is_sparse, parts):
            check_sparse(part)
        return sp.hstack([sp.csr_array(part) for part in parts], format="csr")
    return np.concatenate([np.asarray(part) for part in parts], axis=1)


def to_matrix(X: Any, dtype: np.dtype, where: str = "") -> Matrix:
    """Convert a chunk of any container to a C-ordered ndarray or canonical csr_array.

    Parameters
    ----------
    X : array-like, sparse matrix or DataFrame of shape (n_rows, n_features)
        The chunk; never modified.
    dtype : dtype
        float32 or float64.
    where : str
        Appended to errors, such as ``" in chunk 3"``.

    Returns
    -------
    matrix : ndarray or csr_array of shape (n_rows, n_features)
    """
    if is_sparse(X):
        return _canonical_csr(X, dtype, where)
    if _is_frame(X) and len(X.columns) and _is_sparse_frame(X):
        return _canonical_csr(X.sparse.to_coo(), dtype, where)
    return np.ascontiguousarray(to_numbers(X, dtype, "X", where))


def to_dense(values: Any) -> np.ndarray:
    """Convert a chunk of y or weights of any container to an array of numbers."""
    if is_sparse(values):
        check_sparse(values, "y")
        values = values.toarray()
    single = getattr(values, "dtype", None) == np.float32
    return to_numbers(values, np.dtype(np.float32 if single else np.float64), "y", "")


def check_kind(values: Any, name: str, where: str = "") -> None:
    """Reject arrays that NumPy would make numbers of in silence: dates, and masked values.

    Parameters
    ----------
    values : object
        Whatever the caller handed over; only NumPy's arrays are looked at.
    name : str
        What it is, for the error.
    where : str
        As in `to_matrix`.

    Raises
    ------
    ValueError
        Naming the remedy.
    """
    if isinstance(values, (list, tuple)) and len(values):
        values = values[0]
        values = values[0] if isinstance(values, (list, tuple)) and len(values) else values
    if isinstance(values, np.ndarray | np.generic) and values.dtype.kind in "mM":
        raise ValueError(f"{name} has dtype {values.dtype}{where}; convert it to numbers first.")
    check_mask(values, name, where)


def check_mask(values: Any, name: str, where: str = "") -> None:
    """Reject masked arrays, as `check_kind` does, unless nothing is masked."""
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise ValueError(
            f"{name} is a masked array with {np.ma.count_masked(values)} masked value(s){where}, "
            "and a mask would be lost. Fill them in first, for example with .filled(value), or "
            "drop such rows."
        )


def _canonical_csr(X: Any, dtype: np.dtype, where: str) -> sp.csr_array:
    if X.dtype.kind == "c":
        raise ValueError(f"Complex data not supported{where}")
    check_sparse(X, "X", where)
    csr = sp.csr_array(X)
    if not csr.has_canonical_format:
        # The copy shares no memory with the caller's object, which would be sorted with it.
        csr = csr.copy()
        csr.sum_duplicates()
    return csr if csr.dtype == dtype else csr.astype(dtype)


def to_numbers(values: Any, dtype: np.dtype, name: str, where: str) -> np.ndarray:
    """Convert array-likes, Series and DataFrames to an array, naming what cannot be converted."""
    if isinstance(values, np.matrix):
        raise TypeError(
            f"np.matrix is not supported for {name}{where}. Please convert to a numpy array with "
            "np.asarray, or to a sparse array with scipy.sparse.csr_array."
        )
    check_kind(values, name, where)
    if _is_frame(values):
        return _frame_numbers(values, dtype, where)
    if hasattr(values, "iloc"):
        return _series_numbers(values, dtype, name, where)
    array = np.asarray(values)
    if array.dtype.kind == "c":
        raise ValueError(f"Complex data not supported in {name}{where}")
    check_kind(array, name, where)
    if array.dtype == np.dtype(object):
        return _object_numbers(array, dtype, name, where)
    try:
        return array.astype(dtype, copy=False)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{error} ({name}{where}; {_remedy(name)})") from error


def _object_numbers(array: np.ndarray, dtype: np.dtype, name: str, where: str) -> np.ndarray:
    """Convert what pandas makes of columns of different kinds, such as numbers beside booleans."""
    try:
        return array.astype(dtype)
    except (TypeError, ValueError) as error:
        import pandas as pd

        missing = np.asarray(pd.isna(array))
        table = array.reshape(len(array), -1)
        for number, column in enumerate(table.T):
            made = pd.to_numeric(pd.Series(column), errors="coerce").isna().to_numpy()
            bad = made & ~missing.reshape(table.shape)[:, number]
            if bad.any():
                row = int(np.argmax(bad))
                place = f"row {row}, column {number}" if array.ndim > 1 else f"row {row}"
                raise ValueError(
                    f"could not convert to float: {column[row]!r} ({name}{where}, {place}; "
                    f"{_remedy(name)})"
                ) from error
        # pandas.NA, which NumPy cannot convert.
        return np.where(missing, np.nan, array).astype(dtype)


def _remedy(name: str) -> str:
    return NO_NUMBERS_IN_Y if name == "y" else "convert it to numbers first"


def _frame_numbers(frame: Any, dtype: np.dtype, where: str) -> np.ndarray:
    check_columns(frame.columns, frame.dtypes, objects=True)
    text = [place for place, kind in enumerate(frame.dtypes) if _is_text(kind)]
    if not text:
        return frame.to_numpy(dtype=dtype, na_value=np.nan)
    columns = [
        _series_numbers(frame.iloc[:, place], dtype, f"column {frame.columns[place]!r}", where)
        for place in range(frame.shape[1])
    ]
    return np.stack(columns, axis=1)


def _series_numbers(series: Any, dtype: np.dtype, name: str, where: str) -> np.ndarray:
    check_columns([getattr(series, "name", None) or name], [series.dtype], objects=True)
    try:
        return series.to_numpy(dtype=dtype, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"{error} ({name}{where}, dtype {series.dtype}; "
            f"{NO_NUMBERS_IN_Y if name == 'y' else 'leave it out, or encode it first'})"
        ) from error


def _is_frame(value: Any) -> bool:
    return hasattr(value, "iloc") and hasattr(value, "columns")


def _is_sparse_frame(frame: Any) -> bool:
    import pandas as pd

    return all(isinstance(kind, pd.SparseDtype) for kind in frame.dtypes)


def _is_numeric(dtype: Any) -> bool:
    import pandas as pd

    if isinstance(dtype, pd.CategoricalDtype):
        return False
    kinds = pd.api.types
    return bool(
        (kinds.is_numeric_dtype(dtype) or kinds.is_bool_dtype(dtype))
        and getattr(dtype, "kind", "f") != "c"
    )


def _is_text(dtype: Any) -> bool:
    import pandas as pd

    return dtype == np.dtype(object) or isinstance(dtype, pd.StringDtype)
