"""Exercise of lesson 14: two threads of a GPU, written in Python.

A thread of a kernel knows its number and the sizes, nothing else. Check yourself with:
pytest lessons/exercises -k 14
"""


def crop_concat_source(i, height, width, channels, skip_height, skip_width, skip_channels):
    """Thread i writes element i, counted flat, of y (N, height, width, channels + skip_channels). Where does it read?

    y = [upsampled (N, height, width, channels), middle of skip (N, skip_height, skip_width, skip_channels)]; the middle
    begins at row (skip_height - height) // 2 and column (skip_width - width) // 2. Returns ("upsampled" or "skip", flat
    position in that array).
    """
    raise NotImplementedError(
        "write crop_concat_source: take i apart into n, row, column and c, then put the position together"
    )


def block_maximum(t, shared, result):
    """Thread t of 64: shared holds 64 numbers when the block begins; in the end result[0] is the largest of them.

    A generator: `yield` is __syncthreads(), which all threads must reach equally often. A thread may write to shared[t]
    only, and read no number that another thread may be writing meanwhile. Not more than seven barriers.
    """
    raise NotImplementedError("write block_maximum: a tree, 32 threads in the first round, then 16, 8, 4, 2, 1")
