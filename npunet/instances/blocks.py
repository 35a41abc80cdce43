"""Cells of an image that several processes share: the same as of the whole image, block by block.

The blocks are rectangles of a grid, and each is summed up by itself: its components, how large they are, and which of
them reach its edges. Whoever has all summaries, a few bytes for each component, knows which components of neighbouring
blocks are one. Cells are numbered by their first pixel, as in `strips`. Only a component with several seeds, a *clump*,
is looked at again as a whole, in its own bounding box.

    summary(marks, ..)             a block, by whoever has it
    joined = join(summaries, ..)   all blocks, once: the components of the whole image
    parts_of(marks, ..)            a clump, by whoever has its first pixel
    number(joined, ..)             all clumps, once: which cell each component is
    joined.cells(marks, ..)        a block, by whoever has it
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy import sparse

from npunet.instances.strips import SEED, label, parted

SIDES = {"top": np.s_[0, :], "bottom": np.s_[-1, :], "left": np.s_[:, 0], "right": np.s_[:, -1]}
NOWHERE = np.iinfo(np.int64).max  # the first pixel of a component without pixels


def summary(marks: np.ndarray, top: int, left: int, width: int, seeded: bool) -> dict[str, np.ndarray]:
    """What the other blocks have to know of one, of whose components there are n.

    marks   (h, w) uint8: ranks (`strips.ranks_of`) if seeded, else classes; its first pixel is (top, left) of an image
            of this width
    ->      sizes (n,); first (n,): the place of its first pixel in the image, row * width + column; boxes (n, 4): first
            row, last row + 1, first column, last column + 1; and for each side of the block the components at its
            pixels and their values. The same of the seeds, of which only the component that they lie in counts.
    """
    values = marks > 0 if seeded else marks
    numbers, count = label(values)
    found = {"sizes": _sizes(numbers, count), **_extent(numbers, count, top, left, width)}
    for side, place in SIDES.items():
        found[side], found[f"value_{side}"] = numbers[place], values[place].astype(np.uint8)
    if seeded:
        seeds, count = label(marks == SEED)
        found |= {"seed_sizes": _sizes(seeds, count), "seed_in": np.zeros(count + 1, np.int64)}
        found["seed_in"][seeds] = numbers
        found["seed_in"] = found["seed_in"][1:]
        found |= {f"seed_{side}": seeds[place] for side, place in SIDES.items()}
    return found


def names(seeded: bool) -> list[str]:
    """The names of what `summary` gives."""
    return list(summary(np.zeros((1, 1), np.uint8), 0, 0, 1, seeded))


def _sizes(numbers, count):
    return np.bincount(numbers.ravel(), minlength=count + 1)[1:]


def _extent(numbers, count, top, left, width):
    """{"first", "boxes"} of the components 1 .. count, in the whole image."""
    y, x = np.nonzero(numbers)
    which = numbers[y, x] - 1
    y, x = y + top, x + left
    first, boxes = np.full(count, NOWHERE), _no_boxes(count)
    np.minimum.at(first, which, y.astype(np.int64) * width + x)
    _enclose(boxes, which, np.stack([y, y + 1, x, x + 1], axis=1))
    return {"first": first, "boxes": boxes}


def _no_boxes(count):
    return np.tile(np.array([2**31 - 1, 0, 2**31 - 1, 0], np.int32), (count, 1))


def _enclose(boxes, which, others):
    """boxes[which[i]] grows until it holds others[i]."""
    for column, widen in enumerate((np.minimum, np.maximum, np.minimum, np.maximum)):
        widen.at(boxes[:, column], which, others[:, column].astype(np.int32))


class _Union:
    """Numbers of blocks become numbers of the whole image, and those that belong together become one group."""

    def __init__(self, columns, prefix=""):
        self.sides = {side: prefix + side for side in SIDES}
        self.offsets, self.pairs, self.above = [0], [], [None] * columns

    def add(self, index, block, count):
        """Block `index` in reading order, with `count` components."""
        column, offset = index % len(self.above), self.offsets[-1]
        ours = {}
        for side, name in self.sides.items():
            numbers = block[name].astype(np.int64)
            ours[side] = np.where(numbers > 0, numbers + offset, 0), block[f"value_{side}"]
        if self.above[column]:
            self._touch(ours["top"], self.above[column]["bottom"])
        if column:
            self._touch(ours["left"], self.above[column - 1]["right"])
        self.above[column] = ours
        self.offsets.append(offset + count)

    def _touch(self, ours, theirs):
        same = (ours[0] > 0) & (theirs[0] > 0) & (ours[1] == theirs[1])
        if same.any():
            self.pairs.append(np.unique(np.stack([ours[0][same], theirs[0][same]]), axis=1))

    def groups(self):
        """(group of each number, number of groups); number 0 is group 0, alone."""
        count = self.offsets[-1] + 1
        pairs = np.concatenate([np.zeros((2, 0), np.int64), *self.pairs], axis=1)
        graph = sparse.coo_array((np.ones(pairs.shape[1], bool), tuple(pairs)), (count, count))
        total, group = sparse.csgraph.connected_components(graph, directed=False)
        return group, total


@dataclass
class Joined:
    """The components of the whole image, the *groups* 1, 2, ..: which numbers of which block belong to each."""

    seeded: bool
    width: int
    offsets: np.ndarray  # (blocks + 1,): number i of block b is number offsets[b] + i of all
    group: np.ndarray  # of each number of all
    first: np.ndarray  # of each group: place of its first pixel
    boxes: np.ndarray  # of each group (4,)
    kept: np.ndarray  # whether a group is large enough
    clumps: np.ndarray  # the groups with two seeds or more
    cell: np.ndarray | None = None  # of each group the number of its cell; `number` fills it in
    parts: dict[int, np.ndarray] = field(default_factory=dict)  # of each clump the numbers of its cells
    begins: np.ndarray | None = None  # of cell 1, 2, .. the place of its first pixel, ascending
    extents: np.ndarray | None = None  # and its box (4,)

    @property
    def count(self) -> int:
        """How many cells there are."""
        return len(self.begins)

    def cells_beginning_in(self, rows: slice, columns: slice) -> np.ndarray:
        """The numbers of the cells whose first pixel lies in a block."""
        first, end = np.searchsorted(self.begins, [rows.start * self.width, rows.stop * self.width])
        x = self.begins[first:end] % self.width
        return 1 + first + np.flatnonzero((columns.start <= x) & (x < columns.stop))

    def clumps_beginning_in(self, rows: slice, columns: slice) -> np.ndarray:
        """The clumps whose first pixel lies in a block."""
        y, x = np.divmod(self.first[self.clumps], self.width)
        inside = (rows.start <= y) & (y < rows.stop) & (columns.start <= x) & (x < columns.stop)
        return self.clumps[inside]

    def box(self, group: int) -> tuple[slice, slice]:
        return slices(self.boxes[group])

    def cells(self, index: int, marks: np.ndarray, rows: slice, columns: slice, clump: Callable) -> np.ndarray:
        """Numbers of the cells of block `index`, (h, w) int32. clump(group) -> its parts in its box, (h', w')."""
        numbers, _ = label(marks > 0 if self.seeded else marks)
        groups = self.group[np.where(numbers > 0, numbers + self.offsets[index], 0)]
        cells = self.cell[groups]
        for group in np.intersect1d(np.unique(groups), self.clumps).tolist():
            box = self.box(group)
            down, across = meet(rows, box[0]), meet(columns, box[1])
            part = clump(group)[shifted(down, box[0]), shifted(across, box[1])]
            here = shifted(down, rows), shifted(across, columns)
            own = groups[here] == group
            cells[here][own] = self.parts[group][part[own] - 1]
        return cells


def slices(box: np.ndarray) -> tuple[slice, slice]:
    """First row, last row + 1, first column, last column + 1 -> rows and columns."""
    top, bottom, left, right = box.tolist()
    return slice(top, bottom), slice(left, right)


def meet(one: slice, other: slice) -> slice:
    """The places that two slices of an axis share."""
    return slice(max(one.start, other.start), min(one.stop, other.stop))


def shifted(part: slice, whole: slice) -> slice:
    """The same places, counted from the beginning of `whole`."""
    return slice(part.start - whole.start, part.stop - whole.start)


def join(summaries: Callable, grid: tuple[int, int], width: int, seeded: bool, min_size: int = 0) -> Joined:
    """The components of the whole image. summaries(i): of block i of a grid of (rows, columns), in reading order."""
    components, seeds = _Union(grid[1]), _Union(grid[1], "seed_")
    columns = {name: [] for name in ("sizes", "first", "boxes", *["seed_sizes", "seed_in"] * seeded)}
    for index in range(grid[0] * grid[1]):
        block = summaries(index)
        for name, rows in columns.items():
            rows.append(block[name] + components.offsets[-1] if name == "seed_in" else block[name])
        components.add(index, block, len(block["sizes"]))
        if seeded:
            seeds.add(index, block, len(block["seed_sizes"]))
    of = {name: np.concatenate(rows) for name, rows in columns.items()}
    group, total = components.groups()
    first, boxes = np.full(total, NOWHERE), _no_boxes(total)
    np.minimum.at(first, group[1:], of["first"])
    _enclose(boxes, group[1:], of["boxes"])
    kept = np.bincount(group[1:], of["sizes"], total) >= max(1, min_size)
    kept[0] = False
    clumps = kept & (_seeds_in(seeds, of, group, total, min_size) > 1) if seeded else np.zeros(total, bool)
    return Joined(seeded, width, np.array(components.offsets), group, first, boxes, kept, np.flatnonzero(clumps))


def _seeds_in(seeds, of, group, total, min_size):
    """How many seeds that are large enough each group has."""
    seed, count = seeds.groups()
    large = np.bincount(seed[1:], of["seed_sizes"], count) >= max(1, min_size)
    home = np.zeros(count, np.int64)
    home[seed[1:]] = group[of["seed_in"]]
    return np.bincount(home[1:][large[1:]], minlength=total)


def parts_of(marks: np.ndarray, joined: Joined, group: int, min_size: int = 0) -> tuple[np.ndarray, dict]:
    """One clump, shared out among its seeds: (h, w) int32 parts 1..n in its box, and "first" and "boxes" of each.

    marks: (h, w) ranks of its box.
    """
    (rows, columns), (y, x) = joined.box(group), divmod(int(joined.first[group]), joined.width)
    numbers, _ = label(marks > 0)
    here = numbers == numbers[y - rows.start, x - columns.start]
    parts, count = parted(here, marks, min_size)
    return parts, _extent(parts, count, rows.start, columns.start, joined.width)


def number(joined: Joined, parts: dict[int, dict]) -> Joined:
    """Fills in which cell each component is: cells are numbered by their first pixel in reading order.

    parts: of each clump what `parts_of` says of its parts.
    """
    single = joined.kept.copy()
    single[joined.clumps] = False
    single = np.flatnonzero(single)
    clumps = sorted(parts)
    begins = np.concatenate([joined.first[single], *[parts[group]["first"] for group in clumps]])
    extents = np.concatenate([joined.boxes[single], *[parts[group]["boxes"] for group in clumps]])
    order = np.argsort(begins)
    joined.begins, joined.extents = begins[order], extents[order]
    numbers = np.empty(len(begins), np.int32)
    numbers[order] = 1 + np.arange(len(begins))
    joined.cell = np.zeros(len(joined.kept), np.int32)
    joined.cell[single] = numbers[: len(single)]
    ends = len(single) + np.cumsum([0, *[len(parts[group]["first"]) for group in clumps]])
    joined.parts = {group: numbers[ends[i] : ends[i + 1]] for i, group in enumerate(clumps)}
    return joined
