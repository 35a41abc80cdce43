"""Connected components, and a watershed from seeds, of a whole image (what §4 needs beyond the soft-max).

The network says for each pixel how likely it is to be inside a cell; which pixels belong together it does not say.
Where the gaps between cells are seen (that is what Eq. 2 is for), the 4-connected components of the thresholded
probability are the cells. Where a gap is only a dip, a watershed finds it: sure cell cores are seeds, which grow
downhill from high to low probability until they meet.

    components         4-connected components above a threshold
    seeded_watershed   components above a high threshold, grown down to a lower one
    flood              the growing itself, a whole wavefront at a time
"""

import functools

import numpy as np
from scipy import ndimage

from npunet.errors import InputError
from npunet.machine.backend import to_cpu

LEVELS = 16  # steps in which the watershed goes down


def components(probability: np.ndarray, threshold: float = 0.5, min_size: int = 0) -> np.ndarray:
    """4-connected components of probability > threshold: (H, W) floats -> (H, W) int32, 0 = background, 1..n.

    Components of fewer than `min_size` pixels become background. Raises InputError if the probability is not (H, W).
    """
    probability = _section(probability)
    return _without_small(ndimage.label(probability > threshold)[0], min_size)


def seeded_watershed(
    probability: np.ndarray, threshold: float = 0.5, seed_threshold: float = 0.8, min_size: int = 0
) -> np.ndarray:
    """Cells of (H, W) probabilities that touch above `threshold` but not above `seed_threshold`: (H, W) int32.

    Seeds are the 4-connected components above seed_threshold of at least `min_size` pixels; a component above
    threshold that holds no such seed is a seed as a whole (unless it is too small itself). From seed_threshold to
    threshold the level sinks in 16 equal steps; at each, the seeds grow 4-connectedly over all pixels above the level,
    step by step in turn (see `flood`). Every pixel above the threshold that a seed reaches gets its number. Cells are
    numbered 1..n by their first pixel in reading order. Raises InputError if the thresholds are not in order.

    `npunet.instances.strips.cut_ranks` finds the same cells strip by strip.
    """
    probability = _section(probability)
    if not threshold <= seed_threshold:
        raise InputError(
            f"seed threshold {seed_threshold} is below the threshold {threshold}; expected it above, such as 0.8 over "
            f"0.5"
        )
    labels = components(probability, seed_threshold, min_size)
    whole = components(probability, threshold, min_size)
    # (2, seeds): component and number of each
    seed_numbers = np.unique(np.stack([whole[labels > 0], labels[labels > 0]]), axis=1)
    seeds_in = np.bincount(seed_numbers[0], minlength=whole.max() + 1)
    only = np.zeros(whole.max() + 1, np.int32)
    only[seed_numbers[0]] = seed_numbers[1]
    without = np.flatnonzero(seeds_in == 0)[1:]  # 0 is the background
    only[without] = labels.max() + 1 + np.arange(len(without))
    only[(seeds_in > 1) | (np.arange(len(only)) == 0)] = 0
    labels = np.where(only[whole] > 0, only[whole], labels)  # nobody to share the component with: it is one cell
    for number, box in enumerate(ndimage.find_objects(whole), start=1):
        if seeds_in[number] > 1:
            here = whole[box] == number
            labels[box] = np.where(
                here,
                _sink(np.where(here, labels[box], 0), here, probability[box], threshold, seed_threshold),
                labels[box],
            )
    return in_reading_order(labels)


def levels(threshold: float, seed_threshold: float, dtype: np.dtype = np.float32) -> np.ndarray:
    """The levels of the watershed, ascending: (LEVELS + 1,), from threshold to seed_threshold."""
    return np.linspace(threshold, seed_threshold, LEVELS + 1).astype(dtype)


def in_reading_order(labels: np.ndarray) -> np.ndarray:
    """The same regions, numbered 1..n by their first pixel in reading order: (H, W) int32."""
    numbers, first = np.unique(labels, return_index=True)
    order = np.zeros(int(numbers[-1]) + 1, np.int32)
    regions = numbers > 0
    order[numbers[regions][np.argsort(first[regions])]] = 1 + np.arange(np.count_nonzero(regions))
    return order[labels]


def _sink(labels, mask, probability, threshold, seed_threshold):
    """The seeds of one component, grown over it while the level sinks."""
    for level in levels(threshold, seed_threshold, probability.dtype)[::-1]:
        labels = flood(labels, (probability > level) & mask)
    return labels


def flood(labels: np.ndarray, mask: np.ndarray, lines: bool = False) -> np.ndarray:
    """Grow the regions of `labels` (H, W; 0 = free, 1..n) over the free pixels of `mask`, 4-connectedly:
    (H, W) int32.

    The rule, which fixes every tie: growth goes in rounds. Each round takes the free pixels that touch (up, down, left,
    right) a region when the round begins, and each of them joins that region; of several, the one of smallest number.
    With `lines` a pixel that touches several regions stays free for good: regions never touch, and the line between
    them is one pixel wide. For that a round has two halves, first the pixels with y + x even, then those with y + x
    odd, which see what the first half has done. Pixels of one half do not touch each other, so what is done here at
    once is the same in any order.
    """
    regions = np.pad(labels, 1).astype(np.uint32)  # a frame of zeros: no tests for the image's border
    free = np.pad(mask & (labels == 0), 1)
    stride = regions.shape[1]
    beside = -stride, -1, 1, stride
    inner = regions[1:-1, 1:-1]
    regions, free = regions.ravel(), free.ravel()  # views: pixel (y, x) is y * stride + x
    joined = np.flatnonzero(regions)
    while joined.size:
        front = []
        for step in beside:
            reached = joined + step
            front.append(reached[free[reached]])
            free[front[-1]] = False  # each pixel is reached once
        front = np.concatenate(front)
        odd = (front // stride + front % stride) % 2 == 1
        for pixels in (front[~odd], front[odd]) if lines else (front,):
            touching = [regions[pixels + step] for step in beside]
            largest = functools.reduce(np.maximum, touching)
            smallest = functools.reduce(np.minimum, [region - 1 for region in touching]) + 1  # 0 - 1 wraps to 2^32 - 1
            regions[pixels] = np.where(smallest < largest, 0, largest) if lines else smallest
        joined = front[regions[front] > 0]
    return inner.astype(np.int32)


def _section(probability):
    probability = to_cpu(probability)
    if probability.ndim != 2:
        raise InputError(
            f"probabilities have shape {probability.shape}; expected (H, W), one section and one class at a time"
        )
    return probability


def _without_small(labels, min_size):
    """`labels` without the regions of fewer than min_size pixels, numbered 1..n, int32."""
    size = np.bincount(labels.ravel())
    kept = size >= max(1, min_size)
    kept[0] = False
    return (np.cumsum(kept) * kept)[labels].astype(np.int32)
