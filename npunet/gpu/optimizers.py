"""A step of an optimiser on a GPU: norm, clipping and update without asking the host anything (optimizers.cu).

The formulas are in npunet/optimizers.py.
"""

from npunet.gpu.cuda import CudaFile
from npunet.machine.backend import array_module

KERNELS = CudaFile("optimizers")
NORM_BLOCKS, NORM_ELEMENTS = 132, 1 << 12  # a sum of squares: the most blocks, and the elements of each


def update(gradients, optimizer, energy, clip):
    """As npunet.optimizers.update, but nothing here waits for the GPU: energy (0-d) and the report stay there.

    So does optimizer.scale, (1,) float64: the factor for all gradients, see optimizers.cu.
    """
    xp = array_module(gradients[0])
    gradients = [xp.ascontiguousarray(gradient) for gradient in gradients]
    report = None
    if energy is not None:
        if isinstance(optimizer.scale, float):
            optimizer.scale = xp.full((1,), optimizer.scale, dtype="float64")
        scale = optimizer.scale
        report = _norm_and_scale(gradients, energy, scale, clip)
    else:
        scale = xp.ones((1,), dtype="float64")
    for (name, parameter), gradient in zip(optimizer.parameters.items(), gradients):
        if not parameter.value.flags.c_contiguous:  # weights from another program's file
            parameter.value = xp.ascontiguousarray(parameter.value)
        kernel, slots, numbers = optimizer.kernel(*(optimizer.arrays[slot][name] for slot in optimizer.slots))
        KERNELS.launch(
            kernel,
            gradient.size,
            parameter.value,
            gradient,
            *slots,
            scale,
            gradient.size,
            optimizer.learning_rate,
            *map(float, numbers),
            float(optimizer.weight_decay),
        )
    return report


def _norm_and_scale(gradients, energy, scale, clip):
    """(2,) float64, energy and norm of the gradient; scale becomes 1, or less where the norm is above clip, or 0."""
    xp = array_module(energy)
    blocks = [min(NORM_BLOCKS, -(-gradient.size // NORM_ELEMENTS)) for gradient in gradients]
    partial, report = xp.empty((sum(blocks),), dtype="float64"), xp.empty((2,), dtype="float64")
    for number, gradient in enumerate(gradients):
        first = sum(blocks[:number])
        KERNELS.launch("sum_of_squares", 0, gradient, partial, gradient.size, first, grid=(blocks[number],))
    KERNELS.launch("gradient_scale", 1, partial, energy, report, scale, partial.size, float(clip), dtype=energy.dtype)
    return report
