"""python -m npunet.summary: the layers of Fig.

1 with sizes, parameters, multiply-adds and memory, read off the live network.

Multiply-adds of a k x k convolution: k^2 C_in C_out for each output pixel; of a 2x2 up-convolution C_in C_out. Memory
is that of the feature maps for one tile; the predictions at the end add what the layers keep for the backward pass.
"""

import argparse
import bisect
from dataclasses import dataclass

from npunet import geometry, layers
from npunet.commands import cli
from npunet.gpu import convolution as gpu_convolution
from npunet.machine import threads
from npunet.machine.backend import free_memory
from npunet.ops.conv_algorithms.winograd import block_size
from npunet.unet import VARIANTS, UNet

MB = 1e6
INFERENCE_GAPS = (
    1.7  # the same in inference, where maps of falling size leave more blocks unused, measured at 4 to 64 channels
)
GAPS = 1.06  # of the pool's memory in a training step to what is in use, measured at 16 and 64 channels
MEMORY_SHARE = 0.8  # of the free memory that --tile auto plans with
BLAS_BUFFERS = 25 * 10**6  # bytes that appear with the first products and threads, measured alike
CUBLAS_BUFFERS = 32 << 20  # bytes that cuBLAS takes for itself on its largest GPUs, by its documentation
POOL, UP, UPSAMPLE = "max-pool 2x2", "up-conv 2x2", "upsample 2x2"
CONCATS = {layers.CropConcat: "crop, concatenate", layers.PadConcat: "pad, concatenate"}
IN_PLACE = {layers.BatchNorm: "batch norm, ReLU", layers.Tanh: "tanh"}  # neither size nor channels change


@dataclass(frozen=True)
class Row:
    """A feature map, as Fig. 1 draws it, and the layer that makes it. side in pixels; memory in bytes."""

    name: str  # of the layer, as in UNet.layers; "input" for the tile itself
    operation: str
    side: int
    channels: int
    parameters: int
    multiply_adds: int
    memory: int


def rows(net, tile=572):
    """One `Row` for the input and for every layer, in order of use; no arithmetic on feature maps is done.

    Raises InputError for an invalid tile, with the nearest valid ones.
    """
    net.output_size(tile)
    itemsize, side, channels = net.dtype.itemsize, tile, net.in_channels
    found = [Row("input", "input tile", side, channels, 0, 0, side * side * channels * itemsize)]
    skips = []  # (side, channels) of the feature maps that wait for the expansive path
    for name, layer in net.layers.items():
        multiply_adds = 0
        if isinstance(layer, layers.Convolution):
            kernel, _, incoming, channels = layer.weight.value.shape
            side += 2 * layer.padding - (kernel - 1)
            multiply_adds = side * side * kernel * kernel * incoming * channels
            operation = f"conv {kernel}x{kernel}" + (", ReLU" if layer.relu else "")
        elif isinstance(layer, layers.MaxPooling):
            skips.append((side, channels))
            side //= 2
            operation = POOL
        elif isinstance(layer, layers.UpConvolution):
            _, _, incoming, channels = layer.weight.value.shape
            side *= 2
            multiply_adds = side * side * incoming * channels
            operation = UP + (", ReLU" if layer.relu else "")
        elif isinstance(layer, layers.Upsampling):
            side *= 2
            operation = UPSAMPLE
        elif type(layer) in CONCATS:
            skip_side, skip_channels = skips.pop()
            channels += skip_channels
            side = skip_side if isinstance(layer, layers.PadConcat) else side
            operation = CONCATS[type(layer)]
        elif type(layer) in IN_PLACE:
            operation = IN_PLACE[type(layer)]
        elif isinstance(layer, layers.Dropout):
            if layer.rate == 0:
                continue
            operation = f"dropout {layer.rate:g}"
        else:
            raise TypeError(f"{name} is a {type(layer).__name__}, which summary does not know")
        parameters = sum(parameter.value.size for parameter in layer.parameters.values())
        found.append(Row(name, operation, side, channels, parameters, multiply_adds, side * side * channels * itemsize))
    return found


def inference_memory(net, found, device=None):
    """Predicted peak in bytes of forward(train=False) for one tile:
    measured peaks at 16 to 64 channels, 188 to 2044, are within 15 % of it.

    Beside the parameters the skips that wait and a layer's input and output, at the worst moment; with gaps, and what
    does not depend on the tile, as in `training_memory`. On a GPU it is an estimate: not measured.
    """
    return parameter_memory(net) + int(INFERENCE_GAPS * waiting_memory(found)) + working_memory(net, found, 1, device)


def waiting_memory(found):
    """Bytes of the skips that wait and of a layer's input and output, at the worst moment of a forward pass that keeps
    nothing.
    """
    waiting, peak = [], 0  # bytes of the skips on the level above, two above, ...
    for before, row in zip(found, found[1:]):
        if row.operation == POOL:
            waiting.append(before.memory)  # what pooling reads is the skip, so it is counted once
        input_memory = 0 if row.operation == POOL else before.memory
        peak = max(peak, sum(waiting) + input_memory + row.memory)
        if row.operation in CONCATS.values():
            waiting.pop()
    return peak


