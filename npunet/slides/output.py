"""What is written for a slide: pyramids in OME-Zarr or in tiled TIFF, filled by all processes at once.

    NAME.zarr              the mask, as `npunet.predict` writes its values; labels/cells in it the numbers of cells
    NAME_probability.zarr  probabilities, a channel for each class that is shown

or NAME.tif, NAME_cells.tif and NAME_probability.tif. All lie in the folder of the run until it has ended.
"""

import os
import shutil
from pathlib import Path

import numpy as np

from npunet.commands.inputs import CELLS, OVERLAY, PROBABILITY
from npunet.files.calibration import Calibration
from npunet.files.ome_zarr_writing import ZarrPyramid, name_labels
from npunet.files.tiled_tiff import TiffPyramid
from npunet.machine import ranks
from npunet.slides.work import Work

CELLS_LABEL = "cells"  # the group labels/cells


class Output:
    """The files of one slide of so many pages. name: without suffix; version: of OME-Zarr, None for TIFF; side: of a
    chunk.
    """

    def __init__(self, work: Work, name: str, version: str | None, side: int, calibration: Calibration, pages: int):
        self.work, self.name, self.version, self.side, self.calibration = work, name, version, side, calibration
        self.suffix = ".zarr" if version else ".tif"
        self.table = work.path / f"{name}{CELLS}.csv"
        self.overview = work.path / f"{name}{OVERLAY}.{'png' if pages == 1 else 'tif'}"

    def mask(self, shape: tuple[int, ...]):
        """(pages, H, W) or, in colours, (pages, H, W, 3), uint8."""
        return self._pyramid(self.name, shape, np.uint8, colours=len(shape) == 4)

    def probabilities(self, shape: tuple[int, ...], dtype: str):
        """(pages, H, W, classes)."""
        return self._pyramid(self.name + PROBABILITY, shape, dtype)

    def cells(self, shape: tuple[int, ...], most: int):
        """(pages, H, W) of numbers up to `most`: 16 bit if they fit, else 32."""
        dtype = np.uint16 if most < 2**16 else np.uint32
        if self.version is None:
            return self._pyramid(self.name + CELLS, shape, dtype)
        if ranks.rank() == 0:
            name_labels(self.work.path / f"{self.name}.zarr", [CELLS_LABEL], self.version)
        return self._pyramid(f"{self.name}.zarr/labels/{CELLS_LABEL}", shape, dtype, label=True)

    def _pyramid(self, name, shape, dtype, colours=False, label=False):
        """Made by rank 0 unless an interrupted run has made it; then opened by all."""
        path = self.work.path / (name if label else name + self.suffix)
        made = self.work.path / f"made-{Path(name).name}-{np.dtype(dtype).name}"
        if ranks.rank() == 0 and not made.exists():
            more = {"calibration": self.calibration, "name": Path(name).name}
            if self.version:
                ZarrPyramid.create(path, shape, dtype, self.side, version=self.version, label=label, **more)
            else:
                TiffPyramid.create(path, shape, dtype, self.side, colours=colours, **more)
            made.touch()
        ranks.barrier()
        return ZarrPyramid(path) if self.version else TiffPyramid(path)

    def publish(self, folder: Path, cells: int | None) -> str:
        """Move the files to where the user wants them, and say in one line what they are. cells: how many were found.

        What has the same name there is replaced.
        """
        names = [f"{self.name}{kind}{self.suffix}" for kind in ("", PROBABILITY, CELLS)]
        names += [self.table.name, self.overview.name]
        written = [name for name in names if (self.work.path / name).exists()]
        ranks.barrier()
        for name in written if ranks.rank() == 0 else []:
            if (folder / name).is_dir():
                shutil.rmtree(folder / name)
            os.replace(self.work.path / name, folder / name)
        where = f"labels/{CELLS_LABEL} of {written[0]}" if self.version else f"{self.name}{CELLS}.tif"
        found = "" if cells is None else f"; {cells:,} cells, numbered in {where}"
        return f"{folder}/: {', '.join(written)}{found}"


class Smaller:
    """One chunk of a smaller level of a pyramid."""

    def __init__(self, index: int, page: int, rows: slice, columns: slice):
        self.index, self.page, self.rows, self.columns = index, page, rows, columns


def add_levels(work: Work, pyramid, pages: int, side: int, name: str) -> None:
    """Fill the levels above 0, each with every second pixel of the one below; all processes share the chunks."""
    for level in range(1, len(pyramid.shapes)):
        height, width = pyramid.shapes[level]
        places = [(page, top, left) for page in range(pages)
                  for top in range(0, height, side) for left in range(0, width, side)]  # fmt: skip
        chunks = [
            Smaller(index, page, slice(top, min(top + side, height)), slice(left, min(left + side, width)))
            for index, (page, top, left) in enumerate(places)
        ]

        def shrink(chunk, level=level):
            below = pyramid.shapes[level - 1]
            rows, columns = (
                slice(2 * part.start, min(2 * part.stop, length))
                for part, length in zip((chunk.rows, chunk.columns), below, strict=True)
            )
            found = pyramid.read(level - 1, chunk.page, rows, columns)[::2, ::2]
            pyramid.write(level, chunk.page, chunk.rows, chunk.columns, found)
            return {}

        work.share(f"level-{name}-{level}", chunks, shrink, f"{name}, level {level}")
