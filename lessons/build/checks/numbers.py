"""Checks of measures.py and winograd.py."""

import numpy as np

from lessons.build import oracles

CELLS = np.repeat([[1, 1, 1, 0, 2, 2, 2]], 3, axis=0)  # two cells of nine pixels


def check_v_rand(check):
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 4, (6, 7))
    examples = {
        "the truth itself scores 1": (CELLS, CELLS),
        "both cells in one region (the example of the form)": (np.where(CELLS > 0, 7, 0), CELLS),
        "the second cell in three pieces": (np.repeat([[1, 1, 1, 0, 2, 3, 4]], 3, axis=0), CELLS),
        "a cell that the proposal calls background: each pixel is a region of its own": (
            np.repeat([[1, 1, 1, 0, 0, 0, 0]], 3, axis=0),
            CELLS,
        ),
        "regions in the truth's background do not count": (np.repeat([[1, 1, 1, 3, 2, 2, 2]], 3, axis=0), CELLS),
        "random regions": (rng.integers(0, 4, (6, 7)), truth),
        "numbers as large as 900": (rng.choice([0, 5, 900], (5, 6)), rng.choice([0, 70, 300], (5, 6))),
    }
    for case, (regions, cells) in examples.items():
        check(
            case,
            {"regions": regions, "truth": cells},
            np.float64(oracles.v_rand(regions, cells)),
            rand_mistakes(regions, cells),
            outputs=("V_rand",),
        )
    big = np.arange(256)[:, None] // 32 * 8 + np.arange(256) // 32 + 1
    how = "Never list pairs of pixels: a table of shared pixels (np.add.at, np.bincount or a loop over the numbers)"
    check.fast("256 x 256 pixels", {"regions": big, "truth": big.T.copy()}, 0.5, how)


def rand_mistakes(regions, truth):
    def sums(regions, truth, alone=True, foreground=True):
        """(pairs together in both, in regions, in cells), and pixels."""
        inside = truth > 0 if foreground else np.ones(truth.shape, bool)
        s, t = regions[inside].astype(int), truth[inside].astype(int)
        if alone:
            s = np.where(s > 0, s, 10**6 + np.arange(s.size))
        together, cells = s[:, None] == s, t[:, None] == t
        return (together & cells).sum(), together.sum(), cells.sum(), s.size

    both, in_regions, in_cells, n = sums(regions, truth)
    split, merge = both / in_cells, both / in_regions
    lone = int(((regions == 0) & (truth > 0)).sum())
    background = sums(regions, truth, alone=False)
    everything = sums(regions, truth, alone=False, foreground=False)
    counted = (regions > 0) & (truth > 0)
    ignored = sums(np.where(counted, regions, 0), np.where(counted, truth, 0)) if counted.any() else (0, 1, 1, 0)
    table = {}
    for r, t in zip(regions[truth > 0].ravel(), truth[truth > 0].ravel()):
        table[(r, t)] = table.get((r, t), 0) + 1

    def two(both, in_regions, in_cells, n=0):
        return 2 * both / (in_regions + in_cells)

    with np.errstate(all="ignore"):
        agree = n * n - in_regions - in_cells + 2 * both
        return {
            "background pixels of the truth count, too; only its cells should": two(*everything),
            "pixels that the proposal calls background are taken as one region; each is a region of its own": two(
                *background
            ),
            "pixels that the proposal calls background are left out; each is a region of its own": two(*ignored),
            "background pixels of the truth count, too; only its cells should ": two(
                *sums(regions, truth, foreground=False)
            ),
            "pixels that the proposal calls background are missing from both sums: each is together with itself": two(
                both - lone, in_regions - lone, in_cells
            ),
            "the pairs of the lone pixels are missing in the numerator: each is together with itself": two(
                both - lone, in_regions, in_cells
            ),
            "pairs together in both / pairs together in the truth: only half of the score (splits)": split,
            "pairs together in both / pairs together in the proposal: only half of the score (mergers)": merge,
            "the mean of the two scores; V_rand is their harmonic mean": (split + merge) / 2,
            "the geometric mean of the two scores; V_rand is their harmonic mean": np.sqrt(split * merge),
            "divided by the larger of the two sums; their mean is meant": both / max(in_regions, in_cells, 1),
            "divided by the smaller of the two sums; their mean is meant": both / max(min(in_regions, in_cells), 1),
            "the 2 is forgotten: the denominator is the mean of the two sums": both / (in_regions + in_cells),
            "the error 1 - V_rand, not the score": 1 - two(both, in_regions, in_cells),
            "pairs of a pixel with itself are left out; n pixels make n^2 pairs here": two(
                both - n, in_regions - n, in_cells - n
            )
            if in_regions + in_cells > 2 * n
            else None,
            "the Rand index counts pairs that are apart in both, too; V_rand does not": agree / n**2,
            "pairs in both / pairs in at least one (Jaccard)": both / (in_regions + in_cells - both),
            "the counts are not squared: n pixels make n^2 pairs": two(n, n, n),
            "how many pixels have the same number in both: numbers are only names": np.mean(
                regions[truth > 0] == truth[truth > 0]
            ),
            "the root is too much": np.sqrt(two(both, in_regions, in_cells)),
        }


