"""Outlines of cells: the closed polygon along the sides of the pixels around a cell.

The walk keeps the cell on its right hand, from corner to corner. A corner where two pixels of the cell meet only
diagonally is passed by turning right, so the polygon stays on one pixel as 4-connectivity wants it. Holes have no
outline of their own.
"""

import numpy as np

DOWN, LEFT, UP, RIGHT = (1, 0), (0, -1), (-1, 0), (0, 1)
TURN_RIGHT = {RIGHT: DOWN, DOWN: LEFT, LEFT: UP, UP: RIGHT}
TURN_LEFT = {after: before for before, after in TURN_RIGHT.items()}
# pixels (left hand, right hand) ahead of a corner (y, x), which is the upper left one of pixel (y, x)
AHEAD = {RIGHT: ((-1, 0), (0, 0)), DOWN: ((0, 0), (0, -1)), LEFT: ((0, -1), (-1, -1)), UP: ((-1, -1), (-1, 0))}


def outline(mask: np.ndarray) -> np.ndarray:
    """Corners of the polygon around the 4-connected region that holds the first pixel of a (h, w) mask.

    (corners, 2) int64 of y, x, clockwise on the screen; pixel (y, x) is the square from (y, x) to (y + 1, x + 1).
    """
    cell = np.pad(mask, 1).astype(bool).tolist()  # a frame of background: no tests for the border
    y, x = start = tuple(int(v) for v in np.argwhere(np.pad(mask, 1))[0])
    heading, corners = RIGHT, [start]
    while True:
        y, x = y + heading[0], x + heading[1]
        (left_y, left_x), (right_y, right_x) = AHEAD[heading]
        if not cell[y + right_y][x + right_x]:
            heading = TURN_RIGHT[heading]
        elif cell[y + left_y][x + left_x]:
            heading = TURN_LEFT[heading]
        else:
            continue
        if (y, x) == start and heading == RIGHT:
            return np.array(corners) - 1
        corners.append((y, x))


def borders(cells: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixels of a cell that touch, by a side, a pixel of another number."""
    border = np.zeros(cells.shape, bool)
    for axis in (0, 1):
        one, other = [np.moveaxis(cells, axis, 0)[part] for part in (slice(1, None), slice(None, -1))]
        differ = one != other
        view = np.moveaxis(border, axis, 0)
        view[1:] |= differ
        view[:-1] |= differ
    return border & (cells > 0)
