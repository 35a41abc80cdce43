"""Fixtures for all tests: `xp`, the array module that a test runs on;
`gpu`, on which the CUDA kernels run without one, and `rng`.
"""

import functools

import cuda_on_cpu
import numpy as np
import pytest
import strict_array

from npunet.machine.backend import gpu_problem

gpu_problem_once = functools.cache(gpu_problem)


@pytest.fixture(params=["numpy", pytest.param("cupy", marks=pytest.mark.gpu), "strict"])
def xp(request):
    """numpy; cupy, skipped with its reason where no GPU can be used;
    and a strict stand-in for cupy that runs everywhere.

    ``xp.asarray(numpy_array)`` brings test data in, ``npunet.machine.backend.to_cpu`` brings results back.
    """
    if request.param == "numpy":
        return np
    if request.param == "strict":
        return strict_array
    problem = gpu_problem_once()
    if problem:
        pytest.skip(problem)
    import cupy

    return cupy


@pytest.fixture
def gpu(monkeypatch):
    """The strict stand-in for CuPy, with the package's CUDA kernels at work on it (cuda_on_cpu.py)."""
    if cuda_on_cpu.COMPILER is None:
        pytest.skip("g++ is not on the PATH; it compiles the CUDA kernels for the CPU")
    return cuda_on_cpu.install(monkeypatch)


@pytest.fixture
def rng():
    return np.random.default_rng(20150518)  # the day of the paper's arXiv version
