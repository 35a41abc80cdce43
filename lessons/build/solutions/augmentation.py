"""Solution: the shares of three grid points in each pixel as a matrix B; the field is B D B^T."""

import numpy as np


def displacement_field(vectors, size):
    t = np.linspace(0, 2, size)
    basis = np.empty((size, 3))
    for point, values in enumerate(np.eye(3)):
        a, b, c = values
        bend = (a - 2 * b + c) / 4
        s, u = t, 2 - t
        left = a * (1 - s) + b * s + bend * (s**3 - s)
        right = c * (1 - u) + b * u + bend * (u**3 - u)
        basis[:, point] = np.where(t <= 1, left, right)
    return basis @ vectors @ basis.T
