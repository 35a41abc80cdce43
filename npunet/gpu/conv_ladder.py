"""The five rungs of conv_ladder.cu, to launch one by one: for reading, teaching and timing, not for the network."""

from npunet.errors import InputError
from npunet.gpu.cuda import CudaFile
from npunet.machine.backend import Array, array_module
from npunet.machine.bands import ceil_div

KERNELS = CudaFile("conv_ladder")
RUNGS = {  # kernel: pixels and channels of y that a block computes; the first one counts results
    "ladder_one": None,
    "ladder_tile": (16, 16),
    "ladder_registers": (128, 128),
    "ladder_tensor": (64, 64),
    "ladder_overlap": (64, 64),
}


def climb(rung: str, x: Array, weight: Array) -> Array:
    """y (H - 2, W - 2, K) from x (H, W, C) and weight (3, 3, C, K), float32 on a GPU, C order.

    Raises InputError if the last rung does not get channels in multiples of 16 and outputs in multiples of 4.
    """
    height, width, channels = x.shape
    outputs = weight.shape[3]
    if rung == "ladder_overlap" and (channels % 16 or outputs % 4):
        raise InputError(f"{rung}: found {channels} -> {outputs} channels; expected multiples of 16 and 4")
    y = array_module(x).empty((height - 2, width - 2, outputs), dtype="float32")
    part = RUNGS[rung]
    grid = part and (ceil_div(y.size // outputs, part[0]), ceil_div(outputs, part[1]))
    KERNELS.launch(rung, y.size, x, weight, y, height, width, channels, outputs, grid=grid)
    return y
