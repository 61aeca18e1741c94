"""Symmetric products by BLAS."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.linalg.blas import dsyrk

from dask_dml.kernels.blas import add_products


@pytest.mark.parametrize("shape", [(1, 1), (7, 3), (300, 40), (5, 200), (0, 4), (4, 0)])
def test_adds_the_lower_triangle_with_the_bits_of_scipy(shape):
    rng = np.random.default_rng(0)
    rows, p = rng.standard_normal(shape), shape[1]
    total = rng.standard_normal((p, p))
    found, expected = total.copy(), total.copy()
    add_products(rows, found)
    assert_allclose(np.tril(found), np.tril(total + rows.T @ rows), rtol=1e-12, atol=1e-12)
    assert_array_equal(np.triu(found, 1), np.triu(total, 1))
    if rows.size:
        dsyrk(1.0, rows.T, beta=1.0, c=expected.T, overwrite_c=1)
        assert_array_equal(found, expected)


def test_single_precision():
    rng = np.random.default_rng(2)
    rows, total = rng.standard_normal((40, 9)).astype("f4"), np.zeros((9, 9), "f4")
    add_products(rows, total)
    assert_allclose(np.tril(total), np.tril(rows.T @ rows), rtol=1e-5, atol=1e-5)
    assert not np.triu(total, 1).any()


def test_a_part_of_a_buffer_is_taken_as_it_lies():
    rng = np.random.default_rng(1)
    buffer = rng.standard_normal((50, 6))
    total = np.zeros((6, 6))
    add_products(buffer[:20], total)
    assert_allclose(np.tril(total), np.tril(buffer[:20].T @ buffer[:20]), rtol=1e-12)


@pytest.mark.parametrize(
    ("rows", "total"),
    [
        (np.ones((4, 3), np.float32), np.zeros((3, 3))),
        (np.ones((3, 4)).T, np.zeros((3, 3))),
        (np.ones((4, 6))[:, ::2], np.zeros((3, 3))),
        (np.ones((4, 3)), np.zeros((4, 4))),
        (np.ones((4, 3)), np.zeros((3, 3), np.float32)),
    ],
)
def test_layouts_that_blas_would_misread_are_refused(rows, total):
    with pytest.raises(TypeError, match="add_products takes"):
        add_products(rows, total)
