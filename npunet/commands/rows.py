"""Fig. 1 as a table: one row for the input and for every layer of a network, with side, channels, weights and memory.

No feature map is computed: sizes follow from the layers. `npunet.summary` prints the table, `npunet.figure_1`
draws it, `npunet.profile` sets times beside it, and what a run needs of memory is added up from it.
"""

from dataclasses import dataclass

from npunet import layers
from npunet.gpu import cuda, sixteen_bits

POOL, UP, UPSAMPLE = "max-pool 2x2", "up-conv 2x2", "upsample 2x2"
CONCATS = {layers.CropConcat: "crop, concatenate", layers.PadConcat: "pad, concatenate"}
IN_PLACE = {  # neither size nor channels change
    layers.BatchNorm: "batch norm, ReLU",
    layers.InstanceNorm: "instance norm, ReLU",
    layers.Tanh: "tanh",
}


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


def rows(net, tile=572, device=None):
    """One `Row` for the input and for every layer, in order of use; no arithmetic on feature maps is done.

    device: where its memory is counted, that of the network unless given: with --precision bf16 the feature maps of a
    GPU have half the bytes. Raises InputError for an invalid tile, with the nearest valid ones.
    """
    net.output_size(tile)
    side, channels, last = tile, net.in_channels, (net.output, net.tanh)
    found = [Row("input", "input tile", side, channels, 0, 0, side * side * channels * net.dtype.itemsize)]
    of_maps = cuda.MAP_16 if sixteen_bits.in_use(net.dtype, device or net.device) else net.dtype
    skips = []  # (side, channels) of the feature maps that wait for the expansive path
    for name, layer in net.layers.items():
        if isinstance(layer, layers.Dropout) and layer.rate == 0:
            continue
        if isinstance(layer, layers.MaxPooling):
            skips.append((side, channels))
        operation, side, channels, multiply_adds = _after(name, layer, side, channels, skips)
        parameters = sum(parameter.value.size for parameter in layer.parameters.values())
        memory = side * side * channels * (net.dtype if layer in last else of_maps).itemsize
        found.append(Row(name, operation, side, channels, parameters, multiply_adds, memory))
    return found


def _after(name, layer, side, channels, skips):
    """(operation, side, channels, multiply-adds) of what the layer makes of a map of this side and channels."""
    if isinstance(layer, layers.Convolution):
        kernel, _, incoming, channels = layer.weight.value.shape
        side += 2 * layer.padding - (kernel - 1)
        operation = f"conv {kernel}x{kernel}" + (", ReLU" if layer.relu else "")
        return operation, side, channels, side * side * kernel * kernel * incoming * channels
    if isinstance(layer, layers.UpConvolution):
        _, _, incoming, channels = layer.weight.value.shape
        return UP + (", ReLU" if layer.relu else ""), 2 * side, channels, 4 * side * side * incoming * channels
    if isinstance(layer, layers.MaxPooling):
        return POOL, side // 2, channels, 0
    if isinstance(layer, layers.Upsampling):
        return UPSAMPLE, 2 * side, channels, 0
    if type(layer) in CONCATS:
        skip_side, skip_channels = skips.pop()
        side = skip_side if isinstance(layer, layers.PadConcat) else side
        return CONCATS[type(layer)], side, channels + skip_channels, 0
    if type(layer) in IN_PLACE:
        return IN_PLACE[type(layer)], side, channels, 0
    if isinstance(layer, layers.Dropout):
        return f"dropout {layer.rate:g}", side, channels, 0
    raise TypeError(f"{name} is a {type(layer).__name__}, which npunet.summary does not know")
