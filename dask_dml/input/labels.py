"""Class labels of any kind as numbers, found on all chunks together.

Labels that are numbers travel as they are, and the first round over the blocks finds the
classes; other labels are looked up once, by one pass over y alone, and become their position.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from dask_dml.input.containers import check_mask
from dask_dml.input.kinds import is_dask

#: Floats hold every integer up to here.
_LARGEST_INTEGER = 2.0**53


@dataclass(frozen=True)
class Labels:
    """How the labels of a fit are held in the blocks.

    Attributes
    ----------
    y : ndarray or dask collection of shape (n_samples,)
        What the blocks are made of: the labels, or the positions of their classes.
    classes : ndarray of shape (n_classes,) or None
        The classes, where the blocks hold positions.
    dtype : dtype
        What the classes have.
    """

    y: Any
    classes: np.ndarray | None
    dtype: np.dtype

    def decode(self, values: np.ndarray) -> np.ndarray:
        """Return the classes for the numbers found in the blocks.

        Raises
        ------
        ValueError
            If there are fewer than two, or they are no classes.
        """
        if len(values) < 2:
            only = values.astype(self.dtype) if self.classes is None else self.classes
            raise ValueError(
                "This solver needs samples of at least 2 classes in the data, but the data "
                f"contains only one class: {_plain(only[0])!r}. Look at how y was made or filtered."
            )
        if self.classes is not None:
            return self.classes[values.astype(np.intp)]
        if np.any(values != np.floor(values)):
            raise ValueError(
                "Unknown label type: continuous. Maybe you are trying to fit a classifier, which "
                "expects discrete classes, on a regression target with continuous values."
            )
        if np.abs(values).max() > _LARGEST_INTEGER:
            raise ValueError(
                "The labels hold integers beyond 2**53, which cannot be told apart as floats; "
                "convert y to strings first."
            )
        return values.astype(self.dtype)


def read_labels(y: Any, *, in_memory: bool) -> Labels:
    """Prepare labels for a fit.

    Parameters
    ----------
    y : array-like, Series or Dask collection of shape (n_samples,)
        Numbers, booleans, strings or categories.
    in_memory : bool
        Whether X is held in memory; a Dask collection of labels is then computed.

    Returns
    -------
    labels : Labels
        Lazy for a Dask collection.

    Raises
    ------
    ValueError
        If y is not one-dimensional, has missing values, is no target of a classification, or is
        a Dask Series of declared categories with a label that is none of them.
    """
    if y is None:
        return Labels(None, None, np.dtype(float))
    if is_dask(y):
        y = _one_column(y)
        declared = _declared(y)
        if in_memory:
            y = y.compute() if declared is None else _gathered(y, declared)
    if is_dask(y):
        dtype = _number_type(y)
        if dtype is not None:
            return Labels(y, None, dtype)
        classes = _distributed_unique(y, declared)
        return Labels(encode(y, classes), classes, classes.dtype)
    y = _checked(y)
    classes, codes = np.unique(y, return_inverse=True)
    return Labels(codes.astype(np.float64), classes, classes.dtype)


def encode(y: Any, classes: np.ndarray) -> Any:
    """Return the positions of labels among the classes, -1 where there is none.

    Parameters
    ----------
    y : array-like, Series or Dask collection of shape (n_samples,)
        Labels.
    classes : ndarray of shape (n_classes,)
        In order.

    Returns
    -------
    codes : ndarray, dask array or dask Series of shape (n_samples,)
        float64; lazy where y is.
    """
    if not is_dask(y):
        return _codes(_checked(y), classes)
    y = _one_column(y)
    if hasattr(y, "map_partitions") and hasattr(y, "divisions"):
        import pandas as pd

        return y.map_partitions(_series_codes, classes, meta=pd.Series([], dtype=np.float64))
    return y.map_blocks(_codes, classes, dtype=np.float64, meta=np.empty(0))


def class_weights(
    class_weight: Mapping[Any, float] | str | None, classes: np.ndarray, weight: np.ndarray
) -> np.ndarray:
    """Return the weight of each class.

    Parameters
    ----------
    class_weight : mapping, "balanced" or None
        As in `sklearn.utils.class_weight.compute_class_weight`.
    classes : ndarray of shape (n_classes,)
        The classes.
    weight : ndarray of shape (n_classes,)
        Sum of the sample weights of each class.

    Raises
    ------
    ValueError
        If ``class_weight`` lacks some classes and names others that do not occur, or has a
        negative weight.
    """
    if class_weight is None:
        return np.ones(len(classes))
    if isinstance(class_weight, str):
        shares = len(classes) * weight
        return np.divide(weight.sum(), shares, out=np.zeros(len(classes)), where=shares > 0.0)
    known = {_plain(value): at for at, value in enumerate(classes)}
    named = {_plain(key) for key in class_weight}
    without, unknown = [c for c in known if c not in named], [c for c in named if c not in known]
    if without and unknown:
        # As scikit-learn: a mapping that names all classes, and more, suits part of the data, too.
        raise ValueError(
            f"The classes, {without}, are not in class_weight, which names {unknown} instead: no "
            f"class of y, whose classes are {classes.tolist()}. Give class_weight the classes as "
            "they are in y, or look at how y was made."
        )
    weights = np.ones(len(classes))
    for key, value in class_weight.items():
        if not (np.isfinite(value) and value >= 0.0):
            raise ValueError(f"class_weight of {key!r} must be a finite number >= 0, got {value}.")
        if _plain(key) in known:
            weights[known[_plain(key)]] = value
    return weights


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _checked(y: Any, where: str = "") -> np.ndarray:
    check_mask(y, "y", where)
    missing = _is_missing(y)
    if np.any(missing):
        raise ValueError(
            f"Input y contains NaN{where}: row {int(np.argmax(missing))}. Every row needs a class; "
            "drop rows without one first."
        )
    if hasattr(y, "toarray"):
        raise ValueError("y is sparse; a classifier needs a dense array of labels.")
    kind = _number_type(y)
    if kind is not None and hasattr(y, "to_numpy"):
        # Of pandas' nullable numbers and booleans scikit-learn would make floats.
        y = y.to_numpy(dtype=kind)
    y = column_or_1d(y, warn=True)
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        raise ValueError("Input y contains infinity or a value too large for dtype('float64').")
    if len(y):
        check_classification_targets(y)
    return y


def _is_missing(y: Any) -> np.ndarray:
    import pandas as pd

    values = np.asarray(y.to_numpy() if hasattr(y, "to_numpy") else y)
    if values.dtype.kind not in "fOmM" and not hasattr(y, "isna"):
        return np.zeros(1, bool)
    if values.dtype.kind == "c":
        return np.zeros(1, bool)
    return np.ravel(pd.isna(y if hasattr(y, "isna") else values))


def _codes(y: Any, classes: np.ndarray) -> np.ndarray:
    check_mask(y, "y")
    y = np.asarray(y)
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if len(y) == 0:
        return np.empty(0)
    if y.dtype.kind in "fO":
        _checked(y)
    if (y.dtype.kind in "biuf") != (classes.dtype.kind in "biuf"):
        # Words are no numbers: nothing can match, and NumPy cannot order the two.
        return np.full(len(y), -1.0)
    at = np.minimum(np.searchsorted(classes, y), len(classes) - 1)
    return np.where(classes[at] == y, at, -1).astype(np.float64)


def _series_codes(y: Any, classes: np.ndarray) -> Any:
    import pandas as pd

    _checked(y)
    return pd.Series(_codes(y.to_numpy(), classes), index=y.index, dtype=np.float64)


def _one_column(y: Any) -> Any:
    if getattr(y, "ndim", 1) == 2:
        if y.shape[1] != 1:
            raise ValueError(f"y should be a 1d array, got an array of shape {y.shape} instead.")
        return y.iloc[:, 0] if hasattr(y, "iloc") else y[:, 0]
    return y


def _number_type(y: Any) -> np.dtype | None:
    """Return the dtype of labels that are numbers or booleans, None for other labels."""
    dtype = getattr(y, "dtype", np.dtype(object))
    dtype = getattr(dtype, "numpy_dtype", dtype)  # pandas' nullable and Arrow numbers
    return dtype if isinstance(dtype, np.dtype) and dtype.kind in "biuf" else None


def _declared(y: Any) -> np.ndarray | None:
    """Return the categories that a dask Series declares; None where it declares none."""
    import pandas as pd

    # Only a Series has such a dtype, and only then does it have ``cat``.
    if not isinstance(getattr(y, "dtype", None), pd.CategoricalDtype) or not y.cat.known:
        return None
    return np.asarray(y.dtype.categories)


def _gathered(y: Any, declared: np.ndarray) -> np.ndarray:
    """Compute a Series of declared categories."""
    from dask.base import compute

    parts = compute(*np.ravel(y.to_delayed()))
    for chunk, part in enumerate(parts):
        _unique(part, chunk, declared)
    return np.concatenate([np.asarray(part) for part in parts])


def _distributed_unique(y: Any, declared: np.ndarray | None) -> np.ndarray:
    from dask.base import compute
    from dask.delayed import delayed

    from dask_dml.input.collections import check_reachable

    check_reachable(y)
    unique = delayed(_unique)
    parts = [unique(part, n, declared) for n, part in enumerate(np.ravel(y.to_delayed()))]
    return np.unique(np.concatenate([part for part in compute(*parts) if len(part)]))


def _unique(y: Any, chunk: int, declared: np.ndarray | None) -> np.ndarray:
    """Return the labels of one chunk; none may be missing from the declared categories."""
    if len(y) == 0:
        return np.empty(0)
    labels = np.unique(_checked(y, f" in chunk {chunk}"))
    if declared is not None:
        strange = [label for label in labels.tolist() if label not in set(declared.tolist())]
        if strange:
            raise ValueError(
                f"y holds the label {strange[0]!r} in chunk {chunk}, which is not among its "
                f"declared categories {declared.tolist()}. Declare it, for example with "
                "y.cat.add_categories(...), drop such rows, or let the categories be found: "
                "y.cat.as_unknown(), or y.astype(object)."
            )
    return labels
