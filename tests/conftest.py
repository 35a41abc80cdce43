"""Fixtures for all tests: `xp`, the array module that a test runs on;
`gpu`, on which the CUDA kernels run with and without one, `rng`, `two_threads`, and `without_pictures`.
"""

import functools
import gc
import os
from pathlib import Path

import cuda_on_cpu
import numpy as np
import pytest
import strict_array

from npunet.machine import threads
from npunet.machine.backend import gpu_problem

gpu_problem_once = functools.cache(gpu_problem)


@pytest.fixture(autouse=True)
def number_of_threads():
    """Commands that a test runs with --threads do not set the threads of the tests behind it."""
    before = threads._number or threads.default_num_threads()
    yield
    if threads._number not in (None, before):
        threads.set_num_threads(before)


@pytest.fixture(params=["numpy", pytest.param("cupy", marks=pytest.mark.gpu), "strict"])
def xp(request):
    """numpy; cupy, skipped with its reason where no GPU can be used;
    and a strict stand-in for cupy that runs everywhere.

    `xp.asarray(numpy_array)` brings test data in, `npunet.machine.backend.to_cpu` brings results back.
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


@pytest.fixture(params=["emulated", pytest.param("device", marks=pytest.mark.gpu)])
def gpu(request, monkeypatch):
    """The array module that the CUDA kernels work on: the strict stand-in for CuPy, with the kernels running on the CPU
    (cuda_on_cpu.py); and CuPy itself, skipped with its reason where no GPU can be used.
    """
    if request.param == "emulated":
        if cuda_on_cpu.COMPILER is None:
            pytest.skip("g++ is not on the PATH; it compiles the CUDA kernels for the CPU")
        return cuda_on_cpu.install(monkeypatch)
    problem = gpu_problem_once()
    if problem:
        pytest.skip(problem)
    import cupy

    if os.environ.get("NPUNET_NO_POOL"):  # under a sanitizer: a pool hides what lies beyond an array
        cupy.cuda.set_allocator(None)
    monkeypatch.setattr(cupy, "empty", poisoned(cupy.empty))
    return cupy


def poisoned(empty):
    """`empty`, but what a kernel forgets to write is NaN, or a number that nobody would expect.

    While a step is recorded, the filling is recorded too. So each replay finds nothing in an array when its turn comes,
    as on a GPU, where the array may lie in the memory of one that is gone by then.
    """

    def full(*arguments, **keywords):
        array = empty(*arguments, **keywords)
        array[...] = np.nan if array.dtype.kind == "f" else 0x7B
        return array

    return full


@pytest.fixture
def emulated(gpu):
    """`gpu` where a test looks into the stand-in; skipped on a device."""
    if gpu is not strict_array:
        pytest.skip("looks into the stand-in for CuPy")
    return gpu


@pytest.fixture
def rng():
    return np.random.default_rng(20150518)  # the day of the paper's arXiv version


@pytest.fixture
def two_threads():
    before = threads.get_num_threads()
    threads.set_num_threads(2)
    yield
    threads.set_num_threads(before)


@pytest.fixture
def without_pictures(monkeypatch):
    """Training draws no loss.png and panel.png, which take three times as long as its few small steps.

    For tests that look at networks, records and messages; test_train.py, test_train_cells.py, test_report.py and
    test_experiments.py have them drawn, and test_run_pictures.py says what they show.
    """
    monkeypatch.setattr("npunet.commands.run_folder.RunFolder.draw", lambda run, loss, *rest: None)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node):
    """pytest -n calls this for each of its processes; what one of them compiles, none compiles again."""
    node.workerinput["compiled_kernels"] = str(cuda_on_cpu.folder)


def pytest_configure(config):
    if hasattr(config, "workerinput"):
        cuda_on_cpu.folder = Path(config.workerinput["compiled_kernels"])


def pytest_collection_finish():
    """All that there is now stays: a gc.collect(), as behind each picture of a run, need not look at it."""
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Skips for want of a GPU are reported from one place, so that the summary has one line for all of them."""
    report = yield
    reason = report.longrepr[2] if report.skipped and isinstance(report.longrepr, tuple) else ""
    if reason and reason.removeprefix("Skipped: ") == gpu_problem_once():
        report.longrepr = (__file__, 1, reason)
    return report