def working_memory(net, found, batch=1, device=None):
    """Bytes beside the maps and parameters. On the CPU they do not depend on the tile:
    kernels transformed by each thread, and the buffers of BLAS.
    """
    if (device or net.device) == "gpu":
        return gpu_workspace(net, found, batch)
    widest = max(parameter.value.shape[2] for parameter in net.parameters.values() if parameter.value.ndim == 4)
    transformed = 36 * widest * block_size(widest, widest) * net.dtype.itemsize  # U of Winograd's F(4x4)
    return threads.get_num_threads() * transformed + BLAS_BUFFERS


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


def training_memory(net, found, batch=1, device=None):
    """Predicted peak in bytes of a training step:
    measured peaks at 572, one tile, are within 15 % of it (tests, benchmarks/results).

    Beside the parameters there are as many gradients and velocities (momentum), and the newest gradient while the one
    of the step before still exists; the feature maps kept for the backward pass; the gradients that pass through it, at
    the worst moment; gaps between arrays of different sizes; and `working_memory`. ``device`` is that of the network
    unless given; on a GPU it is an estimate: the maps and gradients are the same, what operations need besides is
    `gpu_workspace`, and nothing of it has been measured there.
    """
    largest = max(parameter.value.nbytes for parameter in net.parameters.values())
    maps = batch * (kept_memory(net, found) + gradient_memory(net, found))
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


def gradient_memory(net, found):
    """Bytes that the backward pass adds at its worst moment, less those of the feature maps it has done with by
    then.
    """
    pairs = convolution_pairs(found)
    skips = [before.memory for before, row in zip(found, found[1:]) if row.operation == POOL]  # by level
    worst, released, waiting = 0, 0, []  # waiting: gradients of skips, level 0 first
    for before, row in reversed(list(zip(found, found[1:]))):
        alive = row.memory + (before.memory if before is not found[0] else 0)  # dy and dx
        if "conv" in row.operation and "ReLU" in row.operation or row.operation == UP:
            alive += row.memory  # dy behind the ReLU, or rearranged
        if row.operation in CONCATS.values():
            alive += skips[len(waiting)]
        pair = pairs.get(row.name.rpartition(".")[0], [row])
        if row in pair and row is not pair[-1]:
            alive += pair[-1].memory  # UNet.backward still holds what it gave to the pair
        worst = max(worst, alive + sum(waiting) - released)
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


def table(net, tile, train_memory=True):
    """The summary as text."""
    found = rows(net, tile)
    config = net.config
    lines = [
        f"U-Net ({config['variant']}), {config['in_channels']} -> {config['n_classes']}, {config['base_channels']} "
        f"base channels, "
        f"depth {config['depth']}: tile {tile} -> {net.output_size(tile)}",
        "",
    ]
    columns = "{:<20} {:<18} {:>11} {:>8} {:>12} {:>16} {:>10}"
    lines.append(columns.format("layer", "operation", "size", "channels", "parameters", "multiply-adds", "memory"))
    for row in found:
        lines.append(
            columns.format(
                row.name,
                row.operation,
                f"{row.side} x {row.side}",
                row.channels,
                f"{row.parameters:,}" if row.parameters else "",
                f"{row.multiply_adds:,}" if row.multiply_adds else "",
                f"{row.memory / MB:.1f} MB",
            )
        )
    total = [sum(getattr(row, name) for row in found) for name in ("parameters", "multiply_adds", "memory")]
    lines += [
        "-" * len(lines[2]),
        columns.format("total", "", "", "", f"{total[0]:,}", f"{total[1]:,}", f"{total[2] / MB:.1f} MB"),
        "",
    ]
    convolutions, ups = sum("conv" in row.operation for row in found), sum(UP in row.operation for row in found)
    lines.append(
        f"{convolutions} convolutional layers, {ups or 'none'} of them up-convolutions; an output pixel sees "
        f"{' to '.join(str(side) for side in geometry.receptive_field(net.depth))} pixels of the input across"
    )
    lines.append(f"predicted peak memory of inference: {inference_memory(net, found) / MB:,.0f} MB")
    if train_memory:
        lines.append(
            f"predicted peak memory of a training step (SGD with momentum, one tile): "
            f"{training_memory(net, found) / MB:,.0f} MB"
        )
    return "\n".join(lines)


def main(arguments=None):
    options = parser().parse_args(arguments)
    net = UNet(
        options.channels,
        options.classes,
        options.base_channels,
        options.depth,
        variant=options.variant,
        bilinear=options.bilinear,
        recompute=options.recompute,
    )
    print(table(net, options.tile, options.train_memory))


def parser():
    parse = argparse.ArgumentParser(
        prog="python -m npunet.summary", description="The layers of Fig. 1: sizes, parameters, multiply-adds, memory."
    )
    parse.add_argument("--tile", type=int, default=572, help="side of the input tile in pixels (default 572)")
    parse.add_argument("--base-channels", type=int, default=64, help="channels of the first level (default 64)")
    parse.add_argument("--depth", type=int, default=4, help="number of poolings (default 4)")
    parse.add_argument("--variant", choices=list(VARIANTS), default="paper", help="which U-Net (default paper)")
    parse.add_argument("--bilinear", action="store_true", help="bilinear upsampling (variant pytorch-unet)")
    parse.add_argument("--classes", type=int, default=2, help="classes of the output (default 2)")
    parse.add_argument("--channels", type=int, default=1, help="channels of the input (default 1)")
    parse.add_argument("--train-memory", action="store_true", help="also predict the peak memory of a training step")
    parse.add_argument("--recompute", action="store_true", help="predict it for npunet.train --recompute")
    return parse


if __name__ == "__main__":
    cli.run(main)
