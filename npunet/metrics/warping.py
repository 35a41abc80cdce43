"""The warping error (Table 1): what is wrong beyond moving boundaries. Jain et al. 2010,
https://doi.org/10.1109/CVPR.2010.5539950.

A membrane drawn two pixels to the left is no mistake in the shape of things; a gap in it is. So the truth may be warped
towards the proposal first, pixel by pixel, as long as its topology stays: only simple points may be flipped. What still
differs then,

    warping error = pixels where the warped truth and the proposal differ / all pixels,

are splits, mergers, and cells or holes added or lost. A pixel is simple if flipping it neither joins, parts, creates
nor deletes a component of the interior (4-connected) or of the background (8-connected); its eight neighbours decide
that.

The challenge's ranking counted, of these pixels, only those of splits and mergers; we count all of them, as Jain et al.
do. Beware: whole cells shrink to one pixel, so a cell that is lost costs no more than a small gap. A proposal that has
lost all of them is not a segmentation any more, and its error is set to 1: else the emptiest threshold would often win
the sweep.
"""

import functools

import numpy as np
from scipy import ndimage

from npunet.metrics.threshold_sweep import measure

# bit k of a neighbourhood's code
NEIGHBOURS = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)]


@measure(larger_is_better=False)
def warping_error(interior: np.ndarray, truth: np.ndarray) -> float:
    """-> (error, threshold). 0 is perfect. Called as warping_error(prob, truth), both (S, H, W): see
    `threshold_sweep.sweep`.
    """
    if truth.any() and not interior.any():
        return 1.0
    return float(np.mean(warp(truth > 0, interior) != interior))


warping_error_of_cut = warping_error.of_cut  # interior (H, W) bool, truth (H, W) cells 1..n -> float


def warp(truth: np.ndarray, proposal: np.ndarray) -> np.ndarray:
    """`truth` (H, W) bool, deformed towards `proposal` by flipping simple points until none is left that would
    help.

    The order of flips can matter, so it is fixed. A round looks at the pixels that still differ and whose neighbours
    have changed since the last look, in four steps: (y even, x even), (even, odd), (odd, even), (odd, odd). Pixels of
    one step are no neighbours, so flipping them at once is the same as one by one. Beyond the image all is background.
    """
    height, width = truth.shape
    stride = width + 2
    warped = np.pad(truth, 1).ravel()
    wanted = np.pad(proposal, 1).ravel()
    around = np.array([dy * stride + dx for dy, dx in NEIGHBOURS])
    simple = is_simple_table()
    differing = np.flatnonzero(warped != wanted)
    changed = np.ones(warped.size, bool)
    while True:
        active = differing[changed[differing]]
        if active.size == 0:
            break
        changed[:] = False
        step = active // stride % 2 * 2 + active % stride % 2
        for turn in range(4):
            pixels = active[step == turn]
            # (pixels, 8) -> (pixels,)
            codes = np.packbits(warped[pixels[:, None] + around], axis=1, bitorder="little")[:, 0]
            pixels = pixels[simple[codes]]
            warped[pixels] = ~warped[pixels]
            changed[pixels[:, None] + around] = True
        differing = differing[warped[differing] != wanted[differing]]
    return warped.reshape(height + 2, stride)[1:-1, 1:-1]


@functools.cache
def is_simple_table() -> np.ndarray:
    """(256,) bool: is a pixel with these eight neighbours simple? Bit k of the index is neighbour k of NEIGHBOURS
    being interior.

    Simple means: of the interior neighbours exactly one 4-connected group touches the pixel (by a side), and of the
    background neighbours there is exactly one 8-connected group.
    """
    table = np.zeros(256, bool)
    for code in range(256):
        interior = np.zeros((3, 3), bool)
        for k, (dy, dx) in enumerate(NEIGHBOURS):
            interior[1 + dy, 1 + dx] = code >> k & 1
        background = ~interior
        background[1, 1] = False
        groups = ndimage.label(interior)[0]
        touching = {int(groups[y, x]) for y, x in ((0, 1), (1, 0), (1, 2), (2, 1)) if groups[y, x]}
        table[code] = len(touching) == 1 and ndimage.label(background, np.ones((3, 3)))[1] == 1
    return table
