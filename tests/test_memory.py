"""The pool of blocks: used again when free, never lent twice, bounded."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from npunet.machine import memory

LARGE = (512, 512)  # float32: 1 MiB, well above memory.SMALLEST


@pytest.fixture(autouse=True)
def fresh_pool():
    memory.release()
    yield
    memory.set_limit(2 << 30)
    memory.release()


def address(array):
    return array.__array_interface__["data"][0]


def test_a_block_is_used_again_once_its_array_is_gone():
    first = memory.empty(LARGE, np.float32)
    where = address(first)
    del first
    assert memory.idle_bytes() > 0
    second = memory.empty(LARGE, np.float32)
    assert address(second) == where and memory.idle_bytes() == 0


def test_a_live_view_keeps_its_block():
    """Neither a view, a view of a view, a reshaped view nor a buffer may see its memory lent out again."""
    for view_of in (lambda a: a[3], lambda a: a[1:][2:].reshape(-1)[5:], lambda a: a.view(np.uint8)[::7], memoryview):
        array = memory.empty(LARGE, np.float32)
        array[...] = 1
        view = view_of(array)
        kept = np.array(view)
        del array
        others = [memory.empty(LARGE, np.float32) for _ in range(3)]
        for other in others:
            other[...] = 2
        assert np.array_equal(np.asarray(view), kept)
        del view, others


def test_live_arrays_never_overlap():
    """Random births and deaths: all arrays alive at one time are at different places."""
    rng = np.random.default_rng(0)
    alive = []
    for step in range(400):
        if alive and rng.random() < 0.5:
            array, mark = alive.pop(rng.integers(len(alive)))
            assert (array == mark).all()
        shape = (int(rng.integers(200, 400)), 512)
        array = memory.empty(shape, np.float32)
        array[...] = step
        alive.append((array, step))
        spans = sorted((address(a), address(a) + a.nbytes) for a, _ in alive)
        assert all(end <= start for (_, end), (start, _) in zip(spans, spans[1:]))
    assert all((array == mark).all() for array, mark in alive)


def test_threads_share_the_pool_safely():
    failures = []

    def churn(mark):
        for _ in range(200):
            array = memory.empty(LARGE, np.float32)
            array[::64] = mark
            if not (array[::64] == mark).all():
                failures.append(mark)

    workers = [threading.Thread(target=churn, args=(mark,)) for mark in range(4)]
    for thread in workers:
        thread.start()
    for thread in workers:
        thread.join()
    assert not failures


def test_shape_dtype_alignment_and_small_arrays():
    for dtype in (np.float32, np.float64, np.uint8, bool):
        array = memory.empty((3, 700, 701), dtype)
        assert array.shape == (3, 700, 701) and array.dtype == dtype
        assert array.flags.c_contiguous and array.flags.writeable
        assert address(array) % memory.ALIGNMENT == 0
    small = memory.empty((4, 5), np.float64)
    assert small.shape == (4, 5) and small.base is None
    assert memory.empty((0, 5), np.float64).size == 0


def test_the_limit_bounds_what_is_kept():
    memory.set_limit(3 << 20)
    arrays = [memory.empty(LARGE, np.float32) for _ in range(8)]
    del arrays
    assert 0 < memory.idle_bytes() <= 3 << 20
    memory.set_limit(0)
    assert memory.idle_bytes() == 0


def test_release_leaves_arrays_in_use_alone():
    array = memory.empty(LARGE, np.float32)
    array[...] = 5
    memory.empty(LARGE, np.float32)
    memory.release()
    assert memory.idle_bytes() == 0 and (array == 5).all()


def test_an_interrupt_while_scratch_grows_leaves_no_broken_block(monkeypatch):
    memory.scratch("interrupted", (10,), np.float32)

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(memory, "empty", interrupted)
        with pytest.raises(KeyboardInterrupt):
            memory.scratch("interrupted", LARGE, np.float32)
    assert memory.scratch("interrupted", LARGE, np.float32).shape == LARGE


def test_an_interrupt_while_an_array_goes_loses_no_memory():
    """No Python code runs when a lease goes, so there is nothing that a signal could break off."""
    assert not hasattr(memory._Lease, "__del__")
    arrays = [memory.empty(LARGE, np.float32) for _ in range(4)]
    lent = len(memory._lent)
    del arrays
    assert memory.idle_bytes() >= 4 << 20 and len(memory._lent) == lent - 4


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="limits on address space as Linux has them")
def test_address_space_is_taken_as_needed():
    """Under `ulimit -v 1000000` a prediction that uses 0.12 GB works."""
    code = """
import resource
resource.setrlimit(resource.RLIMIT_AS, (1_000_000 << 10,) * 2)
import numpy as np
from npunet import UNet
net = UNet(base_channels=8, depth=4)
print(net.forward(np.zeros((1, 572, 572, 1), np.float32)).shape)
"""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert result.stdout.strip() == "(1, 388, 388, 2)", result.stderr


def test_more_memory_than_there_is_address_space_is_a_memory_error():
    with pytest.raises(MemoryError, match="cannot get"):
        memory.empty((1 << 50,), np.uint8)


def test_the_pool_gives_back_what_is_one_byte_too_much():
    memory.release()
    memory.empty((512, 512), np.float32)
    kept = memory.idle_bytes()
    try:
        memory.set_limit(kept)
        assert memory.idle_bytes() == kept
        memory.set_limit(kept - 1)
        assert kept - 2 * memory.GRAIN <= memory.idle_bytes() < kept
    finally:
        memory.set_limit(2 << 30)
