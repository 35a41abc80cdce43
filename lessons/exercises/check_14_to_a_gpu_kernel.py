"""Checks of exercise 14, run as: pytest lessons/exercises/check_14_to_a_gpu_kernel.py"""

import inspect

import numpy as np
import pytest
from exercise import load

from npunet.ops import crop_concat

answer = load("14_to_a_gpu_kernel")


@pytest.mark.parametrize(
    "shape, skip_shape", [((2, 3, 4, 2), (2, 7, 6, 3)), ((1, 2, 2, 1), (1, 2, 2, 4)), ((1, 3, 1, 5), (1, 4, 4, 1))]
)
def test_every_thread_finds_its_element(shape, skip_shape):
    rng = np.random.default_rng(0)
    arrays = {"upsampled": rng.standard_normal(shape), "skip": rng.standard_normal(skip_shape)}
    y, _ = crop_concat(arrays["upsampled"], arrays["skip"])
    for i in range(y.size):
        name, position = answer.crop_concat_source(i, *shape[1:], *skip_shape[1:])
        assert arrays[name].ravel()[position] == y.ravel()[i], f"thread {i} reads {name} at {position}"


class Shared:
    """64 numbers of a block that notice a race: reading what another thread writes between the same two barriers."""

    def __init__(self, numbers):
        self.numbers, self.thread, self.writer, self.readers = list(numbers), None, {}, {}

    def __getitem__(self, place):
        assert self.writer.get(place, self.thread) == self.thread, (
            f"thread {self.thread} reads shared[{place}], which thread {self.writer[place]} writes"
        )
        self.readers.setdefault(place, set()).add(self.thread)
        return self.numbers[place]

    def __setitem__(self, place, value):
        assert place == self.thread, f"thread {self.thread} writes to shared[{place}]"
        others = self.readers.get(place, set()) - {self.thread}
        assert not others, f"thread {self.thread} writes shared[{place}], which thread {min(others)} reads"
        self.writer[place] = self.thread
        self.numbers[place] = value

    def barrier(self):
        self.writer, self.readers = {}, {}


@pytest.mark.parametrize("seed", range(5))
def test_a_block_finds_the_largest(seed):
    rng = np.random.default_rng(seed)
    numbers, result = rng.standard_normal(64).tolist(), [None]
    shared = Shared(numbers)
    threads = {t: answer.block_maximum(t, shared, result) for t in range(64)}
    assert all(inspect.isgenerator(thread) for thread in threads.values()), "a thread waits with yield"
    barriers = 0
    while threads:
        ended = set()
        for t in rng.permutation(list(threads)).tolist():
            shared.thread = t
            if next(threads[t], ended) is ended:
                ended.add(t)
        assert not ended or len(ended) == len(threads), "all threads must reach the same barriers"
        threads = {} if ended else threads
        barriers += not ended
        shared.barrier()
    assert result[0] == max(numbers)
    assert 6 <= barriers <= 7
