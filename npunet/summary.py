"""python -m npunet.summary: Fig. 1 as a table of sizes, parameters, multiply-adds and memory, off the live network.

Multiply-adds of a k x k convolution: k^2 C_in C_out for each output pixel; of a 2x2 up-convolution C_in C_out. Memory
is that of the feature maps for one tile; the predictions at the end add what the layers keep for the backward pass.
"""

import argparse

from npunet import geometry
from npunet.commands import cli, ranges
from npunet.commands.memory_needs import inference_memory, training_memory
from npunet.commands.rows import UP, rows
from npunet.unet import UNet
from npunet.variants import VARIANTS

MB = 1e6


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
    ranges.check(vars(options))
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
        prog=cli.program("summary"), description="The layers of Fig. 1: sizes, parameters, multiply-adds, memory."
    )
    parse.add_argument("--tile", type=int, default=572, help="side of the input tile in pixels (default 572)")
    parse.add_argument("--base-channels", type=int, default=64, help="channels of the first level (default 64)")
    parse.add_argument("--depth", type=int, default=4, help="number of poolings (default 4)")
    parse.add_argument("--variant", choices=list(VARIANTS), default="paper", help=f"{cli.VARIANT_HELP} (default paper)")
    parse.add_argument("--bilinear", action="store_true", help="bilinear upsampling (variant pytorch-unet)")
    parse.add_argument("--classes", type=int, default=2, help="classes of the output (default 2)")
    parse.add_argument("--channels", type=int, default=1, help="channels of the input (default 1)")
    parse.add_argument("--train-memory", action="store_true", help="also predict the peak memory of a training step")
    parse.add_argument("--recompute", action="store_true", help="predict it for npunet.train --recompute")
    return parse


if __name__ == "__main__":
    cli.run(main)
