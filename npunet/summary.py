"""python -m npunet.summary: the layers of Fig. 1 with sizes, parameters, multiply-adds and memory, read off the live network.

Multiply-adds of a k x k convolution: k^2 C_in C_out for each output pixel; of a 2x2 up-convolution C_in C_out. Memory is that
of the feature maps for one tile; the predictions at the end add what the layers keep for the backward pass.
"""

import argparse
from dataclasses import dataclass

from npunet import cli, geometry, layers
from npunet.unet import VARIANTS, UNet

MB = 1e6
POOL, UP, UPSAMPLE = "max-pool 2x2", "up-conv 2x2", "upsample 2x2"
CONCATS = {layers.CropConcat: "crop, concatenate", layers.PadConcat: "pad, concatenate"}
IN_PLACE = {layers.BatchNorm: "batch norm, ReLU", layers.Tanh: "tanh"}              # neither size nor channels change


@dataclass(frozen=True)
class Row:
    """A feature map, as Fig. 1 draws it, and the layer that makes it. side in pixels; memory in bytes."""

    name: str                 # of the layer, as in UNet.layers; "input" for the tile itself
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
    skips = []                                            # (side, channels) of the feature maps that wait for the expansive path
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


def inference_memory(net, found):
    """Predicted peak in bytes of forward(train=False) for one tile: parameters, the skips that wait, a layer's input and output."""
    waiting, peak = [], 0                                 # bytes of the skips on the level above, two above, ...
    for before, row in zip(found, found[1:]):
        if row.operation == POOL:
            waiting.append(before.memory)                 # what pooling reads is the skip, so it is counted once
        input_memory = 0 if row.operation == POOL else before.memory
        peak = max(peak, sum(waiting) + input_memory + row.memory)
        if row.operation in CONCATS.values():
            waiting.pop()
    return parameter_memory(net) + peak


def training_memory(net, found):
    """Predicted peak in bytes of a training step for one tile.

    Kept for the backward pass is every feature map that a layer reads again: all but those of up-convolutions without ReLU,
    which live on in their concatenation. With recomputation it is the first and last map of each pair of convolutions. Beside the parameters there are as many gradients and velocities (momentum). The
    backward pass itself holds gradients of two feature maps at a time, at worst those of the two largest.
    """
    inside = [row for row in found if row.name.rpartition(".")[2].startswith(("conv", "norm"))]       # of the pairs of convolutions
    kept = sum(row.memory for row in found if row.operation not in (UP, UPSAMPLE))
    if net.recompute:
        pairs = {}
        for row in inside:
            pairs.setdefault(row.name.rpartition(".")[0], []).append(row.memory)
        # Kept of a pair is its result, which others read; the rest comes and goes again, one pair at a time.
        kept += max(map(sum, pairs.values())) - sum(sum(memory[:-1]) for memory in pairs.values())
    largest = sorted(row.memory for row in found)[-2:]
    return 3 * parameter_memory(net) + kept + sum(largest)


def parameter_memory(net):
    return net.n_parameters * net.dtype.itemsize


def table(net, tile, train_memory=True):
    """The summary as text."""
    found = rows(net, tile)
    config = net.config
    lines = [f"U-Net ({config['variant']}), {config['in_channels']} -> {config['n_classes']}, {config['base_channels']} base channels, "
             f"depth {config['depth']}: tile {tile} -> {net.output_size(tile)}", ""]
    columns = "{:<20} {:<18} {:>11} {:>8} {:>12} {:>16} {:>10}"
    lines.append(columns.format("layer", "operation", "size", "channels", "parameters", "multiply-adds", "memory"))
    for row in found:
        lines.append(columns.format(row.name, row.operation, f"{row.side} x {row.side}", row.channels, f"{row.parameters:,}" if row.parameters else "",
                                    f"{row.multiply_adds:,}" if row.multiply_adds else "", f"{row.memory / MB:.1f} MB"))
    total = [sum(getattr(row, name) for row in found) for name in ("parameters", "multiply_adds", "memory")]
    lines += ["-" * len(lines[2]), columns.format("total", "", "", "", f"{total[0]:,}", f"{total[1]:,}", f"{total[2] / MB:.1f} MB"), ""]
    convolutions, ups = sum("conv" in row.operation for row in found), sum(UP in row.operation for row in found)
    lines.append(f"{convolutions} convolutional layers, {ups or 'none'} of them up-convolutions; an output pixel sees "
                 f"{' to '.join(str(side) for side in geometry.receptive_field(net.depth))} pixels of the input across")
    lines.append(f"predicted peak memory of inference: {inference_memory(net, found) / MB:,.0f} MB")
    if train_memory:
        lines.append(f"predicted peak memory of a training step (SGD with momentum, one tile): {training_memory(net, found) / MB:,.0f} MB")
    return "\n".join(lines)


def main(arguments=None):
    options = parser().parse_args(arguments)
    net = UNet(options.channels, options.classes, options.base_channels, options.depth, variant=options.variant, bilinear=options.bilinear,
               recompute=options.recompute)
    print(table(net, options.tile, options.train_memory))


def parser():
    parse = argparse.ArgumentParser(prog="python -m npunet.summary", description="The layers of Fig. 1: sizes, parameters, multiply-adds, memory.")
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
