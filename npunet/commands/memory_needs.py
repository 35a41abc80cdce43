"""What fits into memory. A training step that will not fit is refused before it starts;
who runs out all the same gets one line that says what should fit.

Both go by the predictions of `npunet.summary`, which are measured on the CPU and estimates on a GPU.
"""

from contextlib import contextmanager

from npunet import geometry, summary
from npunet.errors import InputError
from npunet.machine.backend import free_memory, memory_in_all
from npunet.unet import UNet


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
    a tile, and for training, where ``batch`` is given, a width too.

    covering: pixels of the largest image; a tile is never larger than it needs. The prediction was wrong then, or
    others took the memory: so what is named needs a fifth less than either allows.
    """
    try:
        yield
    except MemoryError:
        if covering is not None:
            tile = min(tile, geometry.input_size_for(max(1, round(covering)), net.depth, net.options.padding))
        memory = summary.MEMORY_SHARE * min(needed(net, tile, batch), memory_in_all(net.device) or float("inf"))
        training = "" if batch is None else f" with {net.config['base_channels']} base channels"
        raise InputError(
            f"out of memory at tile {tile}{training}; {advice(net, tile, batch, memory)} should fit"
        ) from None


def needed(net, tile, batch=None, device=None):
    """Predicted bytes: of a training step, or without a batch, of one tile in inference.

    ``device`` is that of the network unless given.
    """
    found = summary.rows(net, tile)
    if batch is None:
        return summary.inference_memory(net, found, device)
    return summary.training_memory(net, found, batch, device)


def advice(net, tile, batch, memory):
    """Advice such as "--tile 316 or --base-channels 32": the ways that are predicted to need at most ``memory``;
    of widths the half, the quarter and so on.
    """

    def narrower_fits(width):
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
        return net.output_size(tile) >= (1 if batch is not None else summary.least_output(net))
    except InputError:
        return False
