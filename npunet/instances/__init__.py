"""From probabilities to single cells (what §4 needs beyond the soft-max)."""

from npunet.instances.strips import cut_classes, cut_ranks, ranks_of
from npunet.instances.watershed import LEVELS, components, flood, in_reading_order, seeded_watershed

__all__ = [
    "LEVELS",
    "components",
    "cut_classes",
    "cut_ranks",
    "flood",
    "in_reading_order",
    "ranks_of",
    "seeded_watershed",
]
