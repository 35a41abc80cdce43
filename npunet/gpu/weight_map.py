"""The border term of Eq. 2 on a GPU, from the instances of a deformed tile (weight_map.cu; npunet/weight_map.py has the
formula and npunet/augmentation.py says which pixels are one cell).
"""

from npunet.gpu.cuda import CudaFile
from npunet.machine.backend import Array, array_module

KERNELS = CudaFile("weight_map")


def border_weights(instances: Array, position: Array, output: int, reach: int, w0: float, sigma: float) -> Array:
    """1 + the border term for the middle `output` x `output` pixels of a region: (output, output) float32.

    instances  (H, W) int32 of the section: 0 background, 1..n cells
    position   (size, size) int64, size = output + 2 reach: the flat place in the section of each pixel of the region
    reach      how far Eq. 2 is felt, in pixels: weight_map.border_reach(w0, sigma)
    """
    xp = array_module(instances)
    size = output + 2 * reach
    pixels, parent = size * size, xp.empty((size, size), dtype="int32")
    cell = xp.empty((size, size), dtype="int64")
    near_cell, near_square = (xp.empty((2, size, output), dtype=dtype) for dtype in ("int64", "int32"))
    weights = xp.empty((output, output), dtype="float32")

    def launch(kernel, count, *arguments):
        KERNELS.launch(kernel, count, *arguments, dtype="float32")

    launch("each_its_own", pixels, instances, position, parent, pixels)
    launch("join_neighbours", pixels, parent, size)
    launch("name_cells", pixels, instances, position, parent, cell, pixels)
    launch("nearest_in_row", size * output, cell, near_cell, near_square, size, output, reach)
    rest = (size, output, reach, float(w0), float(sigma))
    launch("border_term", output * output, cell, near_cell, near_square, weights, *rest)
    return weights
