"""The overlap-tile strategy (§1, Fig. 2): "the missing context is extrapolated by mirroring the input image".
Lesson 9.

The network reads tile x tile pixels and answers for the middle output x output of them: border = (tile - output)
/ 2 pixels are lost on each side. So the tile that answers for the pixels from (top, left) on is read from (top -
border, left - border) on, which may lie outside of the image. There the image goes on as in a mirror that does
not repeat the edge pixel:

    position   -3 -2 -1   0 1 2 3 4   5 6 7        of a row of five pixels
    pixel       3  2  1   0 1 2 3 4   3 2 1        to and fro, also where the image is smaller than the border

Tiles begin at 0, stride, 2 stride, ...: stride is the largest multiple of `grid` that is not above output,
because the poolings of two tiles agree only if their beginnings differ by a multiple of grid = 2^depth. The last
tiles reach beyond the image; what they answer there is thrown away.
"""

import numpy as np


def overlap_tile(network, image, tile, output, grid):
    """The network's answers for the whole image.

    network   a function: (tile, tile, C) -> (output, output, K), the answers for the middle
    image     (H, W, C)
    Returns (H, W, K). Example: 512 rows, tile 572, output 388, grid 16: border 92, tiles answer from row 0 and from
    row 384 on; the first reads the rows -92 .. 479.
    """
    raise NotImplementedError("write overlap_tile")
