"""Symmetric products by BLAS, with the interpreter's lock released.

SciPy's Python wrappers of ``dsyrk`` and ``ssyrk`` hold the lock for the whole product, so that the
threads of a worker would take turns.  The same routines are called here through their addresses,
which SciPy makes public for Cython and Numba for everybody else.
"""

from __future__ import annotations

from ctypes import CFUNCTYPE, POINTER, byref, c_char, c_double, c_float, c_int, c_void_p
from typing import Any

import numpy as np
from numba.extending import get_cython_function_address

_INT, _CHAR = POINTER(c_int), POINTER(c_char)
_UPPER, _PLAIN = c_char(b"U"), c_char(b"N")


def _syrk(name: str, number: Any) -> Any:
    one = POINTER(number)
    kind = CFUNCTYPE(None, _CHAR, _CHAR, _INT, _INT, one, c_void_p, _INT, one, c_void_p, _INT)
    return kind(get_cython_function_address("scipy.linalg.cython_blas", name))


#: By the type of the rows: the routine, and its type of scalars.
_ROUTINES = {
    np.dtype(np.float64): (_syrk("dsyrk", c_double), c_double),
    np.dtype(np.float32): (_syrk("ssyrk", c_float), c_float),
}


def add_products(rows: np.ndarray, total: np.ndarray) -> None:
    """Add ``rows.T @ rows`` to the lower triangle (in C order) of ``total``.

    Parameters
    ----------
    rows : ndarray of float64 or float32 of shape (n_rows, n_features), C-contiguous
        Rows.
    total : ndarray of the same type, of shape (n_features, n_features), C-contiguous
        Added to.

    Raises
    ------
    TypeError
        If an array has another layout, which BLAS would misread.
    """
    n, p = rows.shape
    if rows.dtype not in _ROUTINES or total.dtype != rows.dtype:
        raise TypeError("add_products takes two float64 arrays, or two float32 arrays.")
    if not (rows.flags.c_contiguous and total.flags.c_contiguous):
        raise TypeError("add_products takes C-contiguous arrays.")
    if n == 0 or p == 0:
        return
    if total.shape != (p, p):
        raise TypeError(f"add_products takes a total of shape {(p, p)}, not {total.shape}.")
    # To BLAS a C-ordered array is the Fortran-ordered transpose: nothing is copied.
    width, (routine, number) = c_int(p), _ROUTINES[rows.dtype]
    one = byref(number(1.0))
    routine(
        byref(_UPPER), byref(_PLAIN), byref(width), byref(c_int(n)), one,
        rows.ctypes.data, byref(width), one, total.ctypes.data, byref(width),
    )  # fmt: skip
