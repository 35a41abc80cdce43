"""Solution: the distance to a cell is the smallest one to its pixels; sorted over the cells, the first two count."""

import numpy as np


def edge(cell):
    """Only the outermost pixels of a cell can be the nearest."""
    padded = np.pad(cell, 1)
    inside = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return cell & ~inside


def weight_map(instances, w0=10.0, sigma=5.0):
    weights = np.ones(instances.shape)
    cells = [label for label in np.unique(instances) if label != 0]
    if len(cells) < 2:
        return weights
    rows, columns = np.nonzero(instances == 0)
    nearest, second = np.full(len(rows), np.inf), np.full(len(rows), np.inf)
    for label in cells:
        squared = np.full(len(rows), np.inf)
        for row, column in np.argwhere(edge(instances == label)):
            squared = np.minimum(squared, (rows - row) ** 2 + (columns - column) ** 2)
        distance = np.sqrt(squared)
        second = np.minimum(second, np.maximum(nearest, distance))
        nearest = np.minimum(nearest, distance)
    weights[rows, columns] += w0 * np.exp(-((nearest + second) ** 2) / (2 * sigma**2))
    return weights
