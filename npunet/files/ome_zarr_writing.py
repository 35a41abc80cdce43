"""Writing OME-Zarr 0.4 and 0.5: pyramids whose chunks are written one by one, by whoever has them (see `ome_zarr`).

A chunk is a file of its own, so processes may write at the same time as long as no two have the same chunk.
"""

import math
from pathlib import Path

import numpy as np

from npunet.files.calibration import Calibration
from npunet.files.ome_zarr import SMALLEST, VERSIONS, library


def level_shapes(height: int, width: int) -> list[tuple[int, int]]:
    """Sizes of the levels of a pyramid, each half of the one before, rounded up."""
    shapes = [(height, width)]
    while max(shapes[-1]) > SMALLEST:
        shapes.append((-(-shapes[-1][0] // 2), -(-shapes[-1][1] // 2)))
    return shapes


class ZarrPyramid:
    """An OME-Zarr image to be filled: pages of (H, W) or (H, W, C), each level in chunks of side x side pixels.

    path       its group
    """

    def __init__(self, path: Path):
        self.path = path
        self.group = library().open_group(str(path), mode="r+")
        self.notes = dict(self.group.attrs["npunet"])
        self.arrays = [self.group[str(level)] for level in range(self.notes["levels"])]
        self.shapes = [tuple(array.shape[-2:]) for array in self.arrays]

    @classmethod
    def create(
        cls,
        path: Path,
        shape: tuple[int, ...],
        dtype,
        side: int,
        calibration: Calibration = Calibration(),
        version: str = "0.5",
        label: bool = False,
        name: str = "",
    ) -> "ZarrPyramid":
        """Make the groups and the empty arrays. shape: (pages, H, W) or (pages, H, W, C); label: numbers of cells."""
        zarr, sizes = library(), level_shapes(*shape[1:3])
        channels = shape[3] if len(shape) == 4 else None
        axes, counts = page_axes(calibration, shape[0], channels)
        group = zarr.open_group(str(path), mode="w", zarr_format=VERSIONS[version])
        names = [axis["name"] for axis in axes]
        for level, size in enumerate(sizes):
            more = {"dimension_names": names} if version == "0.5" else {}
            group.create_array(
                str(level),
                shape=(*counts, *size),
                chunks=(*[1] * len(counts), *(min(side, length) for length in size)),
                dtype=np.dtype(dtype),
                fill_value=0,
                chunk_key_encoding={"name": "default" if version == "0.5" else "v2", "separator": "/"},
                **more,
            )
        said = {"multiscales": [multiscales(axes, len(sizes), calibration, version, name)]}
        if label:
            said["image-label"] = {"version": version, "source": {"image": "../../"}}
        told = {"ome": {"version": version} | said} if version == "0.5" else said
        group.attrs.update(told | {"npunet": {"levels": len(sizes), "axes": names, "counts": counts}})
        return cls(path)

    def _place(self, page, rows, columns):
        counts = dict(zip(self.notes["axes"], self.notes["counts"], strict=False))
        pages = {name: count for name, count in counts.items() if name in "tz"}
        where = dict(zip(pages, map(int, np.unravel_index(page, tuple(pages.values()))), strict=True)) if pages else {}
        where |= {"c": slice(None), "y": rows, "x": columns}
        return tuple(where[name] for name in self.notes["axes"])

    def write(self, level: int, page: int, rows: slice, columns: slice, values: np.ndarray) -> None:
        """values (h, w) or (h, w, C) become these rows and columns: whole chunks, or a chunk up to the image's end."""
        if values.ndim == 3:
            values = np.moveaxis(values, 2, 0)
        self.arrays[level][self._place(page, rows, columns)] = values

    def read(self, level: int, page: int, rows: slice, columns: slice) -> np.ndarray:
        """(h, w) or (h, w, C)."""
        found = np.asarray(self.arrays[level][self._place(page, rows, columns)])
        return np.moveaxis(found, 0, 2) if found.ndim == 3 else found


def page_axes(calibration: Calibration, pages: int, channels: int | None) -> tuple[list[dict], list[int]]:
    """The axes of an array in OME-Zarr's order t, c, z, y, x, and the counts of those before y and x."""
    known = dict(zip(calibration.axes.lower(), calibration.counts, strict=True))
    if not (set(known) <= set("tz") and list(known) == sorted(known) and math.prod(known.values()) == pages):
        known = {"z": pages} if pages > 1 else {}
    counts = [(name, known[name]) for name in "t" if name in known]
    counts += [("c", channels)] if channels else []
    counts += [(name, known[name]) for name in "z" if name in known]
    kinds = {"t": "time", "c": "channel"}
    axes = []
    for name in [name for name, _ in counts] + ["y", "x"]:
        axis = {"name": name, "type": kinds.get(name, "space")}
        if name == "t" and calibration.seconds:
            axis["unit"] = "second"
        if name in "zyx" and getattr(calibration, name):
            axis["unit"] = "micrometer"
        axes.append(axis)
    return axes, [count for _, count in counts]


def multiscales(axes: list[dict], levels: int, calibration: Calibration, version: str, name: str) -> dict:
    """The entry that says what the levels are. Level k is every 2^k-th pixel, so the first ones lie at one place."""
    size = {"t": calibration.seconds, "z": calibration.z, "y": calibration.y, "x": calibration.x}
    datasets = []
    for level in range(levels):
        scale = [(size.get(axis["name"]) or 1.0) * (2.0**level if axis["name"] in "yx" else 1) for axis in axes]
        datasets.append({"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": scale}]})
    entry = {"name": name, "axes": axes, "datasets": datasets, "type": "every second pixel"}
    return entry | ({"version": version} if version == "0.4" else {})


def name_labels(path: Path, names: list[str], version: str) -> None:
    """The group `labels` of an image, which says what label images there are."""
    group = library().open_group(str(path / "labels"), mode="a", zarr_format=VERSIONS[version])
    said = {"labels": names}
    group.attrs.update({"ome": {"version": version} | said} if version == "0.5" else said)
