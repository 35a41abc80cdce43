"""One thread a core over bands of work, with BLAS held to one thread meanwhile.

NumPy lets go of Python's global lock inside matrix products and array arithmetic, so plain Python threads run them side
by side. BLAS could spread a single product over the cores as well, but then everything between the products (gathering
tiles, adding, ReLU) would stay on one core. So the work is cut into bands, each thread takes whole bands, and BLAS
works on one thread inside each.

The limit on BLAS holds only while `parallel` (or `blas_on_one_thread`) runs and is taken back afterwards; importing
npunet changes nothing.

A thread that has slept needs time to come back, and may come back to the wrong place: some schedulers, of virtual
machines above all, put it on the core of the thread that woke it, where the two work in turns until the system notices
(seen with Firecracker: for the first 50 ms of every pass). So threads stay awake for a moment between two pieces of
work, and a helper that finds itself on the caller's core goes to another one.
"""

import ctypes
import os
import threading
import weakref
from collections.abc import Callable
from contextlib import contextmanager, suppress
from functools import cache
from queue import SimpleQueue
from time import perf_counter, sleep

from threadpoolctl import ThreadpoolController

from npunet.errors import InputError

AWAKE = 3e-4  # seconds that a thread stays awake for more work: waking a core that sleeps costs about as much
MANY = 8  # with this many threads or more they would fight for Python's lock, and sleep at once

_lock = threading.Lock()
_local = threading.local()  # .inside: this thread is working for `parallel` already; .worker: see `worker`
_number = None  # threads to use; None until asked for or set
_helpers = None  # (queue that the helper threads take jobs from, how many they are); the calling thread works too
_blas = None  # the BLAS libraries: finding them costs milliseconds, so once
_blas_users = weakref.WeakSet()  # those who want one thread: the first one limits, the last one restores
_blas_before = []  # threads of each library before the limit


