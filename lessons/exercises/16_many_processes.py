"""Exercise of lesson 16: the ring's time-table, and a mean that is one.

Check yourself with: pytest lessons/exercises -k 16
"""

import numpy as np


def pieces(rank, k, n):
    """What a rank does in round k of a ring of n: (piece that it sends, piece that it receives), 0 .. n - 1 each.

    In rounds 0 .. n - 2 sums are made: rank r begins with piece r. In rounds n - 1 .. 2 n - 3 the finished pieces go
    round: rank r begins with piece r + 1, which it has finished. What a rank receives in one round it sends in the
    next.
    """
    raise NotImplementedError("write pieces: what comes from the left is what the left neighbour sends")


def big_gradient(gradients, pixels):
    """Gradient of the energy of all pixels, (P,).

    gradients (n, P): of the mean over each rank's pixels. pixels (n,): how many it has.
    """
    raise NotImplementedError("write big_gradient: every pixel counts once")
