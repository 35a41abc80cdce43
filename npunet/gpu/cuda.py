"""Hand-written CUDA for the GPU: compiles the .cu files of this folder and launches their kernels.

    kernels = CudaFile("loss")                         # npunet/gpu/loss.cu
    kernels.launch("cross_entropy", pixels, logits, labels, ...)

A file is compiled when one of its kernels is first launched, once for float and once for double: in the .cu files REAL
stands for either. Some files want other numbers too that the compiler must know, so that it can unroll loops. The
compiler is NVRTC, which comes with CuPy; CuPy keeps what it compiled on disk.

Kernels are an addition, not a second implementation of the program: `usable(x)` is true for CuPy arrays only, every
operation also has its array expression, and tests/cuda_on_cpu.py runs the very same .cu files on a CPU and compares the
two.
"""

import functools
from pathlib import Path

import numpy as np

from npunet.errors import InputError
from npunet.machine import backend
from npunet.machine.backend import is_cupy as is_device_array

THREADS = 256  # of a block, unless a kernel asks for another number
LARGEST = 2**31 - 1  # kernels count elements in 32-bit integers
REAL = {np.dtype("float32"): "float", np.dtype("float64"): "double"}


def on_gpu(x):
    """True if kernels can work on x, or on a copy in C order:
    CuPy, float32 or float64, not too many elements for an int.
    """
    return not isinstance(x, np.ndarray) and is_device_array(x) and x.dtype in REAL and x.size <= LARGEST


def usable(x, *others):
    """True if kernels can work on these arrays as they are: `on_gpu`, and all of them in C order."""
    return on_gpu(x) and x.flags.c_contiguous and all(other.flags.c_contiguous for other in others)


@functools.cache
def options(dtype, **numbers):
    """What the compiler is told besides the architecture: what REAL is, and some numbers by name."""
    return "--std=c++17", f"-DREAL={REAL[np.dtype(dtype)]}", *(f"-D{name}={number}" for name, number in numbers.items())


class CudaFile:
    """The kernels of npunet/gpu/NAME.cu."""

    def __init__(self, name):
        self.path = Path(__file__).with_name(f"{name}.cu")

    @functools.cached_property
    def source(self):
        return self.path.read_text(encoding="utf-8")

    def launch(self, name, count, *arguments, dtype=None, grid=None, threads=THREADS, **numbers):
        """Runs kernel ``name`` on at least ``count`` threads in blocks of ``threads`` (or on a ``grid`` of blocks),
        asynchronously.

        Arrays must be C-contiguous. Python ints become int, floats double, NumPy scalars what they are. ``dtype``
        decides what REAL is; by default the dtype of the first array; other keywords are ``numbers`` for the compiler.
        """
        dtype = np.dtype(dtype or next(argument.dtype for argument in arguments if hasattr(argument, "dtype")))
        grid = grid or (-(-count // threads),)
        if 0 in grid:
            return
        function = _function(self, name, options(dtype, **numbers))
        function((*grid, 1, 1)[:3], (threads, 1, 1), tuple(map(_argument, arguments)))


def _argument(value):
    """What CuPy is to hand to the kernel:
    without a dtype of its own a number would arrive as 64 bits where the kernel expects 32.
    """
    if isinstance(value, (bool, int)):
        _check_count(value)
        return np.int32(value)
    if isinstance(value, float):
        return np.float64(value)
    if isinstance(value, np.generic):
        return value
    if not value.flags.c_contiguous:
        raise ValueError("a CUDA kernel got an array that is not C-contiguous")
    _check_count(value.size)
    return value


def _check_count(count):
    if count > LARGEST:
        raise InputError(
            f"a feature map or sum of {count} numbers is more than a CUDA kernel counts, {LARGEST}; give a smaller "
            f"tile or batch"
        )


_modules = {}  # (file, options) -> compiled module; (file, options, kernel) -> function


def _function(file, name, options):
    if (file.path, options, name) not in _modules:
        if (file.path, options) not in _modules:
            _modules[file.path, options] = backend.cuda_module(file.source, options)
        _modules[file.path, options, name] = _modules[file.path, options].get_function(name)
    return _modules[file.path, options, name]
