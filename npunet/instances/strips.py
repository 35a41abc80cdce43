"""Cells of an image that does not fit into memory: the same as of the whole image, strip of rows by strip of rows.

What `seeded_watershed` makes of a probability depends on its *rank* alone: how many of the levels from threshold to
seed threshold lie below it. So one byte a pixel is enough (`ranks_of`), kept on the disk where the image is large, and
the cells are found from the ranks in four passes:

1. Each strip is cut into its 4-connected components, of the pixels above the threshold and of those above the seed
   threshold. Where a component reaches the next strip, the two numbers are noted as a pair.
2. Pairs are joined: connected components of a graph whose nodes are numbers. Sizes and seeds are added up.
3. A component with two seeds or more is flooded in its own bounding box.
4. Cells are numbered by their first pixel in reading order.

Memory: one strip, and the bounding box of the largest clump of touching cells.
"""

from collections.abc import Iterator

import numpy as np
from scipy import ndimage, sparse

from npunet.instances.watershed import LEVELS, flood, levels

STRIP_PIXELS = 2**19  # of a strip, unless one row has more
SEED = LEVELS + 1  # rank of a pixel above all levels


def ranks_of(probability: np.ndarray, threshold: float, seed_threshold: float) -> np.ndarray:
    """How many levels lie below each probability: (...) floats -> (...) uint8, 0 .. SEED."""
    ascending = levels(threshold, seed_threshold, probability.dtype)
    return np.searchsorted(ascending, probability, side="left").astype(np.uint8)


