"""Check of exercise 10, run as: pytest lessons/exercises -k 10"""

import numpy as np
from exercise import check_of

READ = 'lesson 10, "Pairs of pixels: the Rand error"'
CELLS = np.repeat([[1, 1, 1, 0, 2, 2, 2]], 3, axis=0)  # two cells of nine pixels: 162 pairs


def regions(*row):
    return np.repeat([row], 3, axis=0)


def sums(regions, truth, alone=True, foreground=True):
    """Pairs together in both, in the regions and in the cells, counted one by one."""
    inside = truth > 0 if foreground else np.ones(truth.shape, bool)
    s, t = regions[inside].astype(int), truth[inside]
    if alone:
        s = np.where(s > 0, s, 10**6 + np.arange(s.size))
    together, cells = s[:, None] == s, t[:, None] == t
    return float((together & cells).sum()), float(together.sum()), float(cells.sum())


def test_split_and_merge():
    check = check_of("10_measures", "split_and_merge", READ)
    rng = np.random.default_rng(3)
    cases = {
        "the truth is perfect": CELLS,
        "a merger leaves the split score alone": regions(7, 7, 7, 0, 7, 7, 7),
        "a split leaves the merge score alone": regions(1, 1, 1, 0, 2, 3, 4),
        "missing pixels are regions of their own": regions(1, 1, 1, 0, 2, 2, 0),
        "regions in the truth's background do not count": regions(1, 1, 1, 3, 2, 2, 2),
        "random regions": rng.integers(0, 4, CELLS.shape),
    }
    for case, proposal in cases.items():
        both, in_regions, in_cells = sums(proposal, CELLS)
        lone = float(((proposal == 0) & (CELLS > 0)).sum())
        n = float((CELLS > 0).sum())
        joined, whole = sums(proposal, CELLS, alone=False), sums(proposal, CELLS, alone=False, foreground=False)
        mistakes = {
            "the two scores are returned in the other order": (both / in_regions, both / in_cells),
            "missing pixels are left out: each is together with itself": (
                (both - lone) / in_cells,
                (both - lone) / max(in_regions - lone, 1),
            ),
            "the numerator is not squared: n pixels make n^2 pairs": (n / in_cells, n / in_regions),
            "missing pixels count in neither numerator": ((both - lone) / in_cells, (both - lone) / in_regions),
            "missing pixels are missing in the truth's sum, too; cells keep all their pixels": (
                both / sum_of_found(proposal),
                both / in_regions,
            ),
            "missing pixels are taken as one region; each is a region of its own": (
                joined[0] / joined[2],
                joined[0] / joined[1],
            ),
            "the truth's background counts, too": (whole[0] / whole[2], whole[0] / whole[1]),
            "the counts are not squared: n pixels make n^2 pairs": (1.0, 1.0),
            "pairs of a pixel with itself are left out": (
                (both - n) / (in_cells - n),
                (both - n) / max(in_regions - n, 1),
            ),
            "errors, 1 - score": (1 - both / in_cells, 1 - both / in_regions),
            "twice the score": (2 * both / in_cells, 2 * both / in_regions),
            "the harmonic mean twice: two scores are wanted": (2 * both / (in_cells + in_regions),) * 2,
        }
        expected = np.float64(both / in_cells), np.float64(both / in_regions)
        arguments = {"regions": proposal, "truth": CELLS}
        check(case, arguments, expected, mistakes, outputs=("V_split", "V_merge"))
    check.verdict()
    split, _ = check.call("the type", {"regions": CELLS, "truth": CELLS})
    if not isinstance(split, float):
        check.fail(f"split_and_merge returns {type(split).__name__}", "floats are wanted: float(...)")


def sum_of_found(proposal):
    found = np.where(proposal > 0, CELLS, 0)
    return max(1.0, float(sum((found == cell).sum() ** 2 for cell in (1, 2))))
