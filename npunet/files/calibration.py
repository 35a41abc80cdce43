"""How large a pixel is, and what the pages of a stack are: read from TIFF, OME-TIFF and ImageJ files, and written back.

Four ways to say it are read, the first that a file has:

- **OME-TIFF**: PhysicalSizeX, PhysicalSizeY, PhysicalSizeZ and their units, and TimeIncrement, in the XML.
- **ImageJ**: the unit in ImageJ's description, pixels per unit in the TIFF's resolution, spacing and finterval.
- **OME-Zarr**: see `ome_zarr.zarr_calibration`.
- **plain TIFF**: the resolution, in pixels per centimetre or inch. Programs fill these in for printers, 72 or 300 a
  inch, so pixels of more than MOST_MICROMETRES are taken for paper, not for a specimen.

Written is ImageJ's form, which Fiji, napari and tifffile read, where it can hold the numbers: 8- and 16-bit integers,
and 32-bit floats, below 4 GB. Else the resolution is written, in pixels per centimetre. A PNG says how many pixels a
metre has (`png_options`).
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import tifffile

from npunet.errors import InputError
from npunet.files.ome_zarr import is_zarr, zarr_calibration

TIFF = (".tif", ".tiff")
MOST_MICROMETRES = 25.0
IN_MICROMETRES = {"nm": 1e-3, "um": 1.0, "micron": 1.0, "microns": 1.0, "µm": 1.0, "μm": 1.0, "\\u00B5m": 1.0}
IN_MICROMETRES |= {"mm": 1e3, "cm": 1e4, "m": 1e6}
IN_SECONDS = {"s": 1.0, "ms": 1e-3, "min": 60.0, "h": 3600.0}
IMAGEJ_TYPES, IMAGEJ_AXES, LARGEST_IMAGEJ = ("uint8", "uint16", "float32"), "TZC", 2**32 - 2**25


@dataclass(frozen=True)
class Calibration:
    """Sides of a pixel in micrometres, None if unknown, and the axes of the pages, such as "TZ" with (5, 20)."""

    x: float | None = None
    y: float | None = None
    z: float | None = None
    seconds: float | None = None  # between frames
    axes: str = ""
    counts: tuple[int, ...] = ()

    @property
    def pixel_size(self) -> float | None:
        """Side of a square pixel in micrometres; None if it is unknown, or pixels are not square within a hundredth."""
        square = self.x and self.y and abs(self.x - self.y) <= 0.01 * self.x
        return self.x if square else None

    def enlarged(self, step: int) -> "Calibration":
        """That of a page of which every step-th pixel is kept, along rows and columns."""
        return replace(self, x=self.x and step * self.x, y=self.y and step * self.y)


def read_calibration(path: str | Path) -> Calibration:
    """What a TIFF or OME-Zarr says about its pixels; all None for other formats, and where nothing is said."""
    if is_zarr(Path(path)):
        return Calibration(**zarr_calibration(Path(path)))
    if Path(path).suffix.lower() not in TIFF:
        return Calibration()
    try:
        with tifffile.TiffFile(path) as tiff:
            pages = _page_axes(tiff)
            if tiff.is_ome:
                return Calibration(**_of_ome(tiff), **pages)
            return Calibration(**(_of_imagej(tiff) if tiff.is_imagej else _of_resolution(tiff)), **pages)
    except (tifffile.TiffFileError, ElementTree.ParseError, KeyError, TypeError, ValueError, OSError):
        return Calibration()  # the reader of pixels says what is wrong with the file


def _page_axes(tiff):
    series = tiff.series[0]
    kept = [(name, count) for name, count in zip(series.axes, series.shape, strict=True) if name in IMAGEJ_AXES]
    if "C" in series.axes and series.shape[series.axes.index("C")] <= 4:  # channels, as `images` reads them
        kept = [(name, count) for name, count in kept if name != "C"]
    return {"axes": "".join(name for name, _ in kept), "counts": tuple(count for _, count in kept)}


def _of_ome(tiff):
    pixels = next(e for e in ElementTree.fromstring(tiff.ome_metadata).iter() if e.tag.endswith("}Pixels"))

    def length(name, units, unit_of_none):
        value = pixels.get(name)
        factor = units.get(pixels.get(f"{name}Unit", unit_of_none))
        return float(value) * factor if value and factor else None

    sizes = {side: length(f"PhysicalSize{side.upper()}", IN_MICROMETRES, "µm") for side in "xyz"}
    return sizes | {"seconds": length("TimeIncrement", IN_SECONDS, "s")}


def _of_imagej(tiff):
    said = tiff.imagej_metadata or {}
    factor = IN_MICROMETRES.get(str(said.get("unit", "")).strip())
    if factor is None:
        return {"seconds": said.get("finterval")}
    across, down = (_pixels_per_unit(tiff, name) for name in ("XResolution", "YResolution"))
    return {
        "x": factor / across if across else None,
        "y": factor / down if down else None,
        "z": factor * said["spacing"] if said.get("spacing") else None,
        "seconds": said.get("finterval"),
    }


def _of_resolution(tiff):
    tags = tiff.pages[0].tags
    unit = {2: 25400.0, 3: 10000.0}.get(int(tags["ResolutionUnit"].value) if "ResolutionUnit" in tags else 1)
    across, down = (_pixels_per_unit(tiff, name) for name in ("XResolution", "YResolution"))
    if not (unit and across and down) or max(unit / across, unit / down) > MOST_MICROMETRES:
        return {}
    return {"x": unit / across, "y": unit / down}


def _pixels_per_unit(tiff, name):
    tag = tiff.pages[0].tags.get(name)
    if tag is None or not tag.value[0] or not tag.value[1]:
        return None
    return tag.value[0] / tag.value[1]


def tiff_options(calibration: Calibration, shape: tuple[int, ...], dtype: np.dtype, more: int = 1) -> dict:
    """Arguments for tifffile, "shape" among them, that write pages of `shape` with this calibration.

    shape: (pages, H, W) or (pages, H, W, 3). more: pages that were written for each page of the input, such as one a
    class. Without anything known a plain TIFF is described, as tifffile writes it with metadata=None.
    """
    dtype = np.dtype(dtype)
    nbytes = math.prod(shape) * dtype.itemsize
    options = {"photometric": "rgb" if len(shape) == 4 else "minisblack", "bigtiff": nbytes > LARGEST_IMAGEJ}
    stored = shape if shape[0] > 1 else shape[1:]  # one page is (H, W) to its readers
    known = calibration.x and calibration.y
    axes, counts = calibration.axes + "C" * (more > 1), calibration.counts + (more,) * (more > 1)
    fits = math.prod(counts) == shape[0] and list(axes) == sorted(axes, key=IMAGEJ_AXES.index)
    if dtype.name not in IMAGEJ_TYPES or options["bigtiff"] or not (known or calibration.axes):
        size = {"resolution": (1e4 / calibration.x, 1e4 / calibration.y), "resolutionunit": 3} if known else {}
        return options | {"shape": stored, "metadata": None} | size
    metadata = {}
    if fits and axes:
        stored, metadata["axes"] = counts + shape[1:], axes + "YX" + "S" * (len(shape) == 4)
    if known:
        metadata["unit"] = "um"
        options["resolution"] = (1 / calibration.x, 1 / calibration.y)
    metadata |= {"spacing": calibration.z} if calibration.z else {}
    metadata |= {"finterval": calibration.seconds} if calibration.seconds else {}
    return options | {"shape": stored, "imagej": True, "metadata": metadata}


def png_options(calibration: Calibration) -> dict:
    """Arguments for Pillow that write the pixel size into a PNG (its chunk pHYs, whole pixels per metre)."""
    known = calibration.x and calibration.y
    return {"dpi": (25400 / calibration.x, 25400 / calibration.y)} if known else {}


def checked_pixel_size(value: float) -> float:
    """Raises InputError unless this can be the side of a pixel in micrometres."""
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"--pixel-size is {value}; expected micrometres, a number above 0")
    return value
