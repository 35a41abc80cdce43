"""Threads: all indices done, fixed assignment, BLAS restored, nested and failing tasks."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from npunet.errors import InputError
from npunet.machine import threads

ROOT = str(Path(__file__).parents[1])


def run_python(code, **environment):
    """What the code printed, in a process of its own that has a minute."""
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": ROOT} | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


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
    environment = {"OMP_NUM_THREADS": "1", "PYTHONPATH": ROOT}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (result.returncode, result.stdout.strip()) == (0, "1"), result.stderr


def test_a_late_helper_leaves_its_share_to_the_caller(two_threads, monkeypatch):
    """No helper ever comes: the caller does all shares, each under its own number."""
    monkeypatch.setattr(threads, "_helper_jobs", threads.SimpleQueue)
    seen = []
    threads.parallel(lambda index: seen.append((index, threads.worker())), 5, fixed=True)
    assert sorted(seen) == [(0, 0), (1, 1), (2, 0), (3, 1), (4, 0)]


@pytest.mark.skipif(threads.current_core() is None, reason="this system does not say on which core a thread runs")
def test_a_helper_on_the_callers_core_goes_to_another_and_the_caller_stays_free():
    allowed = os.sched_getaffinity(0)
    if len(allowed) < 2:
        pytest.skip("this process may use one core only")
    seen = []

    def helper():
        os.sched_setaffinity(0, {min(allowed)})
        threads._leave(max(allowed))  # somebody else's core: nothing to do
        seen.append(os.sched_getaffinity(0))
        threads._leave(min(allowed))
        seen.append((os.sched_getaffinity(0), threads.current_core() in allowed - {min(allowed)}))

    thread = threading.Thread(target=helper)
    thread.start()
    thread.join()
    assert seen == [{min(allowed)}, (allowed - {min(allowed)}, True)]
    assert os.sched_getaffinity(0) == allowed


def test_a_helper_stays_where_there_is_no_other_core(monkeypatch):
    """One core for all, a system that forbids moving, and one that does not say where a thread runs."""
    moved = []
    monkeypatch.setattr(threads, "_getcpu", lambda: 3)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3}, raising=False)
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, cores: moved.append(cores), raising=False)
    threads._leave(3)
    threads._leave(None)
    assert moved == []
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5})
    threads._leave(3)
    assert moved == [{5}]

    def forbidden(pid, cores):
        raise PermissionError

    monkeypatch.setattr(os, "sched_setaffinity", forbidden)
    threads._leave(3)


def test_blas_is_limited_in_whichever_thread_calls(two_threads):
    """threadpoolctl 3.8 by itself lets only the first one."""
    np.ones((2, 2)) @ np.ones((2, 2))
    inside = []
    with threadpool_limits(limits=2, user_api="blas"):
        threads.parallel(lambda index: None, 2)
        other = threading.Thread(target=threads.parallel, args=(lambda index: inside.append(blas_threads()), 2))
        other.start()
        other.join()
        assert len(inside) == 2 and all(set(numbers) == {1} for numbers in inside)
        assert set(blas_threads()) == {2}


def test_blas_is_restored_by_another_thread_than_limited_it(two_threads):
    np.ones((2, 2)) @ np.ones((2, 2))
    entered, leave = threading.Event(), threading.Event()

    def other():
        with threads.blas_on_one_thread():
            entered.set()
            assert leave.wait(30)

    with threadpool_limits(limits=2, user_api="blas"):
        thread = threading.Thread(target=other)
        with threads.blas_on_one_thread():
            thread.start()
            assert entered.wait(30)
        assert set(blas_threads()) == {1}  # the other thread is still inside
        leave.set()
        thread.join()
        assert set(blas_threads()) == {2}


def test_the_number_of_threads_may_change_while_others_compute(two_threads):
    failures, stop = [], threading.Event()

    def compute():
        while not stop.is_set():
            done = []
            threads.parallel(done.append, 4)
            if sorted(done) != [0, 1, 2, 3]:
                failures.append(done)

    computing = threading.Thread(target=compute)
    computing.start()
    for number in [1, 2, 3] * 30:
        threads.set_num_threads(number)
    stop.set()
    computing.join(30)
    assert not failures and not computing.is_alive()


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers on this system")
def test_interrupts_at_any_moment_leave_everything_usable():
    """200 times Ctrl-C in a forward pass: no deadlock, BLAS as before, the same result after it."""
    code = """
import random, signal
import numpy as np
from threadpoolctl import threadpool_info
import npunet
from npunet.machine import threads
from npunet.machine import memory

threads.set_num_threads(2)
net, image = npunet.UNet(base_channels=4, depth=2), np.random.default_rng(0).random((1, 140, 140, 1), dtype=np.float32)
expected, number = net.forward(image), lambda: [library["num_threads"] for library in threadpool_info()]
before, interrupted = number(), 0
def interrupt(*_):
    raise KeyboardInterrupt
signal.signal(signal.SIGALRM, interrupt)
random.seed(0)
while interrupted < 200:
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0001, 0.008))
        for _ in range(50):
            net.forward(image)
    except KeyboardInterrupt:
        interrupted += 1
signal.setitimer(signal.ITIMER_REAL, 0)
assert np.array_equal(net.forward(image), expected) and number() == before
print(memory.idle_bytes() < 100e6)
"""
    assert run_python(code) == "True"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_child_forked_while_another_thread_holds_the_locks_can_compute():
    code = """
import os, threading, time, warnings
import numpy as np
from npunet.machine import memory, threads

warnings.simplefilter("ignore")  # Python 3.12 warns of any fork beside threads
threads.set_num_threads(2)
held, done = threading.Event(), threading.Event()

def hold():
    with threads._lock, memory._lock:
        held.set()
        done.wait()

threading.Thread(target=hold, daemon=True).start()
held.wait()
child = os.fork()
if child == 0:
    shapes = []
    threads.parallel(lambda index: shapes.append(memory.empty((512, 512), np.float32).shape), 4)
    os._exit(len(shapes))
for _ in range(100):
    pid, status = os.waitpid(child, os.WNOHANG)
    if pid:
        break
    time.sleep(0.1)
else:
    os.kill(child, 9)
print(os.waitstatus_to_exitcode(status))
done.set()
"""
    assert run_python(code, OPENBLAS_NUM_THREADS="1") == "4"


def test_a_python_without_threads_and_memory_maps_works():
    """As in a browser (WebAssembly): threads cannot be started, mmap cannot be imported."""
    code = """
import sys, threading
import numpy as np

sys.modules["mmap"] = None
def start(thread):
    raise RuntimeError("can't start new thread")
threading.Thread.start = start
from npunet import UNet, training
from npunet.augmentation import Settings
from npunet.datasets.synthetic import synthetic
from npunet.machine import memory, threads
from npunet.ops.conv_algorithms import choose

assert choose((1, 200, 200, 8), (3, 3, 8, 8), 0) == "im2col"  # fewer calls of NumPy
assert threads.get_num_threads() == 1 and memory.empty((1 << 20,), np.float32).base is None
for number in (1, 2):
    threads.set_num_threads(number)
    net = UNet(base_channels=2, depth=1)
    logits = net.forward(np.zeros((1, 28, 28, 1), np.float32), train=True)
    net.backward(np.ones_like(logits))
recipe = training.Recipe(steps=3, tile=28)
print(logits.shape, len(list(training.batches(synthetic(1, 64).samples, recipe, 12, 0, Settings()))))
"""
    assert run_python(code) == "(1, 12, 12, 2) 3"
