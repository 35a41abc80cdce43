"""The network that the authors published with the paper, u-net-release of 2015: whose blob is whose.

Their layers                                              ours (variant "release"; d = depth, 4)
    conv_d{l}a-b, conv_d{l}b-c                            contracting.{l}.conv1, .conv2           l = 0 .. d-1
    conv_d{d}a-b, conv_d{d}b-c                            bottleneck.conv1, .conv2
    upconv_d{d}c_u{d-1}a, upconv_u{l+1}d_u{l}a            expansive.{d-1}.up, expansive.{l}.up
    conv_u{l}b-c, conv_u{l}c-d                            expansive.{l}.conv1, .conv2
    conv_u0d-score                                        output          (fine-tuned copies put something behind it)
Each has two blobs, weights and bias. Their convolutions are (C_out, C_in, kh, kw) and up-convolutions
(C_in, C_out, kh, kw); ours are (kh, kw, C_in, C_out).

The release divides 8-bit images by 255 and subtracts no mean (im2double in its segmentAndTrack2.m), so input_mean is 0
and input_std 1; that is also what npunet's reading of 8-bit images gives it. Its class 1 is the cell.
"""

import numpy as np

from npunet.errors import InputError
from npunet.files.caffe_messages import read_caffemodel
from npunet.files.torch_files.tensors import shown
from npunet.machine.backend import to_device

SUFFIXES = (".caffemodel",)
CONVOLUTION, UP_CONVOLUTION = (2, 3, 1, 0), (2, 3, 0, 1)  # the order of their axes that is ours
FIRST, LAST, DEEPEST_UP = "conv_d0a-b", "conv_u0d-score", "upconv_d{}c_u{}a"


def correspondence(net):
    """{their layer: (our layer, axes)} of a "release" network, in the order of use."""
    found = {}
    for level, block in enumerate([*net.contracting, net.bottleneck]):
        found[f"conv_d{level}a-b"] = block.conv1, CONVOLUTION
        found[f"conv_d{level}b-c"] = block.conv2, CONVOLUTION
    for level, block in net.expansive.items():
        deepest = level == net.depth - 1
        name = DEEPEST_UP.format(level + 1, level) if deepest else f"upconv_u{level + 1}d_u{level}a"
        found[name] = net.ups[level], UP_CONVOLUTION
        found[f"conv_u{level}b-c"] = block.conv1, CONVOLUTION
        found[f"conv_u{level}c-d"] = block.conv2, CONVOLUTION
    found[LAST] = net.output, CONVOLUTION
    return found


def load(network_class, path, device="cpu"):
    """The network in a .caffemodel with the layers of u-net-release, as variant "release".

    Raises InputError if the file cannot be read or holds another network, with what is missing, unexpected or of
    another shape.
    """
    layers = read_caffemodel(path)
    blobs = {}
    for layer in layers:
        name = LAST if layer.name.startswith(LAST) else layer.name
        if layer.blobs and blobs.setdefault(name, layer.blobs) is not layer.blobs:
            raise InputError(f"{path}: has two layers {shown(name)} with weights; expected one of each name")
    net = network_class(**recognise(blobs, path), variant="release", device=device)
    check_settings(layers, path)
    fill(net, blobs, path)
    return net


def recognise(blobs, path):
    """in_channels, n_classes, base_channels and depth of the network that these blobs belong to."""
    depth = 1
    while DEEPEST_UP.format(depth, depth - 1) not in blobs and depth < len(blobs):
        depth += 1
    deepest = DEEPEST_UP.format(depth, depth - 1)
    weights = {name: layer[0] for name, layer in blobs.items() if layer[0].ndim == 4}
    strange = [name for name in (FIRST, deepest, LAST) if name not in weights]
    if strange:
        name = "upconv_d4c_u3a" if strange[0] == deepest and deepest not in blobs else strange[0]
        raise InputError(
            f"{path}: no weights of u-net-release: layer {name} is missing or its weights have not four axes; it "
            f"begins with {shown(', '.join(list(blobs)[:3]))}"
        )
    base_channels, in_channels = blobs[FIRST][0].shape[:2]
    numbers = sum(blob.size for layer in blobs.values() for blob in layer)
    if 9 * base_channels**2 * 4**depth > numbers:  # those of the second convolution at the bottom alone
        raise InputError(
            f"{path}: {base_channels} base channels and depth {depth} need more numbers than the file holds; get the "
            f"file again"
        )
    n_classes = blobs[LAST][0].shape[0]
    return dict(in_channels=in_channels, n_classes=n_classes, base_channels=base_channels, depth=depth)


def check_settings(layers, path):
    """Raises InputError for networks of the same names that compute something else."""
    for layer in layers:
        if layer.negative_slope != 0:
            raise InputError(
                f"{path}: layer {shown(layer.name)} is a leaky ReLU (slope {layer.negative_slope:g}), as in the "
                f"networks of the authors' Fiji plugin; npunet has the ReLU of the paper alone"
            )
        if layer.padding:
            raise InputError(
                f"{path}: layer {shown(layer.name)} pads by {layer.padding}; variant 'release' has valid convolutions"
            )


def fill(net, blobs, path):
    """Put the blobs into the network. Raises InputError that lists what is missing, unexpected or of another shape."""
    wanted = correspondence(net)
    wrong = [f"{name} is missing" for name in wanted if name not in blobs]
    wrong += [f"{shown(name)} is unexpected" for name in blobs if name not in wanted]
    for name, (layer, axes) in wanted.items():
        shape = tuple(layer.weight.value.shape[axes.index(axis)] for axis in range(4))
        found = [blob.shape for blob in blobs.get(name, [])]
        if name in blobs and (len(found) != 2 or found[0] != shape or blobs[name][1].size != layer.bias.value.size):
            wrong.append(f"{name} has blobs {shown(found)} instead of {shape} and {layer.bias.value.shape}")
    if wrong:
        more = f" and {len(wrong) - 8} more" if len(wrong) > 8 else ""
        raise InputError(f"{path} does not fit u-net-release: {'; '.join(wrong[:8])}{more}")
    for name, (layer, axes) in wanted.items():
        weight, bias = blobs[name]
        for parameter, ours in ((layer.weight, weight.transpose(axes)), (layer.bias, bias.reshape(-1))):
            parameter.value = to_device(np.array(ours, parameter.value.dtype, order="C"), net.device)
