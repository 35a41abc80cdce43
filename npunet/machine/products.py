"""The matrix product of the convolutions: `xp.matmul`, except where NumPy has no BLAS and SciPy has one.

That is so in a browser. NumPy for Pyodide is built without BLAS and multiplies with plain loops; SciPy beside it brings
OpenBLAS, whose sgemm and dgemm are up to eight times as fast, and slower only for small products (measured:
benchmarks/results/browser.md).

Fortran's BLAS takes the numbers of a matrix column by column, so what NumPy calls out (row by row) is out^T there. It
is asked for out^T = b^T @ a^T, which needs no copy of a matrix that lies in memory row by row, or column by column.
"""

from functools import cache

import numpy as np

from npunet.machine.backend import Array, array_module
from npunet.machine.threads import can_start_threads

LEAST = 1 << 15  # multiplications of a product below which calling SciPy costs more than it gains


def matmul(a: Array, b: Array, out: Array | None = None) -> Array:
    """a @ b as `xp.matmul` computes it: (..., M, K) @ (..., K, N) -> (..., M, N), into `out` if given."""
    if scipy_multiplies() and isinstance(a, np.ndarray) and is_for_blas(a, b):
        return by_scipy(a, b, out)
    return array_module(a).matmul(a, b, out=out)


@cache
def scipy_multiplies() -> bool:
    """True in a browser: Python without threads, NumPy without BLAS. (CPython for WASI has a NumPy with BLAS.)"""
    said = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return not said.get("found") and not can_start_threads()


def is_for_blas(a, b) -> bool:
    """Whether BLAS gains with a @ b: matrices of one real type, or stacks of such, large enough each."""
    if min(a.ndim, b.ndim) < 2 or a.dtype != b.dtype or a.dtype.char not in "fd":
        return False
    return a.shape[-2] * a.shape[-1] * b.shape[-1] >= LEAST


def by_scipy(a, b, out=None):
    """a @ b by SciPy's sgemm or dgemm, one call for each matrix of a stack."""
    gemm = routine(a.dtype.char)
    stack = np.broadcast_shapes(a.shape[:-2], b.shape[:-2]) if max(a.ndim, b.ndim) > 2 else ()
    if out is None:
        out = np.empty((*stack, a.shape[-2], b.shape[-1]), a.dtype)
    if not stack:
        multiply(gemm, a, b, out)
        return out
    a, b = (np.broadcast_to(matrix, (*stack, *matrix.shape[-2:])) for matrix in (a, b))
    for place in np.ndindex(stack):
        multiply(gemm, a[place], b[place], out[place])
    return out


@cache
def routine(kind):
    """SciPy's product of matrices of float32 ("f") or float64 ("d")."""
    from scipy.linalg import blas  # takes a moment to load

    return {"f": blas.sgemm, "d": blas.dgemm}[kind]


def multiply(gemm, a, b, out) -> None:
    """out = a @ b for matrices (M, K) and (K, N)."""
    (first, turn_first), (second, turn_second) = by_columns(b), by_columns(a)
    in_place = out.flags.c_contiguous  # then out^T lies column by column, and gemm writes into it
    turned = gemm(1, first, second, 0, out.T if in_place else None, turn_first, turn_second, in_place)
    if not in_place:
        out[...] = turned.T


def by_columns(matrix):
    """matrix^T for BLAS: an array that lies column by column, and whether BLAS is to transpose it."""
    if matrix.flags.c_contiguous:
        return matrix.T, False
    return matrix, True  # column by column already; anything else is copied
