"""Stands where cupy.cuda.thrust is, whose sorting runs on a real GPU alone; build.py puts it there."""

import ctypes

import numpy as np
from cupy_backends.cuda.api import runtime

available = True


def get_build_version():
    return 0


def _array(place, dtype, shape):
    """An array of the device, which is memory of the host here."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.frombuffer((ctypes.c_char * size).from_address(place), dtype).reshape(shape)


def sort(dtype, data, keys, shape):
    """Sorts rows of the last axis in place."""
    runtime.deviceSynchronize()
    _array(data, dtype, shape).sort(axis=-1, kind="stable")


def argsort(dtype, index, data, keys, shape):
    """As CuPy's, it leaves the data sorted too."""
    runtime.deviceSynchronize()
    values = _array(data, dtype, shape)
    _array(index, np.intp, shape)[...] = values.argsort(axis=-1, kind="stable")
    values.sort(axis=-1, kind="stable")


def lexsort(dtype, index, keys, k, n):
    runtime.deviceSynchronize()
    _array(index, np.intp, (n,))[...] = np.lexsort(_array(keys, dtype, (k, n)))
