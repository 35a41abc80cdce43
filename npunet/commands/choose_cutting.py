"""How the cells of a network are to be cut, chosen on training images; see `npunet.instances.cutting`.

The numbers must not be chosen by looking at the held-out images, so they are chosen on training images, with the
network's own predictions there:

    threshold, seed_threshold    all pairs of a small grid are tried; the best has the highest SEG if every invented
                                 cell counts as one more cell with IoU 0
    min_size                     half the size that 95 % of the training cells exceed
"""

from collections.abc import Sequence

import numpy as np

from npunet import metrics
from npunet.datasets.dataset import Sample
from npunet.instances.cutting import Cutting

GRIDS = {  # of each head: thresholds of the depth, and seed thresholds beside the threshold itself
    "mask": ((0.3, 0.4, 0.5, 0.6), (0.7, 0.85, 0.95)),
    "border": ((0.2, 0.25, 0.3, 0.35), (0.5, 0.6, 0.7, 0.8)),
    "depth": ((0.1, 0.15, 0.2, 0.25), (0.35, 0.45, 0.55, 0.65)),
}
TUNING_IMAGES = 10  # training images, evenly spread, that are enough to choose on


def tuning_samples(training: Sequence[Sample]) -> list[Sample]:
    """The training images on which a cutting is chosen."""
    return list(training[:: max(1, -(-len(training) // TUNING_IMAGES))])


def choose_cutting(
    samples: Sequence[Sample], probabilities: Sequence[np.ndarray], head: str = "mask"
) -> tuple[Cutting, float]:
    """The `Cutting` that does best on these samples, which should be training ones, and its score there."""
    sizes = np.concatenate([np.bincount(sample.instances.ravel())[1:] for sample in samples])
    sizes = sizes[sizes > 0]
    min_size = max(1, int(np.quantile(sizes, 0.05) / 2)) if sizes.size else 1
    thresholds, seeds = GRIDS[head]
    candidates = [
        Cutting(threshold, seed, min_size, head)
        for threshold in thresholds
        for seed in (threshold, *seeds)
        if seed >= threshold
    ]
    scores = [cutting_score(cutting, samples, probabilities) for cutting in candidates]
    best = int(np.argmax(scores))  # the first of equally good ones
    return candidates[best], scores[best]


def cutting_score(cutting: Cutting, samples: Sequence[Sample], probabilities: Sequence[np.ndarray]) -> float:
    """Sum of the true cells' IoUs / (true cells + invented cells), over all samples."""
    total, cells = 0.0, 0
    for sample, probability in zip(samples, probabilities, strict=True):
        found = cutting.cells(probability, sample.ignore)
        numbers, ious = metrics.cell_ious(found, sample.instances)
        total += ious.sum()
        cells += len(numbers) + metrics.count_errors(found, sample.instances)["invented"]
    return total / max(1, cells)
