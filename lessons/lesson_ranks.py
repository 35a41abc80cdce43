"""Ranks side by side in one notebook, each with a pipe to its right neighbour: threads, or turns without threads."""

import queue
import threading
from functools import cache

from npunet.machine.threads import can_start_threads


class _NothingThere(Exception):
    """A rank has asked for a piece that its neighbour has not sent yet."""


def run_ranks(task, n):
    """[task(r, send, receive) for r in 0 .. n - 1], all at once. Rank r sends to rank r + 1, and gets from rank r - 1.

    A browser has no threads. There `task` runs by turns, and must give and send the same whenever it is called.
    """
    if not can_start_threads():
        _say_once("Python has no threads in a browser: the ranks run by turns here.")
        return _by_turns(task, n)
    pipes = [queue.SimpleQueue() for _ in range(n)]  # pipe r leads from rank r to rank r + 1
    results = [None] * n

    def work(r):
        results[r] = task(r, pipes[r].put, pipes[r - 1].get)

    threads = [threading.Thread(target=work, args=(r,)) for r in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


_say_once = cache(print)


def _by_turns(task, n):
    """A rank that waits is stopped, and begins anew when its neighbour has had a turn, with all that was sent."""
    sent, results, done = [[] for _ in range(n)], [None] * n, [False] * n

    def turn(r):
        arrived, mine = iter(sent[r - 1]), []

        def receive():
            for piece in arrived:
                return piece
            raise _NothingThere

        try:
            results[r] = task(r, mine.append, receive)
            done[r] = True
        except _NothingThere:
            pass
        progress = done[r] or len(mine) > len(sent[r])
        sent[r] = mine
        return progress

    while not all(done):
        if not any([turn(r) for r in range(n) if not done[r]]):
            raise RuntimeError("each rank waits for another one")
    return results
