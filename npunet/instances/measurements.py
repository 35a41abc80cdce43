"""A table of cells: area, centroid, box, axes, perimeter, solidity and mean grey value of each (what §4 counts, sized).

A cell is a set of pixels, and a pixel is a square of side 1 around its middle. The first pixel of the image has its
middle at (0, 0).

    area          number of pixels
    y, x          mean of the pixels' middles
    top, left, bottom, right      its rows are top .. bottom - 1, its columns left .. right - 1
    major, minor  axes of the ellipse with the cell's area moments: 4 sqrt(eigenvalue of the covariance of the area)
    perimeter     by Crofton's formula from the crossings of the outline with lines in four directions
    solidity      area / area of the convex hull of the pixels' corners; 1 for a rectangle
    mean_grey     mean of the image over its pixels, one column a channel if there are several

With a pixel size, lengths and areas come again in micrometres, in columns of their own.
"""

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from scipy import ndimage, spatial

from npunet.errors import InputError
from npunet.files.whole_file import written_whole

SHAPE = ("area", "y", "x", "top", "left", "bottom", "right", "major", "minor", "perimeter", "solidity")
LENGTHS = ("y", "x", "major", "minor", "perimeter")  # that have a column in micrometres, beside the area


def measure(cells: np.ndarray, image: np.ndarray | None = None, pixel_size: float | None = None) -> list[dict]:
    """A row of measurements for each cell, in the order of the numbers: a list of dicts, see the top of this file.

    cells        (H, W) cell numbers, 0 = background. Numbers that do not occur have no row.
    image        (H, W) or (H, W, C) of which grey values are averaged; anything whose parts can be read by slices
    pixel_size   side of a pixel in micrometres
    Raises InputError if the shapes do not match, or cells are no whole numbers.
    """
    return list(measured(cells, image, pixel_size))


def measured(cells: np.ndarray, image: np.ndarray | None = None, pixel_size: float | None = None) -> Iterator[dict]:
    """`measure`, cell by cell: in memory is one bounding box at a time, so both arrays may be memory maps."""
    if cells.ndim != 2 or cells.dtype.kind not in "iu":
        raise InputError(f"cells have shape {cells.shape} and type {cells.dtype}; expected (H, W) numbers of cells")
    if image is not None and tuple(image.shape[:2]) != cells.shape:
        raise InputError(f"the image has shape {image.shape}, the cells {cells.shape}; expected the same size")
    for number, box in cell_boxes(cells):
        grey = None if image is None else np.asarray(image[box])
        yield measure_one(number, np.asarray(cells[box]) == number, box, grey, pixel_size)


def measure_one(number: int, mask: np.ndarray, box: tuple, image: np.ndarray | None, pixel_size: float | None) -> dict:
    """The row of one cell: mask (h, w) bool and image (h, w) or (h, w, C) of its box, two slices of the picture."""
    row = {"cell": number} | measure_mask(mask, box[0].start, box[1].start)
    if image is not None:
        row |= _grey(image, mask)
    return row | (in_micrometres(row, pixel_size) if pixel_size else {})


def cell_boxes(cells: np.ndarray) -> Iterator[tuple[int, tuple[slice, slice]]]:
    """(number, box as two slices) of every cell that occurs, in the order of the numbers."""
    signed = cells if cells.dtype in (np.int32, np.int64) else cells.astype(np.int32)  # what find_objects takes
    for number, box in enumerate(ndimage.find_objects(signed), start=1):
        if box is not None:
            yield number, box


def measure_mask(mask: np.ndarray, top: int = 0, left: int = 0) -> dict:
    """Shape of one cell: mask (h, w) bool, whose first pixel is (top, left) of the image -> {name: number}."""
    rows, columns = np.nonzero(mask)
    minor, major = principal_axes(rows, columns)
    inside_rows, inside_columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return {
        "area": len(rows),
        "y": top + rows.mean(),
        "x": left + columns.mean(),
        "top": top + int(inside_rows[0]),
        "left": left + int(inside_columns[0]),
        "bottom": top + int(inside_rows[-1]) + 1,
        "right": left + int(inside_columns[-1]) + 1,
        "major": major,
        "minor": minor,
        "perimeter": perimeter(mask),
        "solidity": len(rows) / hull_area(mask),
    }


def principal_axes(rows: np.ndarray, columns: np.ndarray) -> tuple[float, float]:
    """(minor, major) axes of the ellipse with the same second moments of area as these unit squares.

    An ellipse of semi-axis a has the variance a^2 / 4 along it. A unit square adds 1 / 12 to the variance of middles.
    """
    covariance = np.cov(np.stack([rows, columns]), bias=True) + np.eye(2) / 12
    minor, major = 4 * np.sqrt(np.maximum(np.linalg.eigvalsh(covariance), 0))
    return float(minor), float(major)


def perimeter(mask: np.ndarray) -> float:
    """Length of the outline of (h, w) bool, holes included, by Crofton's formula.

    A curve of length L crosses a random line so often that L = 1/2 of the integral over all directions 0 .. pi and all
    parallel lines of a direction of the number of crossings. Here: four directions, so pi / 4 each; the lines go
    through the pixels' middles, 1 apart along rows and columns and 1 / sqrt(2) apart along the diagonals.
    """
    m = np.pad(mask, 1)
    straight = np.count_nonzero(m[1:] != m[:-1]) + np.count_nonzero(m[:, 1:] != m[:, :-1])
    diagonal = np.count_nonzero(m[1:, 1:] != m[:-1, :-1]) + np.count_nonzero(m[1:, :-1] != m[:-1, 1:])
    return float(np.pi / 8 * (straight + diagonal / np.sqrt(2)))


def hull_area(mask: np.ndarray) -> float:
    """Area of the convex hull of all pixels of (h, w) bool, each a unit square."""
    rows = np.flatnonzero(mask.any(axis=1))
    first = mask[rows].argmax(axis=1)
    last = mask.shape[1] - mask[rows, ::-1].argmax(axis=1)  # right side of the last pixel
    corners = [(y + dy, x) for dy in (0, 1) for side in (first, last) for y, x in zip(rows, side, strict=True)]
    return float(spatial.ConvexHull(np.array(corners)).volume)  # of a plane hull, SciPy calls the area volume


def in_micrometres(row: dict, pixel_size: float) -> dict:
    """The columns of one row that have a unit, in micrometres: {"area_um2", "y_um", ..}."""
    return {"area_um2": row["area"] * pixel_size**2} | {f"{name}_um": row[name] * pixel_size for name in LENGTHS}


def _grey(values, mask):
    if values.ndim == 2 or values.shape[2] == 1:
        return {"mean_grey": float(values.reshape(mask.shape)[mask].mean(dtype=np.float64))}
    means = values[mask].mean(axis=0, dtype=np.float64)
    return {f"mean_grey_{channel}": float(mean) for channel, mean in enumerate(means, start=1)}


def write_table(path: str | Path, rows: Iterable[dict], first: Sequence[str] = (), decimals: int = 4) -> None:
    """Write rows as CSV with a header line; the columns are those of the first row. Fractions get so many decimals.

    first: columns before "cell", which a table without rows has too.
    """
    rows = iter(rows)
    with written_whole(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        row = next(rows, None)
        writer = csv.DictWriter(file, list(row or [*first, "cell", *SHAPE]))
        writer.writeheader()
        while row is not None:
            writer.writerow({name: round(v, decimals) if isinstance(v, float) else v for name, v in row.items()})
            row = next(rows, None)
