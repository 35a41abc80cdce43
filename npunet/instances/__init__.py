"""From probabilities to single cells, and their measurements (what §4 needs beyond the soft-max).

cutting = cutting_of(net)              how the cells of this network are cut out
cells = cutting.cells(probabilities)   (H, W) numbers, 0 = background
rows = measure(cells, image)           area, centroid, box, axes, perimeter, solidity, mean grey value
"""

from npunet.instances.cutting import ClassComponents, Cutting, cutting_of
from npunet.instances.measurements import measure, write_table
from npunet.instances.outlines import borders, outline
from npunet.instances.strips import cut_classes, cut_ranks, ranks_of
from npunet.instances.watershed import LEVELS, components, flood, in_reading_order, seeded_watershed

__all__ = [
    "LEVELS",
    "ClassComponents",
    "Cutting",
    "borders",
    "components",
    "cut_classes",
    "cut_ranks",
    "cutting_of",
    "flood",
    "in_reading_order",
    "measure",
    "outline",
    "ranks_of",
    "seeded_watershed",
    "write_table",
]
