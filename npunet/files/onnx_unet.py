"""A U-Net as an ONNX file, for programs that run networks: ONNX Runtime, OpenVINO, Fiji's deepImageJ, ilastik.

`add_network` is `UNet.forward` once more, with a node of the graph in the place of each operation. What differs from
the arrays here:

- ONNX puts channels before rows and columns: the input "image" is (N, C, H, W), the output (N, K, H', W').
- A convolution's weights are (C_out, C_in, kh, kw), those of an up-convolution (C_in, C_out, kh, kw); ours are
  (kh, kw, C_in, C_out).
- Height and width are left open, also where it depends on them how much is cropped or padded: in valid networks the
  crop is the same for every valid size, in padded ones the graph computes it from the sizes that it meets. A valid
  network still takes valid sizes only; given others, a runtime stops at a concatenation.

Input centring (input_mean and input_std) is part of the graph, so the input is a picture in 0..1 (`files.images`).
"""

import os

import numpy as np

from npunet import geometry
from npunet.errors import InputError
from npunet.files.onnx_messages import Graph, float_value, model
from npunet.files.whole_file import atomic_write
from npunet.machine.backend import to_cpu

LARGEST = 2**31 - 1  # bytes of a protobuf message; a larger model needs a second file
CONVOLUTION, UP_CONVOLUTION = (3, 2, 0, 1), (2, 3, 0, 1)  # our axes in the order that ONNX has
SPACE = np.array([2, 3])  # the axes of rows and columns
FLOAT32 = 1  # of Cast
SCALING = "8-bit values / 255; others so that their 0.1 and 99.9 percentiles become 0 and 1, then clipped"
INPUT, LOGITS, PROBABILITIES, PICTURE = "image", "logits", "probabilities", "picture"


def save(
    net, path, *, softmax: bool = False, mirror: bool = False, weights: str = "float32", size: tuple | None = None
):
    """Write the network to an ONNX file, at once or not at all.

    softmax: the output is "probabilities", like those of `tiling.predict`, instead of "logits", what `forward` gives.
    mirror: a valid network mirrors the image at its border itself (§2, Fig. 2), so it takes any size from
    `tile_rule`'s smallest and the output is as large as the input; a padded network keeps the size anyway.
    weights: "float32", or "float16" for the weights of the convolutions; half the bytes, and the arithmetic stays
    float32. size: (height, width) where a program wants them fixed. Raises InputError for a size that the network does
    not take, soft-max after tanh, a network beyond 2 GB, or a path that cannot be written.
    """
    if softmax and net.tanh:
        raise InputError(f"{path}: a network of variant {net.config['variant']!r} draws pictures; it has no soft-max")
    if weights not in ("float32", "float16"):
        raise InputError(f"{path}: weights {weights!r} are not known; expected float32 or float16")
    graph = Graph()
    mirror = mirror and not net.options.padding
    name = add_network(graph, net, softmax, mirror, weights)
    input_size, output_size = sides(net, size, mirror)
    inputs = [float_value(11, INPUT, ["batch", net.in_channels, *input_size], "(N, C, H, W), values in 0..1")]
    channels = net.n_labels if softmax else net.n_classes
    outputs = [float_value(12, name, ["batch", channels, *output_size], f"(N, K, H', W'): {name}")]
    description = f"U-Net, variant {net.config['variant']!r}, written by npunet"
    buffers = model(graph, inputs, outputs, description, metadata(net, name, mirror))
    if (total := sum(map(len, buffers))) > LARGEST:
        raise InputError(f"{os.fspath(path)}: the network has {total:,} bytes; an ONNX file holds at most {LARGEST:,}")
    with atomic_write(path) as file:
        file.writelines(buffers)


def sides(net, size, mirror):
    """Height and width of input and output: integers for a given `size`, else names of open sides."""
    if size is not None:
        smallest = tile_rule(net, mirror)["smallest_size"]
        if mirror and min(size) < smallest:
            raise InputError(f"size {size[0]} x {size[1]} is too small to be mirrored; the smallest is {smallest}")
        return list(map(int, size)), [int(side) if mirror else net.output_size(int(side)) for side in size]
    if net.options.pads_upsampled or mirror:
        return ["height", "width"], ["height", "width"]
    return ["height", "width"], ["output_height", "output_width"]


