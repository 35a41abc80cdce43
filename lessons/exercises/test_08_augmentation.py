"""Check of exercise 8, run as: pytest lessons/exercises -k 08"""

import numpy as np
from exercise import check_of

from npunet.augmentation import displacement_field

READ = 'lesson 8, "Nine vectors"'
MAPS = {
    "the identity": [[1, 0], [0, 1]],
    "three times as high": [[3, 0], [0, 1]],
    "squeezed and stretched": [[2, 0], [0, 0.5]],
    "sheared": [[1, 0.7], [0, 1]],
    "turned": [[0.6, -0.8], [0.8, 0.6]],
    "sheared and stretched": [[3, 1], [2, 2]],
    "mirrored": [[-1, 0], [0, 1]],
}


def affine(matrix, shape=(7, 9)):
    """The displacement field (2, H, W) of the map t -> matrix t."""
    t = np.indices(shape).astype(float)
    return np.tensordot(np.asarray(matrix, float), t, 1) - t


def slopes(field):
    """Derivatives by central differences, one-sided at the border: [component][axis] (H, W)."""
    found = np.zeros((2, 2, *field.shape[1:]))
    for component, axis in np.ndindex(2, 2):
        f = field[component].swapaxes(0, axis)
        d = np.zeros(f.shape)
        for i in range(len(f)):
            low, high = max(i - 1, 0), min(i + 1, len(f) - 1)
            d[i] = (f[high] - f[low]) / (high - low)
        found[component, axis] = d.swapaxes(0, axis)
    return found


def fold():
    """Rows 0 1 2 3 4 5 are read at 0 2 4 3 2 4: by central differences one row of six is folded."""
    field = np.zeros((2, 6, 3))
    field[0] = (np.array([0, 2, 4, 3, 2, 4]) - np.arange(6))[:, None]
    return field


def fields():
    found = {name: affine(matrix) for name, matrix in MAPS.items()} | {"a fold": fold()}
    return found | {"random vectors": displacement_field(20 * np.random.default_rng(8).standard_normal((2, 3, 3)), 40)}


def test_area():
    check = check_of("08_augmentation", "area", READ)
    for case, field in fields().items():
        (yy, yx), (xy, xx) = slopes(field)
        mistakes = {
            "the 1 of the identity is missing: J = I + derivatives": yy * xx - yx * xy,
            "the product of the derivatives across is missing: a d - b c": (1 + yy) * (1 + xx),
            "a d + b c; a determinant is a d - b c": (1 + yy) * (1 + xx) + yx * xy,
            "b c - a d: the sign": yx * xy - (1 + yy) * (1 + xx),
            "the trace: first order only, the products are missing": 1 + yy + xx,
            "the absolute value: a fold is where it is negative": np.abs((1 + yy) * (1 + xx) - yx * xy),
            "1 is added to all four derivatives; the identity has it on its diagonal": (1 + yy) * (1 + xx)
            - (1 + yx) * (1 + xy),
            "the identity stands on the wrong diagonal": yy * xx - (1 + yx) * (1 + xy),
            "du_y/dx is used twice: one of the two is du_x/dy": (1 + yy) * (1 + xx) - yx * yx,
            "du_x/dy is used twice: one of the two is du_y/dx": (1 + yy) * (1 + xx) - xy * xy,
        }
        arguments, expected = {"field": field}, (1 + yy) * (1 + xx) - yx * xy
        check(case, arguments, expected, mistakes, outputs=("det J",), axes=("row", "column"), rtol=1e-9)
    check.verdict()


def test_folded():
    check = check_of("08_augmentation", "folded", READ)
    flat = np.zeros((2, 4, 4))
    flat[0] = -np.arange(4.0)[:, None]  # every row is read at row 0: det J is exactly 0
    for case, field in (fields() | {"squeezed to nothing: det J = 0 counts as folded": flat}).items():
        (yy, yx), (xy, xx) = slopes(field)
        det = (1 + yy) * (1 + xx) - yx * xy
        mistakes = {
            "det J = 0 is folded, too: <=, not <": np.mean(det < 0),
            "the share that is not folded": np.mean(det > 0),
            "a number of pixels; a share is wanted": np.sum(det <= 0),
            "squeezed is not folded: 0 is the limit, not 1": np.mean(det <= 1),
            "squeezed is not folded: 0 is the limit, not 1 ": np.mean(det < 1),
            "one fold is enough for 1; the share of the pixels is wanted": float(np.any(det <= 0)),
            "a percentage; a share between 0 and 1 is wanted": 100 * np.mean(det <= 0),
        }
        check(case, {"field": field}, np.mean(det <= 0), mistakes, outputs=("the share",))
    check.verdict()
    share = check.call("the type", {"field": fold()})
    if not isinstance(share, float):
        check.fail(f"folded returns {type(share).__name__}", "a float is wanted: float(...)")
