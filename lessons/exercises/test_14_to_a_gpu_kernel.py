"""Check of exercise 14, run as: pytest lessons/exercises -k 14"""

import inspect

import numpy as np
from exercise import check_of

from lessons.compare import Wrong

SHAPES = {  # upsampled, skip
    "no crop": ((1, 2, 2, 1), (1, 2, 2, 4)),
    "one channel each": ((1, 2, 3, 1), (1, 4, 5, 1)),
    "two images": ((2, 3, 4, 2), (2, 7, 6, 3)),
    "an odd rest": ((1, 3, 1, 5), (1, 4, 4, 1)),
}


def definition(small, large, middle=True, clip=0):
    """For each thread: 0 or 1 (upsampled or skip), and the flat position, by indexing arrays of positions."""
    _, height, width, channels = small
    up, skip = np.arange(np.prod(small)).reshape(small), np.arange(np.prod(large)).reshape(large)
    top, left = ((large[a] - small[a]) // 2 if middle else large[a] - small[a] for a in (1, 2))
    top, left = top * (clip == 0), left * (clip == 0)
    taken = skip[:, top : top + height, left : left + width]
    where = np.concatenate([np.zeros(small, int), np.ones(taken.shape, int)], axis=3)
    return np.stack([where.ravel(), np.concatenate([up, taken], axis=3).ravel()], axis=1)


def test_crop_concat_source():
    read = 'lesson 14, "2. From a flat number back to (n, row, column, c): max-pooling"'
    check = check_of("14_to_a_gpu_kernel", "crop_concat_source", read)
    for case, (small, large) in SHAPES.items():
        expected = definition(small, large)
        found = []
        for i in range(len(expected)):
            answer = check.call(case, {"i": i} | dict(enumerate([*small[1:], *large[1:]])))
            try:
                name, position = answer
                found.append((("upsampled", "skip").index(name), int(position)))
            except (TypeError, ValueError):
                check.fail(f"thread {i} returns {answer!r}", 'a name, "upsampled" or "skip", and a number are wanted')
        mistakes = {sentence: [result] for sentence, result in source_mistakes(small, large, expected).items()}
        name = "where thread i reads, in the rows (0 upsampled or 1 skip, position)"
        check.keep(case, [name], [found], [expected], mistakes, axes=("thread", "array, position"))
    check.verdict()


def source_mistakes(small, large, expected):
    n, height, width, channels = small
    _, skip_height, skip_width, skip_channels = large
    top, left = (skip_height - height) // 2, (skip_width - width) // 2

    def with_strides(row_stride, image_stride, minus=channels, down=top, across=left):
        found = []
        for image, row, column, c in np.ndindex(n, height, width, channels + skip_channels):
            if c < channels:
                found.append((0, ((image * height + row) * width + column) * channels + c))
            else:
                place = image * image_stride + (row + down) * row_stride + column + across
                found.append((1, place * skip_channels + c - minus))
        return np.array(found)

    whole = skip_height * skip_width
    turned = [
        (0, ((image * height + row) * width + column) * channels + c - skip_channels)
        if c >= skip_channels
        else (1, (image * whole + (row + top) * skip_width + column + left) * skip_channels + c)
        for image, row, column, c in np.ndindex(n, height, width, channels + skip_channels)
    ]
    return {
        "the skip is not cropped: its middle begins at row top and column left": definition(small, large, clip=1),
        "the crop is the last rows and columns of the skip; its middle is wanted": definition(small, large, False),
        "c - channels is the channel within the skip": with_strides(skip_width, whole, minus=0),
        "a row of the skip has skip_width columns, not width": with_strides(width, whole),
        "a row of the skip has skip_width columns, not width ": with_strides(width, width * skip_height),
        "an image of the skip has skip_height rows, not height": with_strides(skip_width, height * skip_width),
        "the left margin of the crop is forgotten": with_strides(skip_width, whole, across=0),
        "the upper margin of the crop is forgotten": with_strides(skip_width, whole, down=0),
        "an odd rest of the crop is rounded down": with_strides(
            skip_width, whole, down=-(-(skip_height - height) // 2), across=-(-(skip_width - width) // 2)
        ),
        "the skip comes first; the upsampled channels should": np.array(turned),
        "every thread reads upsampled": np.stack([0 * expected[:, 0], expected[:, 1]], axis=1),
    }


class Shared:
    """64 numbers of a block that notice a race: reading what another thread writes between the same two barriers."""

    def __init__(self, numbers):
        self.numbers, self.thread, self.writer, self.readers, self.races = list(numbers), None, {}, {}, []

    def __getitem__(self, place):
        if self.writer.get(place, self.thread) != self.thread:
            self.races.append(f"thread {self.thread} reads shared[{place}], which thread {self.writer[place]} writes")
        self.readers.setdefault(place, set()).add(self.thread)
        return self.numbers[place]

    def __setitem__(self, place, value):
        if place != self.thread:
            self.races.append(f"thread {self.thread} writes to shared[{place}]; only shared[{self.thread}] is its own")
        others = self.readers.get(place, set()) - {self.thread}
        if others:
            self.races.append(f"thread {self.thread} writes shared[{place}], which thread {min(others)} reads")
        self.writer[place] = self.thread
        self.numbers[place] = value

    def barrier(self):
        self.writer, self.readers = {}, {}


def run(check, function, numbers, rng):
    """(result, barriers) of a block of 64 threads; Wrong for a race."""
    result, shared, barriers = [None], Shared(numbers), 0
    threads = {t: function(t, shared, result) for t in range(64)}
    if not all(inspect.isgenerator(thread) for thread in threads.values()):
        check.fail("block_maximum is no generator", "a thread waits with yield: write at least one")
    while threads:
        ended = set()
        for t in rng.permutation(list(threads)).tolist():
            shared.thread = t
            with check.explained("a block of 64 threads"):
                if next(threads[t], ended) is ended:
                    ended.add(t)
        if shared.races:
            why = "a race: between two barriers nobody may read what another thread writes; a yield is missing there"
            why = "a thread may write to its own place only" if "own" in shared.races[0] else why
            check.fail(shared.races[0], why)
        if ended and len(ended) < len(threads):
            why = "all threads must reach every barrier: no yield inside an `if t < half`"
            check.fail(f"{len(ended)} threads have ended while others still wait at a barrier", why)
        threads = {} if ended else threads
        barriers += not ended
        shared.barrier()
    return result[0], barriers


def test_block_maximum():
    read = 'lesson 14, "4. Threads that work together: a sum over all pixels"'
    check = check_of("14_to_a_gpu_kernel", "block_maximum", read)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        numbers = (rng.standard_normal(64) - 5 * (seed == 1)).tolist()
        found, barriers = run(check, check.function, numbers, rng)
        if found != max(numbers):
            raise_wrong_maximum(check, found, numbers)
        if barriers > 7 or barriers < 6:
            more = (
                "too many: half of the threads are done in each round, six rounds are enough" if barriers > 7 else "few"
            )
            check.fail(f"block_maximum has {barriers} barriers; six or seven are expected", more)


def raise_wrong_maximum(check, found, numbers):
    first = f"result[0] is {found}, the largest of the 64 numbers is {max(numbers):.6g}"
    if found is None:
        check.fail(first, "nobody has written result[0]: thread 0 does at the end")
    guesses = {
        "the smallest number": min(numbers),
        "a sum": sum(numbers),
        "shared[0] as it was at the beginning": numbers[0],
        "negative numbers have become 0": max(0.0, *numbers),
    }
    for half in (32, 16, 8, 4, 2):
        guesses[f"only the first {half} numbers were looked at"] = max(numbers[:half])
        guesses[f"the last {half} numbers were not looked at"] = max(numbers[:-half])
    guesses["the last round is missing: only every second number is in it"] = max(numbers[::2])
    guesses["the first round is missing: half of the numbers are not in it"] = max(numbers[:32])
    near = [sentence for sentence, value in guesses.items() if abs(value - found) < 1e-12]
    raise Wrong(
        "\n".join([first, f"  diagnosis    {near[0] if near else 'not all numbers took part: count the rounds'}"])
    )
