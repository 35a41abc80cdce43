"""Threads: all indices done, fixed assignment, BLAS restored, nested and failing tasks."""

import subprocess
import sys
import threading

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from npunet.errors import InputError
from npunet.machine import threads


@pytest.fixture
def two_threads():
    before = threads.get_num_threads()
    threads.set_num_threads(2)
    yield
    threads.set_num_threads(before)


def blas_threads():
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


@pytest.mark.parametrize("count", [0, 1, 2, 7])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_each_index_once_on_its_thread(two_threads, number, count):
    threads.set_num_threads(number)
    seen = []
    threads.parallel(lambda index: seen.append((index, threads.worker())), count, fixed=True)
    assert sorted(seen) == [(index, index % min(number, max(count, 1))) for index in range(count)]
    assert threads.worker() == 0


@pytest.mark.parametrize("number", [1, 2, 3])
def test_each_index_once_on_any_thread(two_threads, number):
    threads.set_num_threads(number)
    seen = []
    threads.parallel(seen.append, 1000)
    assert sorted(seen) == list(range(1000))


def test_a_thread_that_is_held_up_holds_up_no_other(two_threads):
    """One task waits until all the others are done, which only another thread can have done."""
    done, all_done = [], threading.Event()

    def task(index):
        if index == 0:
            assert all_done.wait(30)
        done.append(index)
        if len(done) == 9:
            all_done.set()

    threads.parallel(task, 10)
    assert done[-1] == 0


def test_two_tasks_really_run_at_once(two_threads):
    barrier = threading.Barrier(2, timeout=30)  # passes only if both threads are here together
    threads.parallel(lambda index: barrier.wait(), 2)


def test_blas_is_limited_inside_and_restored_after(two_threads):
    np.ones((2, 2)) @ np.ones((2, 2))
    with threadpool_limits(limits=2, user_api="blas"):
        inside = [None, None]
        threads.parallel(lambda index: inside.__setitem__(index, blas_threads()), 2)
        assert all(set(numbers) == {1} for numbers in inside)
        assert set(blas_threads()) == {2}


@pytest.mark.parametrize("number", [1, 2])
def test_blas_is_limited_for_a_single_task_too(two_threads, number):
    """Otherwise OpenBLAS's own threads would spin on afterwards; and one thread should mean one thread."""
    threads.set_num_threads(number)
    np.ones((2, 2)) @ np.ones((2, 2))
    with threadpool_limits(limits=2, user_api="blas"):
        inside = []
        threads.parallel(lambda index: inside.extend(blas_threads()), 1)
        assert set(inside) == {1} and set(blas_threads()) == {2}


def test_nested_calls_stay_on_their_thread(two_threads):
    seen = []

    def outer(index):
        threads.parallel(lambda inner: seen.append((index, inner, threading.get_ident())), 3)

    threads.parallel(outer, 2)
    assert len(seen) == 6
    for index in (0, 1):
        assert [inner for first, inner, _ in seen if first == index] == [0, 1, 2]
        assert len({ident for first, _, ident in seen if first == index}) == 1


def test_an_exception_reaches_the_caller_and_leaves_things_usable(two_threads):
    def task(index):
        if index == 1:
            raise ValueError("from thread 1")

    before = blas_threads()
    for _ in range(2):
        with pytest.raises(ValueError, match="from thread 1"):
            threads.parallel(task, 2)
    assert blas_threads() == before


def test_two_callers_at_once(two_threads):
    """Two threads of the user call parallel at the same time; the BLAS limit survives whichever ends first."""
    before, totals = blas_threads(), []

    def caller():
        for _ in range(50):
            done = []
            threads.parallel(done.append, 4)
            totals.append(len(done))

    callers = [threading.Thread(target=caller) for _ in range(2)]
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join()
    assert totals == [4] * 100
    assert blas_threads() == before


@pytest.mark.parametrize("number", [0, -1, 1.5, "2", True])
def test_bad_numbers_are_refused(number):
    with pytest.raises(InputError, match="expected an integer, 1 or more"):
        threads.set_num_threads(number)


def test_importing_changes_nothing_and_omp_num_threads_counts():
    code = (
        "import threading, numpy, threadpoolctl; "
        "count = lambda: {library['filepath']: library['num_threads'] for library in threadpoolctl.threadpool_info()};"
        "before = count();"
        "from npunet.machine import memory, threads;"
        "after = count();"
        "assert all(after[path] == number for path, number in before.items()) and threading.active_count() == 1;"
        "print(threads.get_num_threads())"
    )
    environment = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(__import__("pathlib").Path(__file__).parents[1])}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (result.returncode, result.stdout.strip()) == (0, "1"), result.stderr
