"""What a run needs of memory, predicted before it starts: of training, of inference, and the tile that fits.

A training step that will not fit is refused before it starts. If memory still runs out, the error names a tile that
should fit. The predictions are measured on the CPU and estimates on a GPU.
"""

import bisect
from contextlib import contextmanager

from npunet import geometry
from npunet.commands.rows import CONCATS, POOL, UP, UPSAMPLE, rows
from npunet.errors import InputError
from npunet.gpu import convolution as gpu_convolution
from npunet.gpu import sixteen_bits
from npunet.layers import Convolution
from npunet.machine import gpu_check
from npunet.machine.backend import free_memory, memory_in_all
from npunet.ops.conv_algorithms import scratch_bytes
from npunet.unet import UNet

# The pool's memory over the memory in use. Inference: maps of falling size leave more blocks unused; measured at 16 to
# 64 channels, tiles of 188 to 1020: 1.23 to 1.46.
INFERENCE_GAPS = 1.35
GAPS = 1.08  # the same in a training step, measured at 16 and 64 channels
MEMORY_SHARE = 0.8  # of the free memory that --tile auto plans with
BLAS_BUFFERS = 25 * 10**6  # bytes that appear with the first products and threads, measured alike
CUBLAS_BUFFERS = 32 << 20  # bytes that cuBLAS takes for itself on its largest GPUs, by its documentation


def check_training(net, tile, batch):
    """Raises InputError, with a tile and a width that fit, if a training step needs more than is free on the network's
    device.
    """
    free, wanted = free_memory(net.device), needed(net, tile, batch)
    if free is not None and wanted > free:
        raise InputError(
            f"a training step at tile {tile} with {net.config['base_channels']} base channels needs about "
            f"{wanted / 1e9:.1f} GB, "
            f"but {free / 1e9:.1f} GB are free; {advice(net, tile, batch, free)} would fit"
        )


@contextmanager
def out_of_memory(net, tile, batch=None, covering=None):
    """Within, running out of memory raises InputError with what should fit:
    a tile, and for training, where `batch` is given, a width too.

    covering: pixels of the largest image; a tile is never larger than it needs. The prediction was wrong then, or
    others took the memory: so what is named needs a fifth less than either allows.
    """
    try:
        yield
    except Exception as error:
        if not gpu_check.out_of_memory(error):
            raise
        if covering is not None:
            tile = min(tile, geometry.input_size_for(max(1, round(covering)), net.depth, net.options.padding))
        memory = MEMORY_SHARE * min(needed(net, tile, batch), memory_in_all(net.device) or float("inf"))
        training = "" if batch is None else f" with {net.config['base_channels']} base channels"
        raise InputError(
            f"out of memory at tile {tile}{training}; {advice(net, tile, batch, memory)} should fit"
        ) from None


def needed(net, tile, batch=None, device=None):
    """Predicted bytes: of a training step, or without a batch, of one tile in inference.

    `device` is that of the network unless given.
    """
    found = rows(net, tile, device)
    if batch is None:
        return inference_memory(net, found, device)
    return training_memory(net, found, batch, device)


def advice(net, tile, batch, memory):
    """Advice such as "--tile 316 or --base-channels 32": the ways that are predicted to need at most `memory`;
    of widths the half, the quarter and so on.
    """

    in_16_bits = sixteen_bits.in_use(net.dtype, net.device)

    def narrower_fits(width):
        if in_16_bits and width % sixteen_bits.CHANNELS:
            return False
        narrower = UNet(**net.config | {"base_channels": width}, recompute=net.recompute)  # on the CPU, for its sizes
        return needed(narrower, tile, batch, net.device) <= memory

    sizes = range(tile - 2**net.depth, 0, -(2**net.depth))
    ways = [f"--tile {size}" for size in sizes if usable(net, size, batch) and needed(net, size, batch) <= memory][:1]
    if batch is not None:
        halves = [
            net.config["base_channels"] >> halvings for halvings in range(1, net.config["base_channels"].bit_length())
        ]
        ways += [f"--base-channels {width}" for width in filter(narrower_fits, halves)][:1]
    return " or ".join(ways) or "nothing at this width: a smaller network or more memory"


