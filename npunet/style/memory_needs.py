"""What style transfer needs of memory, said before it starts and after running out:
numbers, and a --size or --base-channels that fits.

Bytes of one step for a picture of H x W pixels, one number 4 bytes, layers as in `npunet.style.vgg`:

    VGG           its weights, and the turned kernels of its way back, twice the weights
    its maps      of each convolution and pooling up to the last layer compared, H W C / 4^(block - 1), all kept for the
                  way back;
                  the gradients of the losses, as large as the maps compared; a gradient before and one behind the ReLU,
                  as large as the largest map
    generator     parameters, their gradients and Adam's two averages, 4 times the parameters; the maps that its
                  backward pass reads again
                  (npunet.commands.memory_needs), which wait while VGG looks. Its own gradients come when VGG's maps
                  are gone and need less
    GAPS          times all maps, for what lies unused between arrays of different sizes
    WORK          what does not depend on the picture: kernels that Winograd transforms for each thread, buffers of BLAS

For VGG19 to conv4_4 that is 2.7 kB a pixel, GAPS included. Peaks measured on two threads, from 128 to 512 pixels and 16
to 64 base channels, are within 20 % of it. On a GPU it is an estimate: the maps are the same, beside them there is the
workspace of its convolutions, and nothing of it has been measured there.
"""

from contextlib import contextmanager

from npunet.commands import memory_needs as unet_needs
from npunet.commands.rows import rows
from npunet.errors import InputError
from npunet.gpu import convolution as gpu_convolution
from npunet.machine.backend import free_memory, memory_in_all
from npunet.style import vgg
from npunet.unet import UNet

GAPS, WORK = 1.2, 50 * 10**6
SMALLEST, GRID = 32, 16  # pixels


def vgg_maps(objective, pixels):
    """Bytes of the maps and gradients at VGG's worst moment, for pictures of `pixels` pixels in all."""
    eye, compared = objective.vgg, {*objective.content_layers, *objective.style_layers}
    channels, largest, sizes = 3, 0, {"picture": 3 * pixels}  # {layer: numbers}
    for name, _ in vgg.chain(eye.kind):
        if compared <= sizes.keys():
            break
        if name.startswith("pool"):
            pixels /= 4
        else:
            channels = eye.weights[name][0].shape[3]
        sizes[name] = pixels * channels
        largest = max(largest, sizes[name])
    return eye.dtype.itemsize * (sum(sizes.values()) + sum(sizes[name] for name in compared) + 2 * largest)


def needed(objective, shape, net=None, batch=1):
    """Predicted peak in bytes of a step on pictures of `shape` (H, W):
    of a generator's training, or without `net` of direct optimisation.
    """
    height, width = shape
    pixels, longer = batch * height * width, max(height, width)
    weights = sum(array.nbytes for pair in objective.vgg.weights.values() for array in pair)
    maps, parameters = vgg_maps(objective, pixels), 0
    if net:
        square = -(-longer // GRID) * GRID
        maps += unet_needs.kept_memory(net, rows(net, square)) * pixels / square**2
        parameters = 4 * unet_needs.parameter_memory(net)
    work = gpu_convolution.WORKSPACE + unet_needs.CUBLAS_BUFFERS if objective.vgg.device == "gpu" else WORK
    return int(2 * weights + parameters + GAPS * maps + work)


def check(objective, shape, net=None, batch=1, option="size"):
    """Raises InputError, with what fits, if a step needs more memory than is free. option:
    the one that decides `shape`, "size" or "style-size".
    """
    free, wanted = free_memory(objective.vgg.device), needed(objective, shape, net, batch)
    if free is not None and wanted > free:
        what = (
            described(shape, net, batch) if option == "size" else f"a style picture of {shape[1]} x {shape[0]} pixels"
        )
        raise InputError(
            f"{what} needs about {wanted / 1e9:.1f} GB, but {free / 1e9:.1f} GB are free; "
            f"{advice(objective, shape, net, batch, free, option)} would fit"
        )


@contextmanager
def enough_memory(objective, shape, net=None, batch=1):
    """`check`; and within, running out of memory all the same raises InputError with what should fit.

    The prediction was wrong then, or others took the memory: so what is named needs a fifth less than either allows.
    """
    check(objective, shape, net, batch)
    try:
        yield
    except MemoryError:
        device = objective.vgg.device
        wanted, there = needed(objective, shape, net, batch), memory_in_all(device)
        memory = unet_needs.MEMORY_SHARE * min(wanted, there or wanted)
        there = there or free_memory(device)
        raise InputError(
            f"out of memory: {described(shape, net, batch)} needs about {wanted / 1e9:.1f} GB"
            + (f", {there / 1e9:.1f} GB are there" if there else "")
            + f"; {advice(objective, shape, net, batch, memory)} should fit"
        ) from None


def described(shape, net, batch):
    """Words for a setting, such as "a step at 256 x 192 pixels with 32 base channels"."""
    return f"a step at {f'{batch} times ' if batch > 1 else ''}{shape[1]} x {shape[0]} pixels" + (
        f" with {net.config['base_channels']} base channels" if net else ""
    )


def advice(objective, shape, net, batch, memory, option="size"):
    """Advice such as "--size 192 or --base-channels 16": the largest that are predicted to need at most `memory`;
    of widths the half, the quarter and so on.
    """
    shorter, ways = min(shape), []
    for size in range((shorter - 1) // GRID * GRID, SMALLEST - 1, -GRID):
        # as `pictures.fitted` makes it
        smaller = [max(GRID, round(size * side / shorter / GRID) * GRID) for side in shape]
        if needed(objective, smaller, net, batch) <= memory:
            ways.append(f"--{option} {size}")
            break
    if net:
        halves = [
            net.config["base_channels"] >> halvings for halvings in range(1, net.config["base_channels"].bit_length())
        ]
        ways += [
            f"--base-channels {width}"
            for width in halves
            if needed(objective, shape, as_wide(net, width), batch) <= memory
        ][:1]
    ways += [f"--batch {fewer}" for fewer in range(batch - 1, 0, -1) if needed(objective, shape, net, fewer) <= memory][
        :1
    ]
    return " or ".join(ways) or "nothing: a smaller picture or more memory"


def as_wide(net, base_channels):
    """The same network with another number of base channels, on the CPU, for its sizes."""
    return UNet(**net.config | {"base_channels": base_channels})
