"""Numbered cells in the layout of the Cell Tracking Challenge, which its own programs score (§4, Table 2).

    01_RES/mask000.tif ..    16 bit; numbers of cells that no other frame uses
    01_RES/res_track.txt     a line for each number: number, first frame, last frame, parent

Nothing is tracked: each cell of each frame is a track of its own, one frame long and without a parent. So SEG and DET
mean something, and TRA does not.
"""

from pathlib import Path

import numpy as np

from npunet.errors import InputError
from npunet.files import images
from npunet.files.whole_file import write_text

SEQUENCE, LARGEST = "01_RES", 2**16 - 1


def write_sequence(output: Path, paths: list[Path]) -> Path:
    """Write all pages of the TIFFs of cell numbers as frames into output/01_RES; returns that folder.

    Raises InputError if there are more cells than the challenge's 16 bits can number.
    """
    folder = Path(output) / SEQUENCE
    frame, used, tracks = 0, 0, []
    for path in paths:
        for cells in images.read_labels(path):
            numbers = used + np.arange(1, cells.max() + 1)
            used += len(numbers)
            if used > LARGEST:
                raise InputError(
                    f"--cell-tracking: {used} cells up to frame {frame}; expected at most {LARGEST}, the challenge's "
                    f"files have 16 bits; predict fewer frames at a time"
                )
            images.write_labels(folder / f"mask{frame:03d}.tif", np.where(cells > 0, cells + used - len(numbers), 0))
            tracks += [f"{number} {frame} {frame} 0" for number in numbers.tolist()]
            frame += 1
    write_text(folder / "res_track.txt", "".join(f"{line}\n" for line in tracks))
    return folder
