"""Elastic deformation (§3.1): "smooth deformations using random displacement vectors on a coarse 3 by 3 grid";
"Per-pixel displacements are then computed using bicubic interpolation". Lesson 8.

The nine vectors stand on a grid over the tile, its outer points on the middles of the corner pixels: pixel r of
size pixels is at t = 2 r / (size - 1), so the three grid points are at t = 0, 1, 2. Between three numbers a, b, c
at 0, 1, 2 runs the smoothest curve of third degree (the natural cubic spline):

    f(t) = a (1 - t) + b t + bend (t^3 - t)                         for t from 0 to 1,  bend = (a - 2 b + c) / 4
    f(t) = c (1 - s) + b s + bend (s^3 - s)     with s = 2 - t      for t from 1 to 2, from the other end

"Bicubic" is this along both axes: f is linear in a, b, c, so there is a matrix B (size, 3) with the shares of the
three points in each pixel (put 1, 0, 0, then 0, 1, 0, then 0, 0, 1 for a, b, c), and the field is B @ D @ B.T for
D (3, 3). Budget: 0.03 s for 204 x 204 pixels.
"""

import numpy as np


def displacement_field(vectors, size):
    """vectors (2, 3, 3): the y and the x components of the nine vectors, rows and columns of the grid -> (2,
    size, size).

    Example: only the middle vector is not 0, its y component is 4; size = 5. The middle row of the y component is
    0  2.75  4  2.75  0: at t = 1/2 it is 4 * (1/2 + (-2/4) (1/8 - 1/2)) = 4 * 0.6875.
    """
    raise NotImplementedError("write displacement_field")
