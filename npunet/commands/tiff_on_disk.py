"""A TIFF that is filled through a memory map: output that never stands in memory as a whole."""

import math
import shutil
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import tifffile

from npunet.errors import InputError
from npunet.files.calibration import Calibration, tiff_options
from npunet.files.whole_file import written_whole


@contextmanager
def tiff_on_disk(path: Path, shape: tuple[int, ...], dtype, calibration: Calibration = Calibration(), more: int = 1):
    """A memory map of shape (pages, H, W), or (pages, H, W, 3), to be filled, which becomes the TIFF at `path` when
    the block succeeds. calibration and more: see `npunet.files.calibration.tiff_options`.
    """
    needed, free = math.prod(shape) * np.dtype(dtype).itemsize, shutil.disk_usage(path.parent).free
    if needed > free:  # writing to a map on a full disk would kill the process
        raise InputError(
            f"{path} needs {needed / 1e6:,.1f} MB but {free / 1e6:,.1f} MB are free; make room or give another --output"
        )
    with written_whole(path) as temporary:
        pixels = tifffile.memmap(temporary, dtype=dtype, **tiff_options(calibration, shape, dtype, more))
        yield pixels.reshape(shape)  # a view
        pixels.flush()
