"""OME-Zarr, the community's format for slides in chunks: versions 0.4 (Zarr 2) and 0.5 (Zarr 3), in and out.

An image is a group of arrays, the *levels* of a pyramid: 0 the full size, each further one half as high and wide. What
the axes mean and how large a pixel is stands in the group's metadata (https://ngff.openmicroscopy.org). Time and depth
are pages here, as for a TIFF; channels are channels. The arrays themselves are read and written by zarr
(`pip install "npunet[zarr]"`).
"""

import math
from pathlib import Path

import numpy as np

from npunet.errors import InputError
from npunet.files.chunked import ChunkedPixels

INSTALL = 'install it with pip install "npunet[zarr]"'
UNITS = {"nanometer": 1e-3, "micrometer": 1.0, "millimeter": 1e3, "centimeter": 1e4, "meter": 1e6}  # in micrometres
TIMES = {"millisecond": 1e-3, "second": 1.0, "minute": 60.0, "hour": 3600.0}  # in seconds
MARKS = ("zarr.json", ".zgroup", ".zarray", ".zattrs")  # a folder that holds one of them is Zarr
VERSIONS = {"0.4": 2, "0.5": 3}  # of OME-Zarr -> of Zarr
SMALLEST = 1024  # pixels: levels are added until the longer side is no longer than this


def library():
    """The module zarr, told to use few threads: npunet's ranks share the cores already. Raises InputError."""
    try:
        import zarr
    except ImportError as error:
        raise InputError(f"OME-Zarr needs the package zarr, version 3 ({error}); {INSTALL}") from None
    zarr.config.set({"threading.max_workers": 1, "async.concurrency": 1})
    return zarr


def is_zarr(path: Path) -> bool:
    """Whether a path is a Zarr group on the disk, or says by its name that it should be."""
    return path.is_dir() and (path.suffix.lower() == ".zarr" or any((path / name).exists() for name in MARKS))


def metadata_file(path: Path) -> Path:
    """The file that says what a Zarr group is."""
    return next((path / name for name in MARKS if (path / name).exists()), path)


class ZarrPixels(ChunkedPixels):
    """Level 0 of an OME-Zarr image, (pages, H, W, C). axes: their names in order, such as "tczyx"."""

    def __init__(self, path: Path, array, axes: str):
        sizes = dict(zip(axes, array.shape, strict=True))
        self.path, self.array, self.axes = path, array, axes
        self.page_axes = [name for name in axes if name in "tz"]
        self.counts = [sizes[name] for name in self.page_axes]
        chunk = dict(zip(axes, array.chunks, strict=True))
        shape = (math.prod(self.counts), sizes["y"], sizes["x"], sizes.get("c", 1))
        super().__init__(shape, array.dtype, (chunk["y"], chunk["x"]))
        self.chunk_bytes = math.prod(array.chunks) * self.dtype.itemsize

    def read(self, page, rows, columns):
        place = dict(zip(self.page_axes, np.unravel_index(page, self.counts) if self.counts else (), strict=True))
        place = {name: int(number) for name, number in place.items()} | {"y": rows, "x": columns, "c": slice(None)}
        try:
            found = np.asarray(self.array[tuple(place[name] for name in self.axes)])
        except Exception as error:  # of the codecs and of the disk
            raise InputError(f"{self.path}: a chunk cannot be read ({error or type(error).__name__})") from None
        left = [name for name in self.axes if name in "cyx"]
        found = found if "c" in left else found[..., None]
        return found.transpose([(left + ["c"]).index(name) for name in "yxc"])  # (h, w, C)


def metadata(path: Path) -> tuple[object, dict, str]:
    """(Zarr group, its first multiscales entry, version) of an OME-Zarr image. Raises InputError with one line."""
    zarr = library()
    try:
        group = zarr.open_group(str(path), mode="r")
        said = dict(group.attrs)
    except Exception as error:  # zarr raises many kinds: no group, damaged JSON, another format
        raise InputError(f"{path}: cannot be read as OME-Zarr ({' '.join(str(error).split())})") from None
    said = said.get("ome", said)
    if "plate" in said or "well" in said or "bioformats2raw.layout" in said:
        kind = next(name for name in ("plate", "well", "bioformats2raw.layout") if name in said)
        raise InputError(f"{path}: holds several images ({kind}); give one of them, such as {path}/0")
    try:
        entry = said["multiscales"][0]
        version = str(said.get("version") or entry.get("version"))
        axes = [axis["name"] for axis in entry["axes"]]
        levels = [dataset["path"] for dataset in entry["datasets"]]
    except (KeyError, IndexError, TypeError, AttributeError):
        raise InputError(f"{path}: no image of OME-Zarr 0.4 or 0.5: its multiscales name no axes or levels") from None
    if version not in VERSIONS:
        raise InputError(f"{path}: OME-Zarr of version {version}; expected {' or '.join(VERSIONS)}")
    if axes[-2:] != ["y", "x"] or not set(axes) <= set("tczyx") or len(set(axes)) < len(axes) or not levels:
        raise InputError(f"{path}: axes {''.join(axes)}; expected some of t, c, z before y and x")
    return group, entry, version


def open_zarr(path: Path) -> ZarrPixels:
    """The image at `path`, to be read chunk by chunk. Raises InputError."""
    group, entry, _ = metadata(path)
    name = entry["datasets"][0]["path"]
    try:
        array = group[name]
        return ZarrPixels(path, array, "".join(axis["name"] for axis in entry["axes"]))
    except (KeyError, ValueError, AttributeError):
        raise InputError(f"{path}: level {name!r} is missing, or has other axes than the metadata say") from None


def zarr_version(path: Path) -> str:
    """The version of OME-Zarr at `path`: "0.4" or "0.5"."""
    return metadata(path)[2]


def zarr_calibration(path: Path) -> dict:
    """What the metadata say about the pixels of level 0: arguments of `calibration.Calibration`."""
    _, entry, _ = metadata(path)
    axes = entry["axes"]
    scale = np.ones(len(axes))
    for transforms in (entry["datasets"][0].get("coordinateTransformations"), entry.get("coordinateTransformations")):
        for one in transforms or []:
            if one.get("type") == "scale" and len(one.get("scale", [])) == len(axes):
                scale = scale * np.asarray(one["scale"], float)
    size = {}
    for axis, value in zip(axes, scale.tolist(), strict=True):
        unit = (TIMES if axis["name"] == "t" else UNITS).get(axis.get("unit"))
        if unit and value > 0 and axis["name"] != "c":
            size["seconds" if axis["name"] == "t" else axis["name"]] = unit * value
    pixels = open_zarr(path)
    return size | {"axes": "".join(pixels.page_axes).upper(), "counts": tuple(pixels.counts)}