class Counted:
    """A number that counts how often one of its kind is multiplied with another; constants are free."""

    products = 0

    def __init__(self, value):
        self.value = float(value)

    def __add__(self, other):
        return Counted(self.value + getattr(other, "value", other))

    def __sub__(self, other):
        return Counted(self.value - getattr(other, "value", other))

    def __rsub__(self, other):
        return Counted(other - self.value)

    def __neg__(self):
        return Counted(-self.value)

    def __mul__(self, other):
        Counted.products += isinstance(other, Counted)
        return Counted(self.value * getattr(other, "value", other))

    def __truediv__(self, constant):
        Counted.products += isinstance(constant, Counted)
        return Counted(self.value / getattr(constant, "value", constant))

    __radd__, __rmul__ = __add__, __mul__


def check_f23(check):
    rng = np.random.default_rng(2)
    examples = {
        "the example of the form": ([1.0, 2, 3, 4], [1.0, 0, -1]),
        "g = 1, 0, 0 copies d": ([5.0, 6, 7, 8], [1.0, 0, 0]),
        "random numbers": (rng.standard_normal(4), rng.standard_normal(3)),
    }
    for case, (d, g) in examples.items():
        d, g = np.array(d, float), np.array(g, float)
        Counted.products = 0
        arguments = {"d": [Counted(v) for v in d], "g": [Counted(v) for v in g]}
        found = check.call(case, arguments)
        products = Counted.products
        if not (isinstance(found, (list, tuple, np.ndarray)) and len(found) == 2):
            check.fail(f"f23 returns {type(found).__name__}: {case}", "two numbers were expected: [y0, y1]")
        y = np.array([float(getattr(value, "value", value)) for value in found])
        expected = np.array([d[0] * g[0] + d[1] * g[1] + d[2] * g[2], d[1] * g[0] + d[2] * g[1] + d[3] * g[2]])
        check.keep(case, ["y of f23"], [y], [expected], {s: [r] for s, r in f23_mistakes(d, g).items()})
    check.verdict()
    if products > 4:
        why = "the definition has 6; F(2, 3) has 4: four sums of d times four sums of g, then sums of the products"
        check.fail(f"f23 is right, but needs {products} multiplications; four are allowed", why)


def f23_mistakes(d, g):
    m = np.array(
        [
            (d[0] - d[2]) * g[0],
            (d[1] + d[2]) * (g[0] + g[1] + g[2]) / 2,
            (d[2] - d[1]) * (g[0] - g[1] + g[2]) / 2,
            (d[1] - d[3]) * g[2],
        ]
    )
    right = np.array([m[0] + m[1] + m[2], m[1] - m[2] - m[3]])
    half = (d[1] + d[2]) * (g[0] + g[1] + g[2]), (d[2] - d[1]) * (g[0] - g[1] + g[2])
    other = np.array([m[0], m[1], -m[2], m[3]])
    return {
        "g is read backwards: y0 = d0 g0 + d1 g1 + d2 g2": np.array([d[0:3] @ g[::-1], d[1:4] @ g[::-1]]),
        "y0 and y1 are exchanged": right[::-1],
        "the halves of the two middle products are forgotten": np.array([m[0] + sum(half), half[0] - half[1] - m[3]]),
        "the sign of the third product in y1: y1 = m1 - m2 - m3": np.array([right[0], m[1] + m[2] - m[3]]),
        "the sign of the fourth product in y1: y1 = m1 - m2 - m3": np.array([right[0], m[1] - m[2] + m[3]]),
        "the signs of the last two products in y1": np.array([right[0], m[1] + m[2] + m[3]]),
        "the sign of the third product in y0: y0 = m0 + m1 + m2": np.array([m[0] + m[1] - m[2], right[1]]),
        "the third difference of d is the wrong way round: d2 - d1": np.array(
            [other[0] + other[1] + other[2], other[1] - other[2] - other[3]]
        ),
        "the fourth difference of d is the wrong way round: d1 - d3": np.array([right[0], m[1] - m[2] + m[3]]),
        "the first difference of d is the wrong way round: d0 - d2": np.array([-m[0] + m[1] + m[2], right[1]]),
        "the fourth product is missing in y1": np.array([right[0], m[1] - m[2]]),
        "the first product is missing in y0": np.array([m[1] + m[2], right[1]]),
        "the windows stand two apart: y1 begins at d1": np.array([right[0], d[2] * g[0] + d[3] * g[1]]),
    }
