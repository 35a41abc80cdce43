"""One thread a core over bands of work, with BLAS held to one thread meanwhile.

NumPy lets go of Python's global lock inside matrix products and array arithmetic, so plain Python threads run them side
by side. BLAS could spread a single product over the cores as well, but then everything between the products (gathering
tiles, adding, ReLU) would stay on one core. So the work is cut into bands, each thread takes whole bands, and BLAS
works on one thread inside each.

The limit on BLAS holds only while `parallel` (or `blas_on_one_thread`) runs and is taken back afterwards; importing
npunet changes nothing.
"""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from threadpoolctl import ThreadpoolController

from npunet.errors import InputError

_lock = threading.Lock()
_local = threading.local()  # .inside: this thread is working for `parallel` already
_number = None  # threads to use; None until asked for or set
_executor = None  # the helpers; the calling thread works too
_controller = None  # finds the BLAS libraries: costs milliseconds, so once
_blas_limit, _blas_users = None, 0  # shared by concurrent calls: first one limits, last one restores


def default_num_threads():
    """Cores this process may use; fewer if OMP_NUM_THREADS says so."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores, int(wanted)) if wanted.isdigit() and int(wanted) > 0 else cores


def get_num_threads():
    """How many threads `parallel` uses."""
    global _number
    if _number is None:
        _number = default_num_threads()
    return _number


def set_num_threads(number):
    """Use ``number`` threads from now on (for npunet only). Raises InputError unless it is an integer, 1 or more."""
    global _number, _executor
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise InputError(f"number of threads is {number!r}; expected an integer, 1 or more")
    with _lock:
        if _executor is not None:
            _executor.shutdown(wait=False)  # finishes what it was given
        _number, _executor = number, None


def parallel(task, count, fixed=False):
    """Calls task(index) for each index in range(count), on all threads; returns when all are done.

    Each thread takes the next index when it is done with one, so a thread that the system holds up holds up no other.
    With ``fixed``, thread t of T takes the indices t, t + T, t + 2 T, ... instead: which thread does what then depends
    on nothing but ``count`` and T, and a task that adds to an accumulator of its own thread (see `worker`) gives the
    same bits each time. A call from inside a task runs on that task's thread. If a task raises, the first such
    exception is raised here.
    """
    if getattr(_local, "inside", False):
        for index in range(count):
            task(index)
        return
    number = min(get_num_threads(), count)
    with blas_on_one_thread():
        if number <= 1:
            return _work(task, range(count), 0)
        shared = iter(range(count))  # its next index goes to whoever asks, and to nobody else
        shares = [range(first, count, number) if fixed else shared for first in range(number)]
        executor = _helpers()
        helpers = [executor.submit(_work, task, shares[first], first) for first in range(1, number)]
        try:
            _work(task, shares[0], 0)
        finally:
            # Waits for each, but not for a thread that has yet to wake up when nothing is left for it to do.
            errors = [helper.exception() for helper in helpers if fixed or not helper.cancel()]
        for error in errors:
            if error is not None:
                raise error


def worker():
    """Index of the thread that the running task is on, 0 .. get_num_threads() - 1; 0 outside `parallel`.

    Ask with ``fixed`` only.
    """
    return getattr(_local, "worker", 0)


def _work(task, indices, number):
    _local.inside, _local.worker = True, number
    try:
        for index in indices:
            task(index)
    finally:
        _local.inside, _local.worker = False, 0


def _helpers():
    global _executor
    with _lock:
        if _executor is None:
            _executor = ThreadPoolExecutor(get_num_threads() - 1, thread_name_prefix="npunet")
        return _executor


@contextmanager
def blas_on_one_thread():
    """Limits BLAS to one thread; overlapping uses share one limit, so that the last to leave restores what was there.

    A single small product on OpenBLAS's own threads costs far more than it gains: they go on spinning for some 30 ms
    after it, on the cores that the next bands need. So `parallel` uses this even for one task, and a program that calls
    NumPy's matmul between its bands does well to put the whole under it.
    """
    global _controller, _blas_limit, _blas_users
    with _lock:
        if _controller is None:
            _controller = ThreadpoolController()
        if _blas_users == 0:
            _blas_limit = _controller.limit(limits=1, user_api="blas")
        _blas_users += 1
    try:
        yield
    finally:
        with _lock:
            _blas_users -= 1
            if _blas_users == 0:
                _blas_limit.restore_original_limits()


def _after_fork():
    """A forked child has none of its parent's helper threads, and perhaps a lock that nobody will release."""
    global _lock, _executor, _blas_users
    _lock, _executor, _blas_users = threading.Lock(), None, 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
