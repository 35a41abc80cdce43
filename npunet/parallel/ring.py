"""The ring all-reduce (Patarasuk and Yuan 2009, doi:10.1016/j.jpdc.2008.09.002) as loops over pipes.

n ranks sit in a ring; each can send to its right neighbour and receive from its left one. The array is cut into n
pieces. In n - 1 rounds every rank sends one piece to the right and adds the piece that comes from the left to its own:

    round k: rank r sends piece r - k and receives piece r - k - 1                           (indices modulo n)

After that rank r holds the finished sum of piece r + 1. In n - 1 more rounds the finished pieces go round once, and
each rank puts what comes in the place of its own. Every piece is summed once, in one order, so all ranks end with the
same bits. A rank sends 2 (n - 1) / n times the array, hardly more with many ranks than with few: that is the point.

This is the definition. Between real machines an engine of others does it better; see mpi.py.
"""

import multiprocessing
import pickle

import numpy as np


def all_reduce(array: np.ndarray, rank: int, size: int, send, receive) -> None:
    """``array`` (contiguous) becomes the sum over all ranks, in place.

    send(piece) gives an array to rank + 1; receive() -> the array that rank - 1 sent. Even ranks send first, odd ranks
    receive first, so nobody waits for somebody who waits.
    """
    pieces = np.array_split(array.reshape(-1), size)  # views

    def exchange(outgoing):
        if rank % 2 == 0:
            send(pieces[outgoing % size])
            return receive()
        incoming = receive()
        send(pieces[outgoing % size])
        return incoming

    for k in range(size - 1):
        incoming = exchange(rank - k)
        pieces[(rank - k - 1) % size] += incoming
    for k in range(size - 1):
        incoming = exchange(rank + 1 - k)
        pieces[(rank - k) % size][...] = incoming


class Ring:
    """One rank of a ring of processes on one machine, joined by pipes; see `run`."""

    takes_device_arrays = False

    def __init__(self, rank, size, left, right):
        self.rank, self.size, self.left, self.right = rank, size, left, right
        self.local_rank, self.local_size = rank, size

    def sum_(self, array) -> None:
        if self.size > 1:
            all_reduce(array, self.rank, self.size, self._send, self._receive)

    def _send(self, piece):
        self.right.send_bytes(np.ascontiguousarray(piece).tobytes() + piece.dtype.str.encode().ljust(8))

    def _receive(self):
        data = self.left.recv_bytes()
        return np.frombuffer(data[:-8], data[-8:].decode().strip())

    def from_first(self, thing):
        """Once around the ring, from rank 0."""
        if self.rank > 0:
            thing = pickle.loads(self.left.recv_bytes())  # from a process that `run` has started, never from a file
        if self.rank < self.size - 1:
            self.right.send_bytes(pickle.dumps(thing))
        return thing

    def abort(self, status: int) -> None:
        raise SystemExit(status)


def run(size: int, task, *arguments, timeout: float = 120.0) -> list:
    """[task(ring, *arguments) of rank 0, of rank 1, ...], each in a process of its own.

    task is a function that can be pickled. Raises RuntimeError if a rank ends without a result.
    """
    context = multiprocessing.get_context("spawn")
    pipes = [context.Pipe(duplex=False) for _ in range(size)]  # pipe r leads from rank r to rank r + 1
    results = [context.Pipe(duplex=False) for _ in range(size)]
    processes = []
    for rank in range(size):
        ring = (rank, size, pipes[rank - 1][0], pipes[rank][1])
        arrangement = (ring, results[rank][1], task, arguments)
        processes.append(context.Process(target=_work, args=arrangement, daemon=True))
        processes[-1].start()
    for _, end in (*pipes, *results):
        end.close()  # the workers have their own copies; a dead one then ends its neighbours
    try:
        return [_result(receive, rank, timeout) for rank, (receive, _) in enumerate(results)]
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _work(ring, result, task, arguments):
    result.send(task(Ring(*ring), *arguments))


def _result(receive, rank, timeout):
    if not receive.poll(timeout):
        raise RuntimeError(f"rank {rank} has given no result for {timeout} seconds")
    try:
        return receive.recv()
    except EOFError:
        raise RuntimeError(f"rank {rank} ended without a result") from None
