"""Checks of weight_map.py."""

import numpy as np

from lessons.build import oracles

PIXELS = ("row", "column")
TWO = np.zeros((5, 9), int)
TWO[1:4, 1:3], TWO[1:4, 6:8] = 1, 2
THREE = np.zeros((9, 10), int)
THREE[0:3, 0:4], THREE[5:9, 1:3], THREE[2:8, 6:9] = 3, 7, 4
INSTANCES = {
    "two cells with a gap of three pixels": TWO,
    "three cells with the numbers 3, 4 and 7": THREE,
    "one cell: there is no second one, the weight is 1": np.where(TWO == 1, 1, 0),
    "no cell: the weight is 1": 0 * TWO,
}


def check_weight_map(check):
    touching = np.zeros((4, 6), int)
    touching[1:3, 1:3], touching[1:3, 3:5] = 1, 2
    examples = {"the example of the form": (np.array([[1, 0, 0, 2]]), 10.0, 5.0)}
    for name, instances in (INSTANCES | {"two cells that touch": touching}).items():
        examples[name] = instances, 10.0, 5.0
    examples["w0 = 4, sigma = 1.5"] = THREE, 4.0, 1.5
    for name, (instances, w0, sigma) in examples.items():
        check(
            name,
            {"instances": instances, "w0": w0, "sigma": sigma},
            oracles.weight_map(instances, w0, sigma),
            map_mistakes(instances, w0, sigma),
            outputs=("weights",),
            axes=PIXELS,
        )
    big = np.zeros((96, 96), int)
    for number, (row, column) in enumerate(np.ndindex(4, 4), start=1):
        big[24 * row + 2 : 24 * row + 22, 24 * column + 2 : 24 * column + 22] = number
    how = (
        "Loop over the pixels of the cells, or over the cells, and treat all background pixels at once; keep only the "
        "smallest and the second smallest distance"
    )
    check.fast("96 x 96 pixels, 16 cells", {"instances": big, "w0": 10.0, "sigma": 5.0}, 1.5, how)


def map_mistakes(instances, w0, sigma):
    d1, d2 = oracles.distances(instances)
    m1, m2 = oracles.distances(instances, power=1)
    background = instances == 0

    def term(exponent):
        with np.errstate(all="ignore"):
            return background * w0 * np.exp(exponent)

    with np.errstate(all="ignore"):
        total = d1 + d2
        right = 1 + term(-(total**2) / (2 * sigma**2))
        return {
            "the 2 in 2 sigma^2 is forgotten": 1 + term(-(total**2) / sigma**2),
            "sigma is not squared": 1 + term(-(total**2) / (2 * sigma)),
            "d1 + d2 is not squared": 1 + term(-total / (2 * sigma**2)),
            "the squares are added; the sum is squared: (d1 + d2)^2": 1 + term(-(d1**2 + d2**2) / (2 * sigma**2)),
            "d2 is forgotten: only the nearest cell counts": 1 + term(-(d1**2) / (2 * sigma**2)),
            "d1 is forgotten: only the second nearest cell counts": 1 + term(-(d2**2) / (2 * sigma**2)),
            "twice the distance to the nearest cell; d2 is that to the second nearest": 1
            + term(-((2 * d1) ** 2) / (2 * sigma**2)),
            "d2 - d1, not d1 + d2": 1 + term(-((d2 - d1) ** 2) / (2 * sigma**2)),
            "the minus in the exponent is forgotten": 1 + term((total**2) / (2 * sigma**2)),
            "w0 is forgotten": 1 + term(-(total**2) / (2 * sigma**2)) / w0,
            "w_c = 1 is forgotten: far from two cells the weight is 1": right - 1,
            "the second term is laid on the cells, too; only background pixels get it": 1
            + w0 * np.exp(-(total**2) / (2 * sigma**2)),
            "the second term is laid on the cells; only background pixels get it": 1
            + (instances > 0) * w0 * np.exp(-(total**2) / (2 * sigma**2)),
            "distances along rows and columns, |dy| + |dx|; here they are straight lines, sqrt(dy^2 + dx^2)": 1
            + term(-((m1 + m2) ** 2) / (2 * sigma**2)),
            "distances are the larger of |dy| and |dx|; here they are straight lines, sqrt(dy^2 + dx^2)": 1
            + term(-(sum(oracles.distances(instances, power=0)) ** 2) / (2 * sigma**2)),
            "squared distances are added: the root is missing": 1 + term(-((d1**2 + d2**2) ** 2) / (2 * sigma**2)),
            "distances are one too small: a pixel beside a cell has distance 1": 1
            + term(-((np.maximum(d1 - 1, 0) + np.maximum(d2 - 1, 0)) ** 2) / (2 * sigma**2)),
            "the two cells with the smallest numbers count; it should be the two nearest": by_number(
                instances, w0, sigma
            ),
            "the two nearest pixels of any cell; the nearest pixels of two cells are meant": 1
            + term(-(two_pixels(instances) ** 2) / (2 * sigma**2)) * np.isfinite(d2),
            "d2 is the distance to the farthest cell; the second nearest counts": 1
            + term(-((d1 + farthest(instances)) ** 2) / (2 * sigma**2)) * np.isfinite(d2),
            "distances to the middle of each cell; the nearest pixel of the cell counts": by_middle(
                instances, w0, sigma
            ),
            "one cell is enough for a border here; without a second one d2 is infinite and the weight 1": 1
            + term(-((d1 + np.where(np.isinf(d2), 0, d2)) ** 2) / (2 * sigma**2)) * (np.isfinite(d1)),
        }


def two_pixels(instances):
    """The sum of the distances to the two nearest pixels of cells, whichever cell they are in."""
    points = np.argwhere(instances > 0)
    if len(points) < 2:
        return np.full(instances.shape, np.inf)
    grid = np.stack(np.indices(instances.shape), axis=-1)[..., None, :]
    return np.sort(np.sqrt(((grid - points) ** 2).sum(axis=-1)), axis=-1)[..., :2].sum(axis=-1)


def farthest(instances):
    found = [oracles.distances(np.where(instances == n, n, 0))[0] for n in np.unique(instances) if n]
    return np.max(found, axis=0) if found else np.full(instances.shape, np.inf)


def by_number(instances, w0, sigma):
    numbers = [n for n in np.unique(instances) if n][:2]
    return oracles.weight_map(np.where(np.isin(instances, numbers), instances, 0), w0, sigma) * (instances == 0) + (
        instances > 0
    )


def by_middle(instances, w0, sigma):
    points = np.array([np.argwhere(instances == n).mean(axis=0) for n in np.unique(instances) if n])
    if len(points) < 2:
        return np.ones(instances.shape)
    grid = np.stack(np.indices(instances.shape), axis=-1)[..., None, :]
    d = np.sort(np.sqrt(((grid - points) ** 2).sum(axis=-1)), axis=-1)
    return 1 + (instances == 0) * w0 * np.exp(-((d[..., 0] + d[..., 1]) ** 2) / (2 * sigma**2))