def tile_rule(net, mirror: bool = False) -> dict:
    """Which tiles the network takes, in pixels: sides from "smallest_size" in steps of "size_step"; "border_lost" is
    the side of the input minus that of the output; "halo" is what to throw away on each side of a tile's output where
    the image goes on. Tiles with a halo begin at multiples of 2^depth.
    """
    grid = 2**net.depth
    if net.options.padding:
        halo = -(-geometry.padded_context(net.depth) // grid) * grid
        return dict(smallest_size=grid, size_step=1 if net.options.pads_upsampled else grid, border_lost=0, halo=halo)
    smallest, lost = geometry.smallest_valid_size(net.depth), geometry.border_lost(net.depth)
    if mirror:  # no pixel is mirrored twice
        return dict(smallest_size=lost // 2 + grid, size_step=1, border_lost=0, halo=-(-lost // 2 // grid) * grid)
    return dict(smallest_size=smallest, size_step=grid, border_lost=lost, halo=0)


def metadata(net, output, mirror) -> dict:
    """What a program or a person needs to know that the graph does not say."""
    known = {"mask_values": net.mask_values} if net.mask_values else {}
    axes = "bcyx"  # of input and output: batch, channel, row, column
    return {"axes": axes, "output": output, "scaling": SCALING, "network": net.config} | tile_rule(net, mirror) | known


def add_network(graph, net, softmax, mirror, weights) -> str:
    """Add the nodes of a whole network to the graph -> the name of its output."""
    last = PROBABILITIES if softmax else PICTURE if net.tanh else LOGITS
    x = INPUT
    if (net.input_mean, net.input_std) != (0, 1):
        x = graph.node("Sub", "minus_mean", x, graph.constant("input_mean", np.float32(net.input_mean)))
        x = graph.node("Div", "centred", x, graph.constant("input_std", np.float32(net.input_std)))
    x = add_mirrored(graph, "mirrored", x, net) if mirror else x
    skips = []
    for level, block in enumerate(net.contracting):
        x = add_block(graph, f"contracting.{level}", x, block, weights)
        skips.append(x)
        x = graph.node("MaxPool", f"contracting.{level}.pool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = add_block(graph, "bottleneck", x, net.bottleneck, weights)
    for level, block in net.expansive.items():  # the deepest comes first
        place = f"expansive.{level}"
        x = add_up(graph, f"{place}.up", x, net.ups[level], weights, bilinear=net.bilinear)
        if net.options.pads_upsampled:
            x = add_pad_concat(graph, f"{place}.concat", x, skips.pop())
        else:
            border = None if net.options.padding else crop(net.depth - level)
            x = add_crop_concat(graph, f"{place}.concat", x, skips.pop(), border)
        x = add_block(graph, place, x, block, weights)
    more = softmax or net.tanh or mirror
    x = add_convolution(graph, "output" if more else last, x, net.output, weights, place="output")
    if mirror:
        x = add_cut(graph, "cut" if softmax else last, x)
    if net.tanh:
        return graph.node("Tanh", last, x)
    return add_softmax(graph, last, x, net.n_classes) if softmax else x


def add_mirrored(graph, name, x, net):
    """The image mirrored at its border, by what the network loses, and after its end by as much more as makes the size
    valid.
    """
    smallest, lost = geometry.smallest_valid_size(net.depth), geometry.border_lost(net.depth)
    size = add_size(graph, f"{name}.size", INPUT)
    residue, grid = (
        graph.constant(f"{name}.{key}", np.array([value] * 2))
        for key, value in (("residue", smallest - lost), ("grid", 2**net.depth))
    )
    missing = graph.node("Mod", f"{name}.missing", graph.node("Sub", f"{name}.less", residue, size), grid)
    before = graph.constant(f"{name}.before", np.array([0, 0, lost // 2, lost // 2, 0, 0]))
    half = graph.constant(f"{name}.half", np.array([lost // 2] * 2))
    after = graph.node("Add", f"{name}.after", missing, half)
    return graph.node("Pad", name, x, graph.node("Concat", f"{name}.pads", before, after, axis=0), mode="reflect")


def add_cut(graph, name, x):
    """The first rows and columns of x, as many as the image has."""
    start, axes = graph.constant(f"{name}.start", np.zeros(2, np.int64)), graph.constant(f"{name}.axes", SPACE)
    return graph.node("Slice", name, x, start, add_size(graph, f"{name}.size", INPUT), axes)


def crop(poolings) -> int:
    """Pixels that a valid network crops from each side of a skip connection with so many poolings below it: 4, 16, 40,
    88 from the bottom up (Fig. 1: 64 -> 56, 136 -> 104, 280 -> 200, 568 -> 392).
    """
    border, lost = 0, 2  # pixels on each side; two convolutions of the bottleneck lose 2
    for _ in range(poolings):
        border = 2 * lost  # the up-convolution doubles it
        lost = border + 4  # seen from the level above: and four convolutions
    return border


def add_block(graph, place, x, block, weights):
    """Two convolutions, each with batch normalisation where the network has it, and ReLU."""
    for number, (convolution, norm) in enumerate(((block.conv1, block.norm1), (block.conv2, block.norm2)), start=1):
        x = add_convolution(graph, f"{place}.conv{number}", x, convolution, weights)
        if norm:
            x = add_norm(graph, f"{place}.norm{number}", x, norm)
    return x


def add_convolution(graph, name, x, layer, weights, place=None):
    place = place or name
    tensors = [add_weight(graph, f"{place}.weight", layer.weight, CONVOLUTION, weights)]
    if layer.bias:
        tensors.append(graph.constant(f"{place}.bias", float32(layer.bias)))
    kernel = layer.weight.value.shape[:2]
    linear = f"{name}.linear" if layer.relu else name
    y = graph.node("Conv", linear, x, *tensors, kernel_shape=kernel, pads=[layer.padding] * 4)
    return graph.node("Relu", name, y) if layer.relu else y


def add_norm(graph, name, x, layer):
    """Batch normalisation; instance normalisation if the layer has no running statistics."""
    arrays, kind = dict(scale=layer.scale, shift=layer.shift), "InstanceNormalization"
    if layer.statistics:
        # in ONNX's order
        arrays |= dict(mean=layer.running_mean, variance=layer.running_variance)
        kind = "BatchNormalization"
    tensors = [graph.constant(f"{name}.{key}", float32(array)) for key, array in arrays.items()]
    linear = f"{name}.linear" if layer.relu else name
    y = graph.node(kind, linear, x, *tensors, epsilon=float(layer.eps))
    return graph.node("Relu", name, y) if layer.relu else y


def add_up(graph, name, x, layer, weights, bilinear):
    """2x2 up-convolution, or interpolation to twice the size with aligned corners."""
    if bilinear:
        scales = graph.constant(f"{name}.scales", np.array([1, 1, 2, 2], np.float32))
        options = dict(mode="linear", coordinate_transformation_mode="align_corners")
        return graph.node("Resize", name, x, "", scales, **options)
    weight = add_weight(graph, f"{name}.weight", layer.weight, UP_CONVOLUTION, weights)
    bias = graph.constant(f"{name}.bias", float32(layer.bias))
    linear = f"{name}.linear" if layer.relu else name
    y = graph.node("ConvTranspose", linear, x, weight, bias, kernel_shape=[2, 2], strides=[2, 2])
    return graph.node("Relu", name, y) if layer.relu else y


def add_crop_concat(graph, name, upsampled, skip, border):
    """[upsampled, central part of skip]; `border` pixels are cut off each side, or with None what is too much."""
    if border is None:
        size = add_size(graph, f"{name}.size", upsampled)
        _, start = add_half(graph, name, skip, size)
        end = graph.node("Add", f"{name}.end", start, size)
    else:
        start = graph.constant(f"{name}.start", np.array([border] * 2))
        end = graph.constant(f"{name}.end", np.array([-border] * 2))
    axes = graph.constant(f"{name}.axes", SPACE)
    return graph.node("Concat", name, upsampled, graph.node("Slice", f"{name}.crop", skip, start, end, axes), axis=1)


def add_pad_concat(graph, name, upsampled, skip):
    """[skip, upsampled with zeros around]."""
    more, before = add_half(graph, name, skip, add_size(graph, f"{name}.size", upsampled))
    after = graph.node("Sub", f"{name}.after", more, before)
    zeros = graph.constant(f"{name}.zeros", np.zeros(2, np.int64))  # batch and channels stay
    pads = graph.node("Concat", f"{name}.pads", zeros, before, zeros, after, axis=0)
    return graph.node("Concat", name, skip, graph.node("Pad", f"{name}.padded", upsampled, pads), axis=1)


def add_half(graph, name, skip, size):
    """How much larger skip is than `size`, (height, width), and half of it, rounded down."""
    more = graph.node("Sub", f"{name}.more", add_size(graph, f"{name}.skip_size", skip), size)
    return more, graph.node("Div", f"{name}.half", more, graph.constant(f"{name}.two", np.array([2, 2])))


def add_size(graph, name, x):
    """(height, width) of x, as a value of the graph."""
    first, end = (graph.constant(f"{name}.{key}", np.array([axis])) for key, axis in (("first", 2), ("end", 4)))
    return graph.node("Slice", name, graph.node("Shape", f"{name}.shape", x), first, end)


def add_softmax(graph, name, logits, n_classes):
    """Probabilities of the classes; a single logit a becomes (0, a) first."""
    if n_classes == 1:
        zeros = graph.node("Sub", "zeros", logits, logits)
        logits = graph.node("Concat", "two_logits", zeros, logits, axis=1)
    return graph.node("Softmax", name, logits, axis=1)


def add_weight(graph, name, parameter, axes, weights):
    """A convolution's weights with ONNX's order of axes; float16 ones are made float32 again by the runtime."""
    array = float32(parameter).transpose(axes)
    if weights == "float32":
        return graph.constant(name, array)
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    if not np.isfinite(half[np.isfinite(array)]).all():
        raise InputError(f"{name} has values beyond 65504, the largest of float16; write float32 weights")
    return graph.node("Cast", name, graph.constant(f"{name}.float16", half), to=FLOAT32)


def float32(array) -> np.ndarray:
    """The numbers of a Parameter or Statistic, on the CPU."""
    return to_cpu(array.value).astype(np.float32, copy=False)
