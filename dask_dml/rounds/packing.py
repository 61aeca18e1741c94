"""Partial results as JSON and raw bytes: written and read without a pickle.

Reading makes arrays, numbers, text, containers of them, and records of this package that are
loaded already.  It imports nothing and calls nothing of what is read.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp

#: Kinds of NumPy's types that are nothing but bytes.
PLAIN = "biufcSU"

PACKAGE = "dask_dml."


def pack(value: Any) -> tuple[Any, list[bytes]]:
    """Return a value as what JSON can hold, and the bytes of the arrays in it.

    Raises
    ------
    TypeError
        If something in it is neither data nor a record of this package.
    """
    buffers: list[bytes] = []
    return _packed(value, buffers, _refuse), buffers


def unpack(tree: Any, buffers: Sequence[bytes | memoryview]) -> Any:
    """Return what `pack` was given; arrays are copies that may be written to.

    Raises
    ------
    ValueError
        If it is nothing that `pack` makes.
    """
    try:
        kind, *rest = tree
        return _READERS[kind](rest, buffers)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise ValueError(f"not a packed value: {str(tree)[:80]}") from error


def fingerprint(value: Any) -> str:
    """Return a hash of a question: what is asked of the shards, and what is sent along.

    Functions count by their names.  Fields of records that do not take part in comparisons, such
    as tokens, do not count.
    """
    buffers: list[bytes] = []
    tree = _packed(value, buffers, _by_name)
    digest = hashlib.blake2b(json.dumps(tree).encode(), digest_size=16)
    for buffer in buffers:
        digest.update(buffer)
    return digest.hexdigest()


_Other = Callable[[Any, list[bytes]], Any]


def _packed(value: Any, buffers: list[bytes], other: _Other) -> Any:
    if value is None or isinstance(value, (bool, int, str)):
        return ["=", value]
    if isinstance(value, float) and not isinstance(value, np.generic):
        return ["float", value.hex()]
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in PLAIN:
        return _packed_array(value, buffers)
    if isinstance(value, tuple) and _is_ours(type(value)):
        items = (_packed(one, buffers, other) for one in value)
        return ["named", type(value).__module__, type(value).__qualname__, *items]
    if isinstance(value, (tuple, list)):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return [kind, *(_packed(one, buffers, other) for one in value)]
    if isinstance(value, (set, frozenset)):
        return ["set", *(_packed(one, buffers, other) for one in sorted(value))]
    if isinstance(value, Mapping):
        pairs = ([_packed(one, buffers, other) for one in pair] for pair in value.items())
        return ["dict", *pairs]
    if isinstance(value, (sp.csr_array, sp.csr_matrix)):
        parts = (value.shape, value.data, value.indices, value.indptr)
        return ["csr", *(_packed(part, buffers, other) for part in parts)]
    if dataclasses.is_dataclass(value) and _is_ours(type(value)):
        fields = {
            field.name: _packed(getattr(value, field.name), buffers, other)
            for field in dataclasses.fields(value)
            if field.compare or other is _refuse
        }
        return ["record", type(value).__module__, type(value).__qualname__, fields]
    return other(value, buffers)


def _is_ours(kind: type) -> bool:
    return kind.__module__.startswith(PACKAGE)


def _packed_array(value: np.ndarray | np.generic, buffers: list[bytes]) -> Any:
    array = np.asarray(value)
    buffers.append(array.tobytes())
    kind = "array" if isinstance(value, np.ndarray) else "scalar"
    return [kind, array.dtype.str, list(array.shape), len(buffers) - 1]


def _refuse(value: Any, buffers: list[bytes]) -> Any:  # noqa: ARG001 - as the other one
    raise TypeError(f"{type(value).__name__} cannot be written to a checkpoint")


def _by_name(value: Any, buffers: list[bytes]) -> Any:
    if isinstance(value, functools.partial):
        parts = (value.func, value.args, value.keywords)
        return ["partial", *(_packed(part, buffers, _by_name) for part in parts)]
    if callable(value) and hasattr(value, "__qualname__"):
        return ["function", value.__module__, value.__qualname__]
    return ["object", type(value).__qualname__, _packed(vars(value), buffers, _by_name)]


# Reading

_Buffers = Sequence[bytes | memoryview]


def _array(rest: Any, buffers: _Buffers) -> np.ndarray:
    name, shape, position = rest
    dtype = np.dtype(name)
    if dtype.kind not in PLAIN:
        raise ValueError(f"a checkpoint holds no arrays of dtype {name!r}")
    return np.frombuffer(buffers[position], dtype=dtype).reshape(shape).copy()


def _scalar(rest: Any, buffers: _Buffers) -> Any:
    return _array(rest, buffers)[()]


def _many(rest: Any, buffers: _Buffers) -> list[Any]:
    return [unpack(one, buffers) for one in rest]


def _dict(rest: Any, buffers: _Buffers) -> dict[Any, Any]:
    return {unpack(key, buffers): unpack(value, buffers) for key, value in rest}


def _csr(rest: Any, buffers: _Buffers) -> sp.csr_array:
    shape, *parts = _many(rest, buffers)
    return sp.csr_array(tuple(parts), shape=shape)


def _kind(module: str, name: str) -> Any:
    # Only what is loaded: whoever asks the question has loaded the kind of the answer.
    kind = getattr(sys.modules[module], name)
    if not isinstance(kind, type) or kind.__module__ != module or not _is_ours(kind):
        raise ValueError(f"{module}.{name} is no record of this package")
    return kind


def _named(rest: Any, buffers: _Buffers) -> Any:
    module, name, *parts = rest
    return tuple.__new__(_kind(module, name), _many(parts, buffers))


def _record(rest: Any, buffers: _Buffers) -> Any:
    module, name, fields = rest
    kind = _kind(module, name)
    if {field.name for field in dataclasses.fields(kind)} != set(fields):
        raise ValueError(f"{module}.{name} has other fields in this version of the package")
    record = object.__new__(kind)
    for field, tree in fields.items():
        object.__setattr__(record, field, unpack(tree, buffers))
    return record


_READERS: dict[str, Callable[[Any, _Buffers], Any]] = {
    "=": lambda rest, _: rest[0],
    "float": lambda rest, _: float.fromhex(rest[0]),
    "array": _array,
    "scalar": _scalar,
    "tuple": lambda rest, buffers: tuple(_many(rest, buffers)),
    "list": _many,
    "set": lambda rest, buffers: frozenset(_many(rest, buffers)),
    "dict": _dict,
    "csr": _csr,
    "named": _named,
    "record": _record,
}
