"""The weight map (§3, Eq. 2): it forces "the network to learn the small separation borders ... between touching
cells".

    w(x) = w_c + w0 exp(-(d1 + d2)^2 / (2 sigma^2))          w_c = 1 here;   w0 = 10 and sigma = 5 in the paper

d1 is the distance from pixel x to the nearest cell, d2 that to the second nearest, in pixels. The distance to a
cell is the one to the nearest of its pixels, sqrt(dy^2 + dx^2), so a pixel beside a cell has distance 1. Only
background pixels get the second term; pixels of a cell have weight 1. With one cell, or none, there is no d2, and
every weight is 1. Lesson 5 draws it.

Speed: never compare all pixels with all pixels at once (256 x 256 pixels are 4 thousand million pairs: no memory
holds them). Loop over the pixels of a cell, and for each of them treat all background pixels at once, with
np.minimum; only pixels at the edge of a cell can be the nearest. Budget: 1.5 s for 96 x 96 pixels with 16 cells.
"""

import numpy as np


def weight_map(instances, w0=10.0, sigma=5.0):
    """instances (H, W) integers, 0 = background, other numbers are cells (not necessarily 1, 2, 3) -> weights (H,
    W).

    Example: one row, 1 0 0 2. The second pixel has d1 = 1, d2 = 2: weight 1 + 10 exp(-9 / 50) = 9.353. So has the
    third; the first and the last are cells: 1.
    """
    raise NotImplementedError("write weight_map")
