"""The files of cells that `npunet.predict` writes for one picture file: numbers, table, outlines, overlay.

    NAME_cells.tif      the number of the cell at each pixel, 0 for none; 16 bit, or 32 bit for more than 65535 cells.
                        Each page counts from 1
    NAME_cells.csv      a row of measurements for each cell (`npunet.instances.measurements`); grey values are those of
                        the file
    NAME_rois.zip       outlines for ImageJ's ROI Manager
    NAME_overlay.png    the picture with the cells' outlines in colours (.tif for a stack)

The numbers grow on the disk, page by page: in memory are one strip of rows and the largest clump of touching cells.
"""

import contextlib
import csv
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from npunet.commands.inputs import CELLS, OVERLAY, ROIS, stem
from npunet.commands.settled_marks import SettledMarks
from npunet.commands.tiff_on_disk import tiff_on_disk
from npunet.files import imagej_rois, images
from npunet.files.calibration import Calibration
from npunet.files.whole_file import written_whole
from npunet.instances import measurements
from npunet.instances.outlines import borders, outline
from npunet.instances.strips import STRIP_PIXELS, strips

LARGEST_OVERLAY = 3072  # pixels of its longer side; larger pages are drawn smaller, every second or third pixel
TABLE = "cells.csv"  # of all pictures of one call


class CellFinder:
    """Collects the marks of a stack's pages, tile after tile, and numbers its cells. Use it as a context.

    shape    (pages, H, W). folder: where the temporary files lie, beside the results.
    """

    def __init__(self, net, cutting, shape, folder, augment=False, settle=True):
        self.net, self.cutting, self.augment, self.settle = net, cutting, augment, settle
        self.shape, self.folder = tuple(shape), Path(folder)
        self.count, self.settled = 0, None

    def __enter__(self):
        self._temporary = tempfile.TemporaryDirectory(prefix=".npunet-cells-", dir=self.folder)
        place = Path(self._temporary.name)
        self.marks = np.memmap(place / "marks", np.uint8, "w+", shape=self.shape[1:])
        self.cells = np.memmap(place / "cells", np.int32, "w+", shape=self.shape)
        return self

    def __exit__(self, *error):
        del self.marks, self.cells
        self._temporary.cleanup()

    def begin_page(self, image) -> None:
        """image: the page, as `tiling.predict_tiles` takes it."""
        self.settled = SettledMarks(self.net, image, self.cutting, self.augment) if self.settle else None

    def add(self, rows: slice, columns: slice, probabilities: np.ndarray) -> None:
        """The probabilities (h, w, K) of one part of the page."""
        if self.settled:
            self.marks[rows, columns] = self.settled.of(rows, columns, probabilities)
        else:
            self.marks[rows, columns] = self.cutting.marks(probabilities)

    def end_page(self, page: int) -> None:
        """Cut the page into cells."""
        self.count = max(self.count, self.cutting.cut(self.marks, self.cells[page]))


def write_cells(output: Path, path: Path, stack, cells: np.ndarray, calibration: Calibration) -> list[dict]:
    """Write the four files of one picture; returns how many cells each page has, as [{"image", "page", "cells"}].

    cells: (pages, H, W) int32. stack: the picture, an `images.ImageStack`.
    """
    name = stem(path)
    write_numbers(output / f"{name}{CELLS}.tif", cells, calibration)
    counts = write_tables(output / f"{name}{CELLS}.csv", path.name, stack, cells, calibration.pixel_size)
    if max(cells.shape[1:]) <= imagej_rois.LARGEST:
        imagej_rois.write_rois(output / f"{name}{ROIS}.zip", _outlines(cells))
    write_overlay(output / f"{name}{OVERLAY}.{'png' if len(cells) == 1 else 'tif'}", stack, cells, calibration)
    return counts


def write_numbers(path: Path, cells: np.ndarray, calibration: Calibration) -> None:
    """Cell numbers (pages, H, W) as TIFF, 16 bit where they fit, else 32 bit."""
    most = max(int(page[strip].max(initial=0)) for page in cells for strip in strips(page.shape))
    dtype = np.uint16 if most < 2**16 else np.uint32
    with tiff_on_disk(path, cells.shape, dtype, calibration) as stored:
        for page in range(len(cells)):
            for strip in strips(cells.shape[1:]):
                stored[page, strip] = cells[page, strip]