def default_num_threads() -> int:
    """Cores this process may use; fewer if OMP_NUM_THREADS says so; 1 where threads cannot be started."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    number = min(cores, int(wanted)) if wanted.isdigit() and int(wanted) > 0 else cores
    return number if number == 1 or can_start_threads() else 1


@cache
def can_start_threads() -> bool:
    """False for a Python without threads, as in a browser (WebAssembly)."""
    try:
        thread = threading.Thread(target=int)
        thread.start()
    except RuntimeError:
        return False
    thread.join()
    return True


def get_num_threads() -> int:
    """How many threads `parallel` uses."""
    global _number
    if _number is None:
        _number = default_num_threads()
    return _number


def set_num_threads(number: int) -> None:
    """Use `number` threads from now on (for npunet only). Raises InputError unless it is an integer, 1 or more."""
    global _number, _helpers
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise InputError(f"number of threads is {number!r}; expected an integer, 1 or more")
    with _lock:
        if _helpers is not None:
            jobs, helpers = _helpers
            for _ in range(helpers):
                jobs.put(None)  # each helper ends when it has done what it was given before
        _number, _helpers = number, None


def parallel(task: Callable[[int], object], count: int, fixed: bool = False) -> None:
    """Calls task(index) for each index in range(count), on all threads; returns when all are done.

    Each thread takes the next index when it is done with one, so one slow thread does not delay the others. With
    `fixed`, the indices are cut into shares instead: share s of T has the indices s, s + T, s + 2 T, ... in this
    order. What a share consists of then depends on nothing but `count` and T, and a task that adds to an accumulator
    of its share (see `worker`) gives the same bits each time. A call from inside a task runs on that task's thread. If
    a task raises, the first such exception is raised here.
    """
    if getattr(_local, "inside", False):
        for index in range(count):
            task(index)
        return
    number = max(1, min(get_num_threads(), count))
    rest = iter(range(count))  # its next index goes to whoever asks, and to nobody else
    shares = [_Share(task, share, range(share, count, number) if fixed else rest) for share in range(number)]
    with blas_on_one_thread():
        jobs = _helper_jobs() if number > 1 else None
        core = current_core()
        for _ in range(number - 1):
            jobs.put((shares, core))
        try:
            _work(shares)  # also the shares of helpers that have yet to wake up
        finally:
            _stay_awake(lambda: all(share.finished for share in shares))
            for share in shares:
                share.lock.acquire()  # when its helper is done; and nobody can begin it any more
    errors = [share.error for share in shares if share.error is not None]
    shares.clear()  # a helper that wakes up now finds nothing, and keeps no array alive
    if errors:
        raise errors[0]


def worker() -> int:
    """Index of the share that the running task belongs to, 0 .. get_num_threads() - 1; 0 outside `parallel`.

    Ask with `fixed` only.
    """
    return getattr(_local, "worker", 0)


class _Share:
    """Part of the work of one call of `parallel`. Who does it holds its lock meanwhile.

    The lock can be taken again by the thread that holds it, so the caller, which in the end takes the locks of all
    shares, waits for helpers only: not for a share that a KeyboardInterrupt took out of its own hands.
    """

    def __init__(self, task, number, indices):
        self.task, self.number, self.indices = task, number, indices
        self.lock, self.begun, self.finished, self.error = threading.RLock(), False, False, None

    def work(self):
        """Does the share, unless somebody has begun it."""
        if not self.lock.acquire(blocking=False):
            return
        try:
            if not self.begun:
                self.begun = _local.inside = True
                _local.worker = self.number
                for index in self.indices:
                    self.task(index)
        except BaseException as error:  # for the caller of `parallel`
            self.error = error
        finally:
            _local.inside, _local.worker = False, 0
            self.finished = True
            self.lock.release()


def _work(shares):
    for share in shares:
        share.work()
    return True


def _helper_jobs():
    """The queue of (shares, the caller's core) that the helper threads serve. It is C code, which no signal interrupts
    halfway.
    """
    global _helpers
    with _lock:
        if _helpers is None:
            jobs, number = SimpleQueue(), get_num_threads() - 1
            _helpers = jobs, number
            try:
                for helper in range(number):
                    threading.Thread(target=_serve, args=(jobs,), name=f"npunet {helper + 1}", daemon=True).start()
            except RuntimeError:
                pass  # this Python has no threads, or no more: the caller does all itself
        return _helpers[0]


def _serve(jobs):
    while True:
        _stay_awake(lambda: not jobs.empty())
        if not _serve_one(jobs.get()):
            return


def _stay_awake(until):
    """Waits for until() to be true, AWAKE seconds at most, without letting the core fall asleep."""
    end = perf_counter() + (AWAKE if get_num_threads() < MANY else 0)
    while not until() and perf_counter() < end:
        sleep(0)  # lets go of Python's lock, and of the core if somebody else wants it


def _serve_one(job):
    if job is None:
        return False
    shares, callers_core = job
    _leave(callers_core)
    return _work(shares)


def current_core() -> int | None:
    """Number of the core that the calling thread runs on now; None where the system does not say."""
    return None if _getcpu is None else _getcpu()


def _leave(core):
    """Moves the calling thread to another core if it runs on this one, and keeps it away until it meets the next.

    The caller of `parallel` may go wherever it likes; only helpers are moved.
    """
    if core is not None and current_core() == core:
        others = os.sched_getaffinity(os.getpid()) - {core}  # of those that the main thread may use
        if others:
            with suppress(OSError):  # the system forbids it; then the helper stays
                os.sched_setaffinity(0, others)


def _find_getcpu():
    """The C library's sched_getcpu, if there is one and Python can move threads."""
    try:
        return ctypes.PyDLL(None).sched_getcpu if hasattr(os, "sched_setaffinity") else None
    except (AttributeError, OSError, TypeError):  # macOS has none; WebAssembly no libraries; Windows other names
        return None


_getcpu = _find_getcpu()


class _User:
    """Somebody inside `blas_on_one_thread`."""

    def __init__(self):
        self.thread = threading.get_ident()


@contextmanager
def blas_on_one_thread():
    """Limits BLAS to one thread; overlapping uses, of any threads, share one limit: the last to leave takes it back.

    A single small product on OpenBLAS's own threads costs far more than it gains: they go on spinning for some 30 ms
    after it, on the cores that the next bands need. So `parallel` uses this even for one task, and a program that calls
    NumPy's matmul between its bands does well to put the whole under it.
    """
    user = _User()  # the set of users is weak: one that a KeyboardInterrupt kept from leaving is forgotten
    try:
        with _lock:
            _blas_users.add(user)
            if not _blas_before:
                _blas_before[:] = [library.num_threads for library in _blas_libraries()]
                _set_blas([1] * len(_blas_before))
        yield
    finally:
        with _lock:
            _blas_users.discard(user)
            if not _blas_users:
                _set_blas(_blas_before)
                _blas_before.clear()


def _blas_libraries():
    global _blas
    if _blas is None:
        _blas = ThreadpoolController().select(user_api="blas").lib_controllers
    return _blas


def _set_blas(numbers):
    """Gives each BLAS library its number of threads, whichever thread of Python asks.

    threadpoolctl 3.8 lets only the first thread that ever asked do so, unless it is told to forget who that was.
    """
    for library, number in zip(_blas_libraries(), numbers):
        forget = getattr(library, "clear_controlling_thread", lambda force: None)
        forget(force=True)
        library.set_num_threads(number)
        forget(force=True)


def _after_fork():
    """A forked child has none of its parent's other threads, and perhaps a lock that nobody will release."""
    global _lock, _helpers, _blas_users
    _lock, _helpers = threading.Lock(), None
    _blas_users = weakref.WeakSet(user for user in list(_blas_users) if user.thread == threading.get_ident())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
