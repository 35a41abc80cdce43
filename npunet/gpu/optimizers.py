"""A step of an optimiser on a GPU: norm, clipping and update without asking the host anything (optimizers.cu).

The formulas are in npunet/optimizers.py. All parameters go through one launch for the norm and one for the update.
"""

import numpy as np

from npunet.gpu import cuda
from npunet.gpu.step_numbers import step_numbers
from npunet.machine.backend import array_module
from npunet.machine.bands import ceil_div

KERNELS = cuda.CudaFile("optimizers")
MOST, PIECE = 64, 1 << 14  # parameters of a launch, elements of a block


def struct(most):
    """The struct Tensors of optimizers.cu as a NumPy dtype."""
    return np.dtype(
        [("array", np.uint64, (4, most)), ("size", np.int32, most), ("first_block", np.int32, most + 1)], align=True
    )


def update(gradients, optimizer, energy, clip):
    """As npunet.optimizers.update, but nothing here waits for the GPU: energy (0-d) and the report stay there.

    So does optimizer.scale, (1,) float64: the factor for all gradients, see optimizers.cu.
    """
    xp = array_module(gradients[0])
    gradients = [xp.ascontiguousarray(gradient) for gradient in gradients]
    for parameter in optimizer.parameters.values():
        if not parameter.value.flags.c_contiguous:  # weights from another program's file
            parameter.value = xp.ascontiguousarray(parameter.value)
    values = [parameter.value for parameter in optimizer.parameters.values()]
    groups = tensors([gradients, values, *(optimizer.arrays[slot].values() for slot in optimizer.slots)])
    report, scale = None, None
    if energy is not None:
        if isinstance(optimizer.scale, float):
            optimizer.scale = xp.full((1,), optimizer.scale, dtype="float64")
        scale = optimizer.scale
        report = _norm_and_scale(groups, energy, scale, clip)
    else:
        scale = xp.ones((1,), dtype="float64")
    kernel, constants = optimizer.kernel()
    step = step_numbers(xp, optimizer.step_numbers, len(optimizer.step_numbers()))
    for group in groups:
        numbers = (*map(float, constants), float(optimizer.weight_decay))
        _launch(kernel, group, scale, step, *numbers, dtype=values[0].dtype)
    return report


def tensors(columns):
    """Lists of arrays, the same parameters in each, as arguments for the kernels: one cuda.ByValue for each MOST of
    them, with `blocks`, the number of blocks that it takes.
    """
    rows = list(zip(*columns, strict=True))
    return [_group(rows[first : first + MOST]) for first in range(0, len(rows), MOST)]


def _group(rows):
    sizes = [row[0].size for row in rows]
    ends = np.cumsum([ceil_div(size, PIECE) for size in sizes])
    numbers = np.zeros((), struct(MOST))
    numbers["size"][: len(sizes)] = sizes
    numbers["first_block"][1:] = ends[-1]
    numbers["first_block"][1 : len(ends) + 1] = ends
    places = {("array", column, row): array for row, arrays in enumerate(rows) for column, array in enumerate(arrays)}
    group = cuda.ByValue("Tensors", numbers, places)
    group.blocks = int(ends[-1])
    return group


def _norm_and_scale(groups, energy, scale, clip):
    """(2,) float64, energy and norm of the gradient; scale becomes 1, or less where the norm is above clip, or 0."""
    xp = array_module(energy)
    partial = xp.empty((sum(group.blocks for group in groups),), dtype="float64")
    report, first = xp.empty((2,), dtype="float64"), 0
    for group in groups:
        _launch("sum_of_squares", group, partial, first, dtype=energy.dtype)
        first += group.blocks
    rest = dict(dtype=energy.dtype, MOST=MOST, PIECE=PIECE)
    KERNELS.launch("gradient_scale", 1, partial, energy, report, scale, partial.size, float(clip), **rest)
    return report


def _launch(kernel, group, *arguments, dtype):
    KERNELS.launch(kernel, 0, group, *arguments, dtype=dtype, grid=(group.blocks,), MOST=MOST, PIECE=PIECE)
