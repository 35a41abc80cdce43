"""Exercise of lesson 8: does the tissue fold?

A tile reads the section at t + u(t). Near a pixel this is a linear map, the derivative

    J = I + [[du_y/dy, du_y/dx],
             [du_x/dy, du_x/dx]]

and det J says how much area of the section one pixel of the tile shows: 1 as before, 2 squeezed to half, 0 or less:
folded. Check yourself with: pytest lessons/exercises -k 08
"""

import numpy as np


def area(field):
    """det J at every pixel of a displacement field (2, H, W), y component first: (H, W). Derivatives by np.gradient."""
    raise NotImplementedError("write area: four derivatives and a determinant of two rows")


def folded(field):
    """The share of the pixels at which the tile is folded: a float between 0 and 1."""
    raise NotImplementedError("write folded: where is det J zero or less?")
