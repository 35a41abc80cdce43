"""The processes that train one network together, as seen from one of them: its rank, how many there are, and sums.

A process is alone unless `use` has said otherwise; then rank is 0, size is 1, and every function here gives back
what it got. npunet.parallel has the engines that carry numbers between processes, and says what
data-parallel training is.
"""

from typing import Protocol

import numpy as np

from npunet.machine.backend import Array, array_module, to_cpu


class Group(Protocol):
    """What an engine offers; npunet/parallel has them."""

    rank: int  # of this process, 0 .. size - 1
    size: int
    local_size: int  # how many of them are on this machine
    takes_device_arrays: bool  # whether sum_ adds up arrays on a GPU where they are

    def sum_(self, array) -> None:
        """array, contiguous, becomes the sum of the arrays of all ranks: the same bits on each."""

    def from_first(self, thing):
        """What rank 0 handed in, on every rank; thing can be pickled."""

    def abort(self, status: int) -> None:
        """End all processes."""


class Alone:
    """The only process."""

    rank, size, local_size, takes_device_arrays = 0, 1, 1, False

    def sum_(self, array) -> None:
        pass

    def from_first(self, thing):
        return thing

    def abort(self, status: int) -> None:
        raise SystemExit(status)


_group: Group = Alone()


def use(group: Group) -> None:
    """From now on this process is one of ``group``."""
    global _group
    _group = group


def group() -> Group:
    """The engine in use."""
    return _group


def rank() -> int:
    return _group.rank


def size() -> int:
    return _group.size


def on_this_machine() -> int:
    """How many of the processes share this machine."""
    return _group.local_size


def total(array: Array) -> Array:
    """The sum of the arrays of all ranks, on the device where ``array`` is; ``array`` itself when alone."""
    if _group.size == 1:
        return array
    here = array if _group.takes_device_arrays else to_cpu(array)  # from a GPU it comes over the host
    summed = here.copy()  # contiguous
    _group.sum_(summed)
    return array_module(array).asarray(summed)


def mean(array: Array) -> Array:
    """`total` divided by the number of ranks."""
    return array if _group.size == 1 else total(array) / _group.size


def moments(mean_here: Array, variance_here: Array) -> tuple[Array, Array]:
    """Mean and variance (C,) over the pixels of all ranks, of which each has equally many; its own when alone."""
    overall = mean(mean_here)
    return overall, mean(variance_here + (mean_here - overall) ** 2)


def any_of(flag: bool) -> bool:
    """Whether it is true on some rank. Every rank must ask."""
    if _group.size == 1:
        return flag
    return bool(total(np.array([float(flag)]))[0])


def barrier() -> None:
    """Wait until every rank has come here."""
    any_of(False)


def from_first(thing):
    """What rank 0 handed in, on every rank. Every rank must ask."""
    return _group.from_first(thing)


def abort(status: int) -> None:
    """End all ranks with this exit status; when alone, this process."""
    _group.abort(status)
