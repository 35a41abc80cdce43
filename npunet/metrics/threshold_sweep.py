"""Scores of a probability:
cut it at eleven thresholds, score each cut, keep the best one (as the ISBI 2012 challenge does).

One threshold serves all sections: the best mean counts, not the mean of the bests.
"""

from collections.abc import Callable, Sequence

import numpy as np
from scipy import ndimage

from npunet.errors import InputError
from npunet.machine.backend import to_cpu

THRESHOLDS = tuple(step / 10 for step in range(11))  # Python floats: they compare in the precision of the probabilities


Sections = np.ndarray | Sequence[np.ndarray]  # (S, H, W), (H, W), or a list of (H, W)
MEASURES = {}  # every Measure by its name


class Measure:
    """A score of a probability: called as measure(prob, truth) -> (mean over the sections, threshold), Python floats.

    of_cut(interior, truth) is the score of one thresholded section, as in `sweep`. Made by the decorator `measure`.
    """

    def __init__(self, of_cut: Callable[[np.ndarray, np.ndarray], float], larger_is_better: bool) -> None:
        self.of_cut, self.larger_is_better = of_cut, larger_is_better
        self.__name__, self.__doc__, self.__module__ = of_cut.__name__, of_cut.__doc__, of_cut.__module__
        MEASURES[self.__name__] = self

    def __call__(self, prob: Sections, truth: Sections) -> tuple[float, float]:
        scores, threshold = self.per_section(prob, truth)
        return float(scores.mean()), threshold

    def per_section(self, prob: Sections, truth: Sections) -> tuple[np.ndarray, float]:
        """(scores (S,) of each section at the common best threshold, that threshold)."""
        scores = sweep(self.of_cut, prob, truth)  # (11, S)
        mean = scores.mean(axis=1)
        best = int(mean.argmax() if self.larger_is_better else mean.argmin())  # the lowest of equally good thresholds
        return scores[best], THRESHOLDS[best]


def measure(larger_is_better: bool) -> Callable[[Callable], Measure]:
    """Decorator: the score of one thresholded section becomes a `Measure` of probabilities."""
    return lambda of_cut: Measure(of_cut, larger_is_better)


def per_section(name: str | Measure, prob: Sections, truth: Sections) -> tuple[np.ndarray, float]:
    """The scores behind a mean: (scores (S,) of each section at the common best threshold, that threshold).

    name           "v_rand", "v_info", "rand_error", "warping_error" or "pixel_error"; or that measure itself
    prob, truth    as in `sweep`
    """
    return (name if isinstance(name, Measure) else MEASURES[name]).per_section(prob, truth)


def sweep(of_cut: Callable[[np.ndarray, np.ndarray], float], prob: Sections, truth: Sections) -> np.ndarray:
    """of_cut(interior, truth) for every threshold and section: (11, S) float64.

    prob     (S, H, W) or (H, W) or a list of (H, W): probability of cell interior
    truth    the same shape(s). Boolean, 0/1 or 0/255: interior or not, and cells are the 4-connected components.
             Anything else:
             the numbers of the cells, 0 = background
    of_cut   gets interior (H, W) bool, prob > threshold; and truth (H, W) int, cells 1..n
    Raises InputError if the two do not match.
    """
    prob, truth = sections(prob, "probabilities"), sections(truth, "truth")
    if [section.shape for section in prob] != [section.shape for section in truth]:
        raise InputError(
            f"probabilities are {_shapes(prob)}, truth is {_shapes(truth)}; expected the same sections of the same size"
        )
    cells = [cells_of(section) for section in truth]
    scores = np.empty((len(THRESHOLDS), len(prob)))
    for s, section in enumerate(prob):
        if not np.isfinite(section).all() or section.min() < 0 or section.max() > 1:
            raise InputError(
                f"probabilities go from {section.min()} to {section.max()}; expected 0 to 1 (divide 8-bit images by "
                f"255)"
            )
        previous = None
        for t, threshold in enumerate(THRESHOLDS):
            interior = section > threshold
            if previous is None or not np.array_equal(interior, previous):  # a binary "probability" is scored once
                scores[t, s] = of_cut(interior, cells[s])
            else:
                scores[t, s] = scores[t - 1, s]
            previous = interior
    return scores


def sections(stack: Sections, what: str) -> list[np.ndarray]:
    """A list of (H, W) NumPy arrays."""
    stack = [to_cpu(section) for section in stack] if isinstance(stack, (list, tuple)) else to_cpu(stack)
    if not isinstance(stack, list):
        stack = [stack] if stack.ndim == 2 else list(stack)
    if not stack or any(section.ndim != 2 or section.size == 0 for section in stack):
        raise InputError(
            f"{what} are {_shapes(stack)}; expected one or more sections, (S, H, W) or (H, W), without a channel axis"
        )
    return stack


def cells_of(truth: np.ndarray) -> np.ndarray:
    """Numbers of the cells, (H, W) int: truth itself, or the 4-connected components of a mask (bool, 0/1 or 0/255)."""
    if truth.dtype == bool or truth.max() == 1 or (truth.max() == 255 and not np.any((truth > 0) & (truth < 255))):
        return ndimage.label(truth)[0]
    if truth.dtype.kind not in "iu" or truth.min() < 0:
        raise InputError(
            f"truth is {truth.dtype} from {truth.min()} to {truth.max()}; expected a mask or cell numbers 0..n"
        )
    return truth.astype(np.intp)


def _shapes(stack):
    return f"{len(stack)} of shape " + ", ".join(sorted({str(section.shape) for section in stack}))