def write_tables(path: Path, name: str, stack, cells: np.ndarray, pixel_size: float | None) -> list[dict]:
    """The table of all pages; returns the number of cells of each page."""
    counts = []

    def rows() -> Iterator[dict]:
        for page, numbers in enumerate(cells):
            before = {"image": name} | ({"page": page + 1} if len(cells) > 1 else {})
            counts.append(before | {"cells": 0})
            for row in measurements.measured(numbers, stack.raw(page), pixel_size):
                counts[-1]["cells"] += 1
                yield before | row

    measurements.write_table(path, rows(), first=["image"] + ["page"] * (len(cells) > 1))
    return counts


def _outlines(cells):
    for page, numbers in enumerate(cells, start=1):
        many = len(cells) > 1
        for number, box in measurements.cell_boxes(numbers):
            corners = outline(np.asarray(numbers[box]) == number) + [box[0].start, box[1].start]
            yield (f"{page:04d}-{number:05d}" if many else f"{number:05d}"), corners, page if many else 0


def write_overlay(path: Path, stack, cells: np.ndarray, calibration: Calibration) -> None:
    """The pages in grey, or their colours, with the outline of each cell in a colour of its own."""
    step = thinning(cells.shape[1:])
    calibration = calibration.enlarged(step)
    pages = (overlay(stack, page, numbers) for page, numbers in enumerate(cells))
    if len(cells) == 1:
        images.write_pages(path, pages, 1, calibration=calibration)
        return
    shape = (len(cells), *(-(-side // step) for side in cells.shape[1:]), 3)
    with tiff_on_disk(path, shape, np.uint8, calibration) as stored:
        for page, picture in enumerate(pages):
            stored[page] = picture


def thinning(shape: tuple[int, int]) -> int:
    """Which pixels of a page the overlay shows: every one, every second, .."""
    return -(-max(shape) // LARGEST_OVERLAY)


def overlay(stack, page: int, numbers: np.ndarray) -> np.ndarray:
    """One page (h, w, 3) uint8, made strip by strip; large ones are thinned out to LARGEST_OVERLAY pixels."""
    step = thinning(numbers.shape)
    height, width = numbers.shape
    numbers = numbers[::step, ::step]  # a view
    picture = np.empty((*numbers.shape, 3), np.uint8)
    brightest = brightness(stack, page)
    for strip in strips(numbers.shape, max(1, STRIP_PIXELS // (step * width))):
        top = strip.start * step
        part = stack.window(page, top, 0, min((strip.stop - strip.start) * step, height - top), width)[::step, ::step]
        grey = part if part.shape[2] == 3 else part[..., :1]
        picture[strip] = np.round(255 * np.clip(grey / brightest, 0, 1))
        above = min(1, strip.start)  # one row more on both sides: a border is seen from its neighbours
        edge = borders(numbers[strip.start - above : strip.stop + 1])[above:][: strip.stop - strip.start]
        picture[strip][edge] = np.round(255 * colours(numbers[strip][edge]))
    return picture


def brightness(stack, page: int) -> float:
    """The value below which 99.8 % of a page lie, by 512 of its rows at most: it is shown white."""
    height, width = stack.shape[1:3]
    rows = [stack.window(page, row, 0, 1, width) for row in range(0, height, 1 + height // 512)]
    return max(float(np.quantile(np.concatenate(rows), 0.998)), 1e-3)


def colours(numbers: np.ndarray) -> np.ndarray:
    """(n,) cell numbers -> (n, 3) bright colours in 0..1, hues a golden angle apart."""
    hue = 6 * (numbers * 0.61803398875 % 1)[:, None]
    return np.clip(np.abs((hue + [0, 4, 2]) % 6 - 3) - 1, 0, 1) * 0.6 + 0.4  # blue is seen on black, too


def join_tables(output: Path, names: list[str]) -> Path:
    """One table of all pictures, from the table of each NAME: their rows in order, with the columns of all."""
    path = output / TABLE
    columns: dict[str, None] = {}
    for name in names:
        with open(output / f"{name}{CELLS}.csv", newline="", encoding="utf-8") as file:
            columns |= dict.fromkeys(next(csv.reader(file)))
    with written_whole(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(columns))
        writer.writeheader()
        for name in names:
            with open(output / f"{name}{CELLS}.csv", newline="", encoding="utf-8") as one:
                writer.writerows(csv.DictReader(one))
    return path


@contextlib.contextmanager
def cell_finder(net, cutting, shape, folder, augment, scale):
    """A `CellFinder`, or None without a cutting. Pages that are seen smaller (scale) come whole, in one part."""
    if cutting is None:
        yield None
    else:
        with CellFinder(net, cutting, shape, folder, augment, settle=scale == 1) as finder:
            yield finder
