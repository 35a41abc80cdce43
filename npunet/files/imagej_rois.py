"""ImageJ's ROI files, by hand: the outline of each cell, in one .zip that Fiji's ROI Manager opens.

A .roi file is big-endian: a header of 64 bytes, the corners' x and y as 16-bit numbers relative to the box, a second
header of 64 bytes, which says where the name stands, and the name. ImageJ's RoiEncoder.java is the description; these
are the fields that are used here:

    0  "Iout"        4  version      6  type, 8 = traced      8  top, left, bottom, right     16  number of corners
    56 page     60 place of the second header   in it: 16  place and length of the name, UTF-16
"""

import struct
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from npunet.errors import InputError
from npunet.files.whole_file import written_whole

VERSION, TRACED, HEADER, HEADER2 = 228, 8, 64, 64
LARGEST = 2**15 - 1  # coordinates are signed 16-bit numbers


def roi_bytes(corners: np.ndarray, name: str, page: int = 0) -> bytes:
    """One outline: corners (n, 2) of y, x, integers -> the bytes of a .roi file.

    page    slice of a stack, from 1; 0 for a single image. Raises InputError for coordinates beyond 32767 or more than
            65535 corners, which the format cannot hold.
    """
    low, high = corners.min(axis=0), corners.max(axis=0)
    if low.min() < 0 or high.max() > LARGEST or len(corners) > 2**16 - 1:
        raise InputError(
            f"outline {name} has {len(corners)} corners and reaches ({high[0]}, {high[1]}); ImageJ's ROI files hold "
            f"coordinates up to {LARGEST}; cut the image into parts"
        )
    after = HEADER + 4 * len(corners)
    header = struct.pack(">4sHBB4hH", b"Iout", VERSION, TRACED, 0, *map(int, (*low, *high)), len(corners))
    header = header.ljust(56, b"\0") + struct.pack(">ii", page, after)
    xy = (corners - low)[:, ::-1].T  # (2, n): all x, then all y
    second = struct.pack(">16x") + struct.pack(">ii", after + HEADER2, len(name))
    return header + xy.astype(">i2").tobytes() + second.ljust(HEADER2, b"\0") + name.encode("utf-16-be")


def write_rois(path: str | Path, outlines: Iterable[tuple[str, np.ndarray, int]]) -> int:
    """Write a .zip of outlines: (name, corners, page) each, as for `roi_bytes`. Returns how many there were."""
    count = 0
    with written_whole(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as file:
        for name, corners, page in outlines:
            entry = zipfile.ZipInfo(f"{name}.roi")  # of 1980, always: the same outlines make the same file
            file.writestr(entry, roi_bytes(corners, name, page))
            count += 1
    return count
