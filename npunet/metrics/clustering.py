"""V_rand and V_info:
is every pair of pixels that belongs to one cell found in one region, and no other pair? (§4, Table 1)

Notation, after Arganda-Carreras et al. 2015 (https://doi.org/10.3389/fnana.2015.00142): among the n pixels that are
foreground in the truth, p_ij is the share of pixels in region i of the proposal and cell j of the truth, s_i = sum_j
p_ij, t_j = sum_i p_ij.

    V_rand = sum_ij p_ij^2 / (1/2 sum_i s_i^2 + 1/2 sum_j t_j^2)   two random pixels: together in both / together in one
    V_info = I(S; T) / (1/2 H(S) + 1/2 H(T))                       I = mutual information, H = entropy

Both are 1 for the truth itself and fall with each split and each merger. Pixels that the proposal calls background
although they are foreground in the truth are regions of one pixel each. Pixels of the truth's background do not count
at all; and as proposals with thick borders would profit, borders are thinned to one pixel first (`thin_borders`).
"""

import numpy as np
from scipy import ndimage, sparse

from npunet.instances.watershed import flood
from npunet.metrics.threshold_sweep import measure


@measure(larger_is_better=True)
def v_rand(interior: np.ndarray, truth: np.ndarray) -> float:
    """Foreground-restricted Rand score after border thinning -> (score, threshold). 1 is perfect.

    ISBI 2012's final ranking. Called as v_rand(prob, truth):

    prob   (S, H, W) probability of cell interior; truth  (S, H, W) mask or cell numbers: see `threshold_sweep.sweep`.
    For each threshold: 4-connected components of prob > threshold, borders thinned, V_rand (above), mean over the
    sections.
    """
    return rand_f_score(thin_borders(interior), truth)


@measure(larger_is_better=True)
def v_info(interior: np.ndarray, truth: np.ndarray) -> float:
    """Foreground-restricted information score after border thinning -> (score, threshold). 1 is perfect.

    Called as v_info(prob, truth), otherwise as `v_rand`.
    """
    return information_f_score(thin_borders(interior), truth)


@measure(larger_is_better=False)
def rand_error(interior: np.ndarray, truth: np.ndarray) -> float:
    """1 - the foreground-restricted Rand score *without* thinning -> (error, threshold). 0 is perfect.

    Table 1's "Rand error". Called as rand_error(prob, truth).

    It is 1 - F, F being the harmonic mean of precision and recall over pairs of pixels (Rand 1971,
    https://doi.org/10.2307/2284239); this F is V_rand. A membrane drawn too thick costs single pixels here and nothing
    in v_rand.
    """
    return 1 - rand_f_score(ndimage.label(interior)[0], truth)


def rand_f_score(regions: np.ndarray, truth: np.ndarray) -> float:
    """V_rand of two (H, W) maps of numbers, 0 = background, without thinning; 1 if the truth has no foreground."""
    table, singles = contingency_table(regions, truth)
    pairs_in_both = np.square(table.data).sum() + singles  # ordered pairs, a pixel with itself among them
    pairs_in_regions = np.square(table.sum(axis=0)).sum() + singles
    pairs_in_cells = np.square(_cell_sizes(table, truth)).sum()
    return float(2 * pairs_in_both / (pairs_in_regions + pairs_in_cells)) if pairs_in_cells else 1.0


def information_f_score(regions: np.ndarray, truth: np.ndarray) -> float:
    """V_info of two (H, W) maps of numbers, 0 = background, without thinning; 1 if the truth has no foreground."""
    table, singles = contingency_table(regions, truth)
    cell_sizes = _cell_sizes(table, truth)
    n = cell_sizes.sum()
    if n == 0:
        return 1.0
    single_share = singles / n * np.log(n)  # singles regions of 1/n each: -sum 1/n log(1/n)
    h_regions = _entropy(table.sum(axis=0) / n) + single_share
    h_cells = _entropy(cell_sizes / n)
    h_both = _entropy(table.data / n) + single_share
    if h_regions + h_cells == 0:  # one region, one cell
        return 1.0
    return float(2 * (h_regions + h_cells - h_both) / (h_regions + h_cells))


def contingency_table(regions: np.ndarray, truth: np.ndarray) -> tuple[sparse.csr_array, int]:
    """How many pixels cell and region share, among the truth's foreground: (table, singles).

    table     sparse (cells + 1, regions + 1) float64, table[j, i] = pixels in cell j and region i; row and column 0 are
              empty
    singles   number of foreground pixels that the proposal calls background (regions == 0)
    """
    counted = (truth > 0) & (regions > 0)
    shape = int(truth.max()) + 1, int(regions.max()) + 1
    pixels = sparse.coo_array((np.ones(np.count_nonzero(counted)), (truth[counted], regions[counted])), shape)
    return pixels.tocsr(), int(np.count_nonzero(truth)) - pixels.nnz  # tocsr adds up equal places


def thin_borders(interior: np.ndarray) -> np.ndarray:
    """Regions of the proposal with borders one pixel wide: interior (H, W) bool -> (H, W) int32, 0 = border.

    A watershed of the flat border area: the 4-connected components of `interior` grow into it at equal speed until
    they meet (`npunet.instances.flood` states the rule for ties).
    """
    return flood(ndimage.label(interior)[0], ~interior, lines=True)


def _cell_sizes(table, truth):
    """Pixels of each cell, singles included, (cells + 1,) with 0 for the background."""
    sizes = np.bincount(truth.ravel(), minlength=table.shape[0]).astype(np.float64)
    sizes[0] = 0
    return sizes


def _entropy(shares):
    """-sum p log p, with 0 log 0 = 0."""
    shares = shares[shares > 0]
    return -(shares * np.log(shares)).sum()
