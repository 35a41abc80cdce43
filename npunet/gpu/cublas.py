"""Matrix products by cuBLAS, NVIDIA's own, and in what precision the GPU multiplies."""

import numpy as np

from npunet.errors import InputError
from npunet.gpu import cuda

_NOT_TURNED, _TURNED, _DEFAULT_MATH, _TF32_MATH = 0, 1, 0, 3  # as in cublas_api.h
PRECISIONS = ("float32", "tf32", "bf16")
_precision = "float32"


def use_precision(name):
    """In what precision numbers of float32 products on the GPU are multiplied: one of PRECISIONS.

    float32    as they are
    tf32       on the tensor cores: 8 bits of exponent as before, 10 of mantissa instead of 23
    bf16       feature maps and their gradients are stored with 7 bits of mantissa, in 16 bits (sixteen_bits.py), and
               multiplied so; products of float32 are in TF32
    Sums, weights and their gradients are float32 in all three. CuPy reads CUPY_TF32 only for products of two matrices,
    and once; here it is said to CuPy and, in `batched_matmul`, to cuBLAS. Raises InputError on a GPU older than compute
    capability 8.0, which has no such units.
    """
    global _precision
    if name != "float32" and cuda.compute_capability() < 80:
        raise InputError(
            f"{name.upper()} needs a GPU of compute capability 8.0 or higher; this one has "
            f"{cuda.compute_capability() / 10}; leave out --tf32 and --precision"
        )
    from cupy._core import _routines_linalg as linalg

    on = name != "float32"
    linalg.set_compute_type(np.float32, linalg.COMPUTE_TYPE_TF32 if on else linalg.COMPUTE_TYPE_DEFAULT)
    _precision = name


def precision():
    """What use_precision was last told."""
    return _precision


def tf32():
    """True if products may be rounded: after use_precision("tf32") or ("bf16")."""
    return _precision != "float32"


def batched_matmul(a, b, out, transpose_a=False):
    """out = a @ b for stacks of matrices (batch, rows, columns); with transpose_a each a is turned first.

    CuPy's own matmul makes a copy of a turned stack, and knows nothing of TF32 for stacks; cuBLAS itself needs neither.
    All arrays C-contiguous CuPy arrays, float32 or float64.
    """
    from cupy.cuda import device
    from cupy_backends.cuda.libs import cublas

    batch, rows, columns = out.shape
    depth = b.shape[1]
    one, zero = np.ones((), a.dtype), np.zeros((), a.dtype)
    gemm = cublas.sgemmStridedBatched if a.dtype == np.float32 else cublas.dgemmStridedBatched
    handle = device.get_cublas_handle()
    cublas.setMathMode(handle, _TF32_MATH if tf32() and a.dtype == np.float32 else _DEFAULT_MATH)
    # cuBLAS takes columns where NumPy has rows, so it sees every matrix turned: out^T = b^T a^T
    gemm(
        handle,
        _NOT_TURNED,
        _TURNED if transpose_a else _NOT_TURNED,
        columns,
        rows,
        depth,
        one.ctypes.data,
        b.data.ptr,
        columns,
        depth * columns,
        a.data.ptr,
        rows if transpose_a else depth,
        rows * depth,
        zero.ctypes.data,
        out.data.ptr,
        columns,
        rows * columns,
        batch,
    )
    cublas.setMathMode(handle, _DEFAULT_MATH)