def strips(shape: tuple[int, int], rows: int | None = None) -> Iterator[slice]:
    """Slices of rows that cover an image of this shape; by default about STRIP_PIXELS each."""
    rows = rows or max(1, STRIP_PIXELS // max(1, shape[1]))
    return (slice(top, min(top + rows, shape[0])) for top in range(0, shape[0], rows))


def cut_classes(classes: np.ndarray, cells: np.ndarray, min_size: int = 0, rows: int | None = None) -> int:
    """Number the 4-connected components of every class but 0: classes (H, W) uint8 -> cells (H, W) int32, filled.

    Returns how many there are. Components of fewer than min_size pixels become background.
    """
    found = _Components()
    for strip in strips(classes.shape, rows):
        cells[strip] = found.add(classes[strip])
    group, sizes = found.joined()
    kept = sizes >= max(1, min_size)
    kept[0] = False
    return _number(cells, (kept * np.arange(len(sizes)))[group], rows)


def cut_ranks(ranks: np.ndarray, cells: np.ndarray, min_size: int = 0, rows: int | None = None) -> int:
    """`seeded_watershed` of (H, W) ranks -> cells (H, W) int32, filled. Returns how many there are.

    ranks, cells    arrays or memory maps. rows: of a strip.
    """
    found, cores = _Components(), _Components()
    boxes, core_in = [(0, 0, 0, 0)], [0]  # of each component its box; of each core the component that it lies in
    for strip in strips(ranks.shape, rows):
        part = ranks[strip]
        numbers, core_numbers = found.add(part > 0), cores.add(part == SEED)
        boxes += _boxes(numbers, found.first, strip.start)
        parent = np.zeros(cores.count - cores.first + 1, np.intp)
        parent[np.where(core_numbers > 0, core_numbers - cores.first, 0)] = numbers
        core_in += parent[1:].tolist()
        cells[strip] = numbers
    group, sizes = found.joined()
    core_group, core_sizes = cores.joined()
    core_parent = np.zeros(len(core_sizes), np.intp)
    core_parent[core_group] = group[np.array(core_in)]
    large = core_sizes >= max(1, min_size)
    large[0] = False
    seeds = np.bincount(core_parent[large], minlength=len(sizes))  # of each component
    kept = sizes >= max(1, min_size)
    kept[0] = False
    lookup = (kept * np.arange(len(sizes)))[group].astype(np.int32)
    for strip in strips(cells.shape, rows):
        cells[strip] = lookup[cells[strip]]
    total = len(sizes) - 1
    for number, box in _merged_boxes(np.array(boxes), group, np.flatnonzero(kept & (seeds > 1))):
        total = _flood_component(ranks, cells, number, box, min_size, total)
    return _number(cells, np.arange(total + 1, dtype=np.int32), rows)


def _flood_component(ranks, cells, number, box, min_size, total):
    """Part one component among its seeds; the parts get numbers after `total`. Returns the last number."""
    here = np.asarray(cells[box]) == number
    parts, count = parted(here, np.asarray(ranks[box]), min_size)
    cells[box] = np.where(here, parts + total, cells[box])
    return total + count


def parted(here: np.ndarray, ranks: np.ndarray, min_size: int) -> tuple[np.ndarray, int]:
    """One component, here (h, w) bool, shared out among its seeds: (h, w) int32 parts 1..n, and n."""
    seeds, _ = ndimage.label(here & (ranks == SEED))
    large = np.bincount(seeds.ravel()) >= max(1, min_size)
    large[0] = False
    parts = (np.cumsum(large) * large)[seeds]
    for level in range(SEED, 0, -1):  # the level sinks
        parts = flood(parts, here & (ranks >= level))
    return parts, int(large.sum())


def label(values: np.ndarray) -> tuple[np.ndarray, int]:
    """4-connected components of equal values above 0: (h, w) int32 numbers 1..n, and n."""
    numbers, count = np.zeros(values.shape, np.int32), 0
    for value in (1,) if values.dtype == bool else np.unique(values)[np.unique(values) > 0]:
        labelled, found = ndimage.label(values == value)
        numbers = np.where(labelled > 0, labelled + count, numbers)
        count += found
    return numbers.astype(np.int32), count


class _Components:
    """4-connected components of strip after strip, numbered 1, 2, ..; numbers that belong together are noted."""

    def __init__(self):
        self.count, self.first, self.sizes, self.pairs = 0, 0, [np.zeros(1, np.int64)], []
        self.last_row = None  # values and numbers of the row before the strip

    def add(self, values):
        """Numbers of the components of equal values above 0 in a strip: (h, W) int32."""
        self.first = self.count
        numbers, found = label(values)
        numbers[numbers > 0] += self.first
        self.count += found
        self.sizes.append(np.bincount(numbers.ravel(), minlength=self.count + 1)[self.first + 1 :])
        if self.last_row is not None:
            above, above_numbers = self.last_row
            same = (above == values[0]) & (above_numbers > 0)
            self.pairs.append(np.unique(np.stack([above_numbers[same], numbers[0][same]]), axis=1))
        self.last_row = values[-1].copy(), numbers[-1].copy()
        return numbers

    def joined(self):
        """(group of each number, pixels of each group); number 0 is group 0."""
        pairs = np.concatenate([np.zeros((2, 0), np.int64), *self.pairs], axis=1)
        graph = sparse.coo_array((np.ones(pairs.shape[1], bool), tuple(pairs)), (self.count + 1, self.count + 1))
        groups, group = sparse.csgraph.connected_components(graph, directed=False)
        return group, np.bincount(group, weights=np.concatenate(self.sizes), minlength=groups).astype(np.int64)


def _boxes(numbers, first, top):
    """[(first row, last row + 1, first column, last column + 1)] of the numbers after `first`, in the whole image."""
    found = ndimage.find_objects(np.where(numbers > 0, numbers - first, 0))
    return [(top + rows.start, top + rows.stop, columns.start, columns.stop) for rows, columns in found]


def _merged_boxes(boxes, group, wanted):
    """(number, box as slices) of the groups in `wanted`: the hull of the boxes of their numbers."""
    low, high = np.full((len(wanted), 2), np.iinfo(np.int64).max), np.zeros((len(wanted), 2), np.int64)
    place = np.searchsorted(wanted, group)
    inside = np.isin(group, wanted)
    np.minimum.at(low, place[inside], boxes[inside][:, [0, 2]])
    np.maximum.at(high, place[inside], boxes[inside][:, [1, 3]])
    for number, start, stop in zip(wanted.tolist(), low.tolist(), high.tolist(), strict=True):
        yield number, (slice(start[0], stop[0]), slice(start[1], stop[1]))


def _number(cells, lookup, rows):
    """Replace each number by lookup[number], then number those that are left 1..n by their first pixel; returns n."""
    order = np.full(int(lookup.max(initial=0)) + 1, 0, np.int32)
    count = 0
    for strip in strips(cells.shape, rows):
        part = lookup[cells[strip]]
        begins = np.ones(part.shape, bool)  # pixels that differ from the one before: few, and every cell has one
        begins[:, 1:] = part[:, 1:] != part[:, :-1]
        candidates = part[begins]
        numbers, first = np.unique(candidates, return_index=True)
        new = numbers[np.argsort(first)]
        new = new[(new > 0) & (order[new] == 0)]
        order[new] = count + 1 + np.arange(len(new))
        count += len(new)
        cells[strip] = order[part]
    return count
