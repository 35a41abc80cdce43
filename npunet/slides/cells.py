"""The cells of a slide, by all processes: their numbers at each pixel, and a table (see `npunet.instances.blocks`)."""

from functools import lru_cache
from pathlib import Path

import numpy as np

from npunet.errors import InputError
from npunet.instances import blocks, measurements
from npunet.instances.cutting import Cutting
from npunet.machine import ranks
from npunet.slides.plan import Block
from npunet.slides.work import Work

LARGEST_CLUMP = 2**25  # pixels of its bounding box: 32 bytes each are needed to share it out


class SlideCells:
    """The cells of all pages. shape: (pages, H, W); grid: (rows, columns) of blocks on a page."""

    def __init__(self, work: Work, cutting, plan: list[Block], grid: tuple[int, int], shape: tuple[int, int, int]):
        self.work, self.cutting, self.plan, self.grid, self.shape = work, cutting, plan, grid, shape
        self.seeded = isinstance(cutting, Cutting)
        self.on_page, self.side = grid[0] * grid[1], max(1, plan[0].place[0].stop, plan[0].place[1].stop)
        self._marks = lru_cache(maxsize=8)(lambda index: self.work.load("block", index, "marks")["marks"])

    def summary(self, block: Block, marks: np.ndarray) -> dict:
        """What is kept of a block: its marks, and what other blocks have to know of it."""
        (rows, columns), width = block.place, self.shape[2]
        return {"marks": marks} | blocks.summary(marks, rows.start, columns.start, width, self.seeded)

    def find(self) -> list[blocks.Joined]:
        """The cells of each page, on every rank, when all blocks are summed up."""
        return [self._find_on(page) for page in range(self.shape[0])]

    def _find_on(self, page):
        first, least = page * self.on_page, self.cutting.min_size
        joined = None
        if ranks.rank() == 0:
            summaries = lambda index: self.work.load("block", first + index, *blocks.names(self.seeded))
            joined = blocks.join(summaries, self.grid, self.shape[2], self.seeded, least)
        joined = ranks.from_first(joined)
        owners = self.plan[first : first + self.on_page] if len(joined.clumps) else []

        def clumps_of(block):
            groups = joined.clumps_beginning_in(*block.place).tolist()
            parts = [self._parts(page, joined, group)[1] for group in groups]
            return {
                "groups": np.array(groups, np.int64),
                "counts": np.array([len(one["first"]) for one in parts], np.int64),
                "first": np.concatenate([np.zeros(0, np.int64), *[one["first"] for one in parts]]),
                "boxes": np.concatenate([np.zeros((0, 4), np.int32), *[one["boxes"] for one in parts]]),
            }

        self.work.share(f"clumps-{page}", owners, clumps_of, "touching cells")
        parts = {}
        for block in owners:
            kept = self.work.load(f"clumps-{page}", block.index, "groups", "counts", "first", "boxes")
            ends = np.cumsum(kept["counts"])[:-1]
            each = zip(np.split(kept["first"], ends), np.split(kept["boxes"], ends), strict=True)
            for group, (first, boxes) in zip(
                kept["groups"].tolist(), each, strict=False
            ):  # of no groups one empty part
                parts[group] = {"first": first, "boxes": boxes}
        return blocks.number(joined, parts)

    def write(self, pyramid, found: list[blocks.Joined]) -> None:
        """The numbers of all cells into level 0."""

        def write_block(block):
            joined, index = found[block.page], block.index % self.on_page
            clump = lambda group: self._parts(block.page, joined, group)[0]
            cells = joined.cells(index, self._marks(block.index), *block.place, clump)
            pyramid.write(0, block.page, *block.place, cells)
            return {}

        self.work.share("cells", self.plan, write_block, "numbering cells")

    def measure(self, pyramid, found: list[blocks.Joined], stack, path: Path, pixel_size: float | None) -> None:
        """The table of all cells, in the order of their numbers: each is measured by whoever has its first pixel."""

        def measure_block(block):
            joined, rows = found[block.page], []
            numbers = joined.cells_beginning_in(*block.place)
            boxes = joined.extents[numbers - 1]
            for number, part, box, grey in self._cut_out(pyramid, stack, block, numbers, boxes):
                rows.append(measurements.measure_one(number, part == number, box, grey, pixel_size))
            return {name: np.array([row[name] for row in rows]) for name in (rows[0] if rows else [])}

        self.work.share("table", self.plan, measure_block, "measuring cells")
        if ranks.rank() == 0:
            first = ["image", *["page"] * (len(found) > 1)]
            measurements.write_table(path, self._rows(stack.path.name), first=first)

    def _cut_out(self, pyramid, stack, block, numbers, boxes):
        """(number, its cells, its box, its grey values) of each cell; those near the block are read together."""
        (rows, columns), side, raw = block.place, self.side, stack.raw(block.page)
        near = (boxes[:, 1] <= rows.stop + side) & (boxes[:, 2] >= columns.start - side)
        near &= boxes[:, 3] <= columns.stop + side
        if near.any():
            low, high = boxes[near].min(axis=0), boxes[near].max(axis=0)
            hull = slice(int(low[0]), int(high[1])), slice(int(low[2]), int(high[3]))
            cells, grey = pyramid.read(0, block.page, *hull), np.asarray(raw[hull])
        for number, box, together in zip(numbers.tolist(), map(blocks.slices, boxes), near.tolist(), strict=True):
            if together:
                inside = blocks.shifted(box[0], hull[0]), blocks.shifted(box[1], hull[1])
                yield number, cells[inside], box, grey[inside]
            else:
                yield number, pyramid.read(0, block.page, *box), box, np.asarray(raw[box])

    def _rows(self, name):
        """The rows of the table: of a row of blocks together, since numbers ascend with the rows of the image."""
        for start in range(0, len(self.plan), self.grid[1]):
            waiting = []
            for index in range(start, start + self.grid[1]):
                with np.load(self.work.file("table", index), allow_pickle=False) as kept:
                    columns = {column: kept[column].tolist() for column in kept.files}
                waiting += [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
            page = {"page": start // self.on_page + 1} if self.shape[0] > 1 else {}
            for row in sorted(waiting, key=lambda row: row["cell"]):
                yield {"image": name} | page | row

    def _parts(self, page, joined, group):
        rows, columns = joined.box(group)
        height, width = rows.stop - rows.start, columns.stop - columns.start
        if height * width > LARGEST_CLUMP:
            raise InputError(
                f"a clump of touching cells spans {height:,} x {width:,} pixels, more than can be parted in memory; "
                f"choose a cutting with a higher threshold, or --no-instances"
            )
        return blocks.parts_of(self._marks_in(page, rows, columns), joined, group, self.cutting.min_size)

    def _marks_in(self, page, rows, columns):
        """The marks of a rectangle of one page, from all blocks that it touches."""
        found = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.uint8)
        for down in range(rows.start // self.side, -(-rows.stop // self.side)):
            for across in range(columns.start // self.side, -(-columns.stop // self.side)):
                index = page * self.on_page + down * self.grid[1] + across
                y, x = self.plan[index].place
                there = blocks.meet(y, rows), blocks.meet(x, columns)
                part = self._marks(index)[blocks.shifted(there[0], y), blocks.shifted(there[1], x)]
                found[blocks.shifted(there[0], rows), blocks.shifted(there[1], columns)] = part
        return found