def usable(net, tile, batch):
    """Whether a tile is valid, and for inference large enough that tiles fit together."""
    try:
        return net.output_size(tile) >= (1 if batch is not None else least_output(net))
    except InputError:
        return False


def tile_for_training(net, covering, batch=1):
    """The smallest valid tile whose output covers so many pixels, or the largest with which a training step fits into
    the free memory.
    """
    return _fitting(net, covering, lambda tile: training_memory(net, rows(net, tile), batch), 1)


def tile_for_inference(net, covering):
    """The same for prediction; never so small that tiles do not fit together. A larger tile wastes less on overlap."""
    return _fitting(net, covering, lambda tile: inference_memory(net, rows(net, tile)), least_output(net))


def least_output(net):
    """Pixels that a tile's output needs at least, so that tiles fit together; see `tiling`."""
    grid = 2**net.depth
    return 2 * -(-geometry.padded_context(net.depth) // grid) * grid + grid if net.options.padding else grid


def _fitting(net, covering, needed, smallest):
    """The smallest valid tile whose output is `covering` pixels wide, or the largest with needed(tile) bytes free;
    its output at least `smallest`.
    """
    depth, padding = net.depth, net.options.padding
    at_least = geometry.input_size_for(smallest, depth, padding)
    tiles = range(at_least, max(at_least, geometry.input_size_for(covering, depth, padding)) + 1, 2**depth)
    free = free_memory(net.device)
    if free is None:  # nothing is known: no more than the default
        return min(tiles[-1], max(at_least, geometry.nearest_valid_size(572, depth, padding)))
    return tiles[max(0, bisect.bisect_right(tiles, MEMORY_SHARE * free, key=needed) - 1)]


def inference_memory(net, found, device=None):
    """Predicted peak in bytes of forward(train=False) for one tile:
    measured peaks at 16 to 64 channels, 188 to 2044, are within 15 % of it.

    Beside the parameters the skips that wait and a layer's input and output, at the worst moment; with gaps, and what
    does not depend on the tile, as in `training_memory`. On a GPU it is an estimate: not measured.
    """
    scratch = scratch_memory(net, found, 1, device)
    maps = int(INFERENCE_GAPS * waiting_memory(found, scratch))
    return parameter_memory(net) + maps + working_memory(net, found, 1, device)


def scratch_memory(net, found, batch=1, device=None):
    """{name of a convolution: bytes that it needs for a moment on the CPU}; {} for a GPU, see `gpu_workspace`."""
    if (device or net.device) == "gpu":
        return {}
    return {
        row.name: scratch_bytes(
            (batch, before.side, before.side, before.channels),
            layer.weight.value.shape,
            layer.padding,
            net.dtype.itemsize,
        )
        for before, row in zip(found, found[1:])
        if isinstance(layer := net.layers[row.name], Convolution)
    }


def waiting_memory(found, scratch=None):
    """Bytes of the skips that wait, of a layer's input and output, and of its `scratch_memory` if given, at the worst
    moment of a forward pass that keeps nothing.
    """
    waiting, peak = [], 0  # bytes of the skips on the level above, two above, ...
    for before, row in zip(found, found[1:]):
        if row.operation == POOL:
            waiting.append(before.memory)  # what pooling reads is the skip, so it is counted once
        input_memory = 0 if row.operation == POOL else before.memory
        peak = max(peak, sum(waiting) + input_memory + row.memory + (scratch or {}).get(row.name, 0))
        if row.operation in CONCATS.values():
            waiting.pop()
    return peak


def working_memory(net, found, batch=1, device=None):
    """Bytes beside maps, parameters and scratch, which do not depend on the tile on the CPU: the buffers of BLAS."""
    return gpu_workspace(net, found, batch) if (device or net.device) == "gpu" else BLAS_BUFFERS


def gpu_workspace(net, found, batch):
    """Bytes that the greediest layer takes on a GPU for a moment, and cuBLAS for good. An estimate, read off the code:
    not measured on a GPU.

    Winograd: 36 numbers for each 4x4 tile and channel, before and after the products, at most gpu.WORKSPACE; and the
    kernel's gradient, 36 numbers for each of its 9, from several products. Tensor cores, few channels: copies of a
    kernel.
    """
    itemsize, most = net.dtype.itemsize, 0
    for before, row in zip(found, found[1:]):
        if "conv 3x3" not in row.operation:
            continue
        c, k, side = before.channels, row.channels, max(before.side, row.side)  # dx has the size of the input
        needed = 4 * 9 * itemsize * c * k
        if gpu_convolution.choose((batch, side, side, c), (3, 3, c, k), 1, net.dtype) == "winograd_cuda":
            tiles = batch * (-(-side // 4)) ** 2
            needed = min(
                gpu_convolution.WORKSPACE, 36 * itemsize * tiles * (c + k)
            ) + 36 * itemsize * c * k * gpu_convolution.products(tiles, c, k)
        most = max(most, needed)
    return most + CUBLAS_BUFFERS


def training_memory(net, found, batch=1, device=None):
    """Predicted peak in bytes of a training step:
    measured peaks at 572, one tile, are within 15 % of it (tests, benchmarks/results).

    Beside the parameters there are as many gradients and velocities (momentum), and the newest gradient while the one
    of the step before still exists; the feature maps kept for the backward pass; the gradients that pass through it, at
    the worst moment; gaps between arrays of different sizes; and `working_memory`. `device` is that of the network
    unless given; on a GPU it is an estimate: the maps and gradients are the same, what operations need besides is
    `gpu_workspace`, and nothing of it has been measured there.
    """
    largest = max(parameter.value.nbytes for parameter in net.parameters.values())
    scratch = scratch_memory(net, found, batch, device)
    maps = batch * kept_memory(net, found) + gradient_memory(net, found, batch, scratch)
    return 3 * parameter_memory(net) + largest + int(GAPS * maps) + working_memory(net, found, batch, device)


def kept_memory(net, found):
    """Bytes of every feature map that the backward pass reads again.

    That is all but those of up-convolutions without ReLU, which live on in their concatenation. With recomputation it
    is the first and last map of each pair of convolutions.
    """
    kept = sum(row.memory for row in found if is_kept(row))
    if net.recompute:
        pairs = [[row.memory for row in pair] for pair in convolution_pairs(found).values()]
        # Kept of a pair is its result, which others read; the rest comes and goes again, one pair at a time.
        kept += max(map(sum, pairs)) - sum(sum(memory[:-1]) for memory in pairs)
    return kept


def gradient_memory(net, found, batch=1, scratch=None):
    """Bytes that the backward pass adds at its worst moment, less those of the feature maps it has done with by then;
    with the `scratch_memory` of the layer at work, if given.
    """
    pairs = convolution_pairs(found)
    skips = [before.memory for before, row in zip(found, found[1:]) if row.operation == POOL]  # by level
    worst, released, waiting = 0, 0, []  # waiting: gradients of skips, level 0 first
    for before, row in reversed(list(zip(found, found[1:]))):
        alive = row.memory + (before.memory if before is not found[0] else 0)  # dy and dx
        if "conv" in row.operation and "ReLU" in row.operation or row.operation == UP:
            alive += row.memory  # dy masked by the ReLU, or rearranged
        if row.operation in CONCATS.values():
            alive += skips[len(waiting)]
        pair = pairs.get(row.name.rpartition(".")[0], [row])
        if row in pair and row is not pair[-1]:
            alive += pair[-1].memory  # UNet.backward still holds what it gave to the pair
        worst = max(worst, batch * (alive + sum(waiting) - released) + (scratch or {}).get(row.name, 0))
        if row.operation in CONCATS.values():
            waiting.append(skips[len(waiting)])
        elif row.operation == POOL:
            waiting.pop()
        released += row.memory if is_kept(row) and not net.recompute else 0
    return worst


def is_kept(row):
    return row.operation not in (UP, UPSAMPLE)


def convolution_pairs(found):
    """{place in the network: rows of its two convolutions, with their normalisations}."""
    pairs = {}
    for row in found:
        place, _, name = row.name.rpartition(".")
        if name.startswith(("conv", "norm")):
            pairs.setdefault(place, []).append(row)
    return pairs


def parameter_memory(net):
    return net.n_parameters * net.dtype.itemsize
