"""Symmetric products by BLAS, with the interpreter's lock released.

SciPy's Python wrapper of ``dsyrk`` holds the lock for the whole product, so that the threads of a
worker would take turns.  The same routine is called here through its address, which SciPy makes
public for Cython and Numba for everybody else.
"""

from __future__ import annotations

from ctypes import CFUNCTYPE, POINTER, byref, c_char, c_double, c_int, c_void_p

import numpy as np
from numba.extending import get_cython_function_address

_DOUBLE, _INT, _CHAR = POINTER(c_double), POINTER(c_int), POINTER(c_char)
_dsyrk = CFUNCTYPE(
    None, _CHAR, _CHAR, _INT, _INT, _DOUBLE, c_void_p, _INT, _DOUBLE, c_void_p, _INT
)(get_cython_function_address("scipy.linalg.cython_blas", "dsyrk"))
_UPPER, _PLAIN, _ONE = c_char(b"U"), c_char(b"N"), c_double(1.0)


def add_products(rows: np.ndarray, total: np.ndarray) -> None:
    """Add ``rows.T @ rows`` to the lower triangle (in C order) of ``total``.

    Parameters
    ----------
    rows : ndarray of float64 of shape (n_rows, n_features), C-contiguous
        Rows.
    total : ndarray of float64 of shape (n_features, n_features), C-contiguous
        Added to.

    Raises
    ------
    TypeError
        If an array has another layout, which BLAS would misread.
    """
    n, p = rows.shape
    for array in (rows, total):
        if array.dtype != np.float64 or not array.flags.c_contiguous:
            raise TypeError("add_products takes C-contiguous float64 arrays.")
    if n == 0 or p == 0:
        return
    if total.shape != (p, p):
        raise TypeError(f"add_products takes a total of shape {(p, p)}, not {total.shape}.")
    # To BLAS a C-ordered array is the Fortran-ordered transpose: nothing is copied.
    width = c_int(p)
    _dsyrk(
        byref(_UPPER), byref(_PLAIN), byref(width), byref(c_int(n)), byref(_ONE),
        rows.ctypes.data, byref(width), byref(_ONE), total.ctypes.data, byref(width),
    )  # fmt: skip
