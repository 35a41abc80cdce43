"""Writing pyramidal OME-TIFF tile by tile: the file is laid out first, then filled by whoever has a tile.

Tiles are not compressed, so each has its place in the file before anything is known of its content, and processes may
write at the same time as long as no two have the same tile. Bio-Formats (Fiji), QuPath, napari and tifffile read the
levels.
"""

import math
import os
import shutil
from pathlib import Path

import numpy as np
import tifffile

from npunet.errors import InputError
from npunet.files.calibration import LARGEST_IMAGEJ, Calibration
from npunet.files.ome_zarr_writing import level_shapes, page_axes


class TiffPyramid:
    """A tiled TIFF to be filled: pages of (H, W) or (H, W, C), in levels as `ome_zarr_writing.ZarrPyramid` has them.

    C is 3 for a colour picture (colours=True); otherwise each channel is a page of its own in the file.
    """

    def __init__(self, path: Path):
        self.path = path
        with tifffile.TiffFile(path) as tiff:
            series = tiff.series[0]
            self.dtype, self.colours = series.dtype, series.keyframe.samplesperpixel == 3
            self.tile = series.keyframe.tilelength, series.keyframe.tilewidth
            self.shapes, self.offsets = [], []  # of each level; of its pages and their tiles
            for level in series.levels:
                self.shapes.append(level.keyframe.shape[:2])
                self.offsets.append([page.dataoffsets for page in level.pages])
            axes = series.axes
            self.channels = series.shape[axes.index("C")] if "C" in axes else 3 if self.colours else 0
            after = math.prod(series.shape[axes.index("C") + 1 : axes.index("Y")]) if "C" in axes else 1
        self.after = after  # pages of the file between one channel and the next

    @classmethod
    def create(
        cls,
        path: Path,
        shape: tuple[int, ...],
        dtype,
        side: int,
        calibration: Calibration = Calibration(),
        colours: bool = False,
        name: str = "",
    ) -> "TiffPyramid":
        """Lay out the file, which takes its full size on the disk at once. Raises InputError if that is not free."""
        sizes, dtype = level_shapes(*shape[1:3]), np.dtype(dtype)
        tiles = sum(-(-height // side) * -(-width // side) for height, width in sizes)
        needed = shape[0] * math.prod(shape[3:]) * tiles * side**2 * dtype.itemsize
        free = shutil.disk_usage(path.parent).free
        if needed > free:
            raise InputError(
                f"{path.name} needs {needed / 1e6:,.1f} MB but {free / 1e6:,.1f} MB are free; make room or give "
                f"another --output"
            )
        channels = shape[3] if len(shape) == 4 and not colours else None
        axes, counts = page_axes(calibration, shape[0], channels)
        metadata = {"axes": "".join(axis["name"] for axis in axes).upper() + "S" * colours, "Name": name}
        for axis, size in (("X", calibration.x), ("Y", calibration.y), ("Z", calibration.z)):
            metadata |= {f"PhysicalSize{axis}": size, f"PhysicalSize{axis}Unit": "µm"} if size else {}
        metadata |= {"TimeIncrement": calibration.seconds, "TimeIncrementUnit": "s"} if calibration.seconds else {}
        with tifffile.TiffWriter(path, ome=True, bigtiff=needed > LARGEST_IMAGEJ) as tiff:
            for level, size in enumerate(sizes):
                first = {"subifds": len(sizes) - 1, "metadata": metadata} if level == 0 else {"subfiletype": 1}
                tiff.write(
                    shape=(*counts, *size, *[3] * colours),
                    dtype=dtype,
                    tile=(side, side),
                    photometric="rgb" if colours else "minisblack",
                    **{"metadata": None} | first,
                )
        return cls(path)

    def _pages(self, page):
        """The pages of the file that hold the channels of one page."""
        if self.colours or not self.channels:
            return [page]
        before, within = divmod(page, self.after)
        return [(before * self.channels + channel) * self.after + within for channel in range(self.channels)]

    def write(self, level: int, page: int, rows: slice, columns: slice, values: np.ndarray) -> None:
        """values (h, w) or (h, w, C) become one tile, or the part of it that lies in the image."""
        for number, plane in zip(self._pages(page), self._planes(values), strict=True):
            tile = np.zeros((*self.tile, *plane.shape[2:]), self.dtype)
            tile[: plane.shape[0], : plane.shape[1]] = plane
            self._file(os.pwrite, level, number, rows.start, columns.start, tile.astype(self._stored()).tobytes())

    def read(self, level: int, page: int, rows: slice, columns: slice) -> np.ndarray:
        """(h, w) or (h, w, C), from all tiles that it touches."""
        planes = [self._read_plane(level, number, rows, columns) for number in self._pages(page)]
        return np.stack(planes, axis=2) if self.channels and not self.colours else planes[0]

    def _read_plane(self, level, number, rows, columns):
        height, width = self.tile
        more = (3,) * self.colours
        found = np.empty((rows.stop - rows.start, columns.stop - columns.start, *more), self.dtype)
        nbytes = math.prod((height, width, *more)) * self.dtype.itemsize
        for top in range(rows.start // height * height, rows.stop, height):
            for left in range(columns.start // width * width, columns.stop, width):
                data = self._file(os.pread, level, number, top, left, nbytes)
                tile = np.frombuffer(data, self._stored()).reshape(height, width, *more)
                y, x = max(rows.start, top), max(columns.start, left)
                part = tile[y - top : rows.stop - top, x - left : columns.stop - left]
                found[y - rows.start : y - rows.start + len(part), x - columns.start :][:, : part.shape[1]] = part
        return found

    def _planes(self, values):
        return [values] if self.colours or not self.channels else np.moveaxis(values, 2, 0)

    def _stored(self):
        return self.dtype.newbyteorder("<")

    def _file(self, move, level, number, top, left, what):
        """pread or pwrite at the place of one tile."""
        across = -(-self.shapes[level][1] // self.tile[1])
        offset = self.offsets[level][number][top // self.tile[0] * across + left // self.tile[1]]
        opened = os.open(self.path, os.O_RDWR)
        try:
            return move(opened, what, offset)
        finally:
            os.close(opened)
