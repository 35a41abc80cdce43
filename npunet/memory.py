"""Large arrays from a pool of blocks that are used again: a training step asks for the same sizes as the step before.

Memory fresh from the operating system costs a page fault at the first touch of each page, which is dearer than the arithmetic of most
operations. `empty` therefore lends out blocks and takes them back by itself when no array refers to them any more, so operations
stay pure functions that return new arrays and nobody has to release anything.

How a block knows: the arrays handed out hold a `_Lease`, views of them hold the same one, and when the last array goes,
Python destroys the lease, which puts its block back. Blocks start on a cache line, as AVX-512 likes it.
"""

import threading
from collections import deque
from math import prod

import numpy as np

SMALLEST = 1 << 18                                       # bytes; below, the C allocator keeps its pages anyway
ALIGNMENT = 64                                           # bytes of a cache line, and of an AVX-512 register
GRAIN = 1 << 16                                          # block sizes are multiples of this: nearly equal sizes share blocks
SLACK = 1.25                                             # a free block serves if it is at most this much too large

_lock = threading.Lock()
_local = threading.local()                               # .blocks: scratch of this thread, by name
_free = []                                               # blocks nobody uses, the longest unused first
_returned = deque()                                      # blocks that came back since; appending needs no lock
_limit = 2 << 30                                         # bytes to keep in _free at most


class _Lease:
    """Lends one block to the arrays made from it; returns it when the last of them is gone."""

    __slots__ = ("block", "__array_interface__")

    def __init__(self, block, shape, dtype):
        self.block = block
        address = block.__array_interface__["data"][0]
        self.__array_interface__ = dict(version=3, shape=shape, typestr=dtype.str, data=(address + -address % ALIGNMENT, False))

    def __del__(self):
        _returned.append(self.block)                     # may run in any thread, even while _lock is held: so no lock here


def empty(shape, dtype, xp=np):
    """An uninitialised array, from the pool if it is large. With CuPy it is xp.empty: CuPy has a pool of its own."""
    dtype = np.dtype(dtype)
    size = prod(shape) * dtype.itemsize
    if xp is not np or size < SMALLEST:
        return xp.empty(shape, dtype=dtype)
    return np.asarray(_Lease(_take(size + ALIGNMENT), tuple(shape), dtype))


def _take(size):
    """The best-fitting free block of at least ``size`` bytes, or a new one."""
    with _lock:
        _collect()
        best = None
        for index in range(len(_free) - 1, -1, -1):      # the most recently used of equals: most likely still in cache
            if size <= _free[index].size <= SLACK * size + GRAIN and (best is None or _free[index].size < _free[best].size):
                best = index
        if best is not None:
            return _free.pop(best)
    return np.empty(size + -size % GRAIN, dtype=np.uint8)


def _collect():
    """Moves what came back to _free, and lets the longest unused blocks go while there is more than the limit."""
    while _returned:
        _free.append(_returned.popleft())
    idle = sum(block.size for block in _free)
    while idle > _limit:
        idle -= _free.pop(0).size


def idle_bytes():
    """Bytes kept for later that no array uses now."""
    with _lock:
        _collect()
        return sum(block.size for block in _free)


def set_limit(size):
    """Keeps at most ``size`` bytes of unused blocks from now on (2 GiB unless set); 0 turns the pool off."""
    global _limit
    with _lock:
        _limit = int(size)
        _collect()


def release():
    """Gives all unused blocks back to the system. Arrays in use are not touched."""
    with _lock:
        _collect()
        _free.clear()


def scratch(name, shape, dtype, xp=np):
    """An uninitialised array that lasts until this thread asks for the same ``name`` again: for intermediate results of a band.

    Taking turns with a few names keeps what a band touches small enough for a core's cache.
    """
    dtype = np.dtype(dtype)
    size = prod(shape) * dtype.itemsize
    if xp is not np:
        return xp.empty(shape, dtype=dtype)
    blocks = _local.__dict__.setdefault("blocks", {})
    if name not in blocks or not size <= blocks[name].nbytes <= 4 * size + GRAIN:
        blocks[name] = None                              # the old block goes back before the new one is taken
        blocks[name] = empty((size,), np.uint8)
    return blocks[name][:size].view(dtype).reshape(shape)
