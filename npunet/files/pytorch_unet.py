"""Weights of github.com/milesial/Pytorch-UNet: whose tensor is whose, and which way its axes run.

Their modules                                          ours (d = depth)
    inc, down1 .. down{d-1}                                contracting.0 .. contracting.{d-1}
    down{d}                                                bottleneck
    up1 .. up{d}                                           expansive.{d-1} .. expansive.0
    up1.up.weight, .bias                            expansive.{d-1}.up.weight, .bias  (not with bilinear upsampling)
    ...double_conv.0, .3                                   ...conv1, ...conv2                       (without bias)
    ...double_conv.1, .4                                   ...norm1, ...norm2
        weight, bias, running_mean, running_var, num_batches_tracked
                                                               scale, shift, running_mean, running_variance, batches
    outc.conv                                              output
Their convolutions are (C_out, C_in, kh, kw) and transposed convolutions (C_in, C_out, kh, kw); ours are (kh, kw, C_in,
C_out).

Number of channels, of classes, depth and the kind of upsampling are read off the tensors. Beside them the file may hold
"mask_values", the value of each class in the masks that the network was trained on.
"""

import json
from pathlib import Path

import numpy as np

from npunet.errors import InputError
from npunet.files import torch_files
from npunet.machine.backend import to_cpu, to_device

SUFFIXES = (".pth", ".pt", ".safetensors")
CONVOLUTION, UP_CONVOLUTION = (2, 3, 1, 0), (2, 3, 0, 1)  # the order of their axes that is ours
FIRST, LAST, DOWN = "inc.double_conv.0.weight", "outc.conv.weight", "down{}.maxpool_conv.1.double_conv.0.weight"


def correspondence(net):
    """{their name: (our Parameter or Statistic, axes)} of a "pytorch-unet" network, in the order of their
    state_dict.
    """
    found = {}

    def add(name, array, axes=None):
        found[name] = array, axes

    def add_block(name, block):
        for place, convolution, norm in ((0, block.conv1, block.norm1), (3, block.conv2, block.norm2)):
            add(f"{name}.double_conv.{place}.weight", convolution.weight, CONVOLUTION)
            for theirs, ours in (
                ("weight", norm.scale),
                ("bias", norm.shift),
                ("running_mean", norm.running_mean),
                ("running_var", norm.running_variance),
                ("num_batches_tracked", norm.batches),
            ):
                add(f"{name}.double_conv.{place + 1}.{theirs}", ours)

    add_block("inc", net.contracting[0])
    for number, block in enumerate([*net.contracting[1:], net.bottleneck], start=1):
        add_block(f"down{number}.maxpool_conv.1", block)
    for number, level in enumerate(net.expansive, start=1):
        if not net.bilinear:
            add(f"up{number}.up.weight", net.ups[level].weight, UP_CONVOLUTION)
            add(f"up{number}.up.bias", net.ups[level].bias)
        add_block(f"up{number}.conv", net.expansive[level])
    add("outc.conv.weight", net.output.weight, CONVOLUTION)
    add("outc.conv.bias", net.output.bias)
    return found


def load(network_class, path, device="cpu"):
    """The network in a file that milesial's train.py, or `save`, wrote. `mask_values` become those of the network.

    Raises InputError if the file cannot be read or holds another network, with the tensors that are missing, unexpected
    or of another shape.
    """
    tensors, extra = torch_files.load_tensors(path)
    if tensors and all(name.startswith("module.") for name in tensors):  # saved from inside DataParallel
        tensors = {name.removeprefix("module."): array for name, array in tensors.items()}
    net = network_class(**recognise(tensors, path), variant="pytorch-unet", device=device)
    fill(net, tensors, path)
    net.mask_values = mask_values(extra, net.n_labels)
    return net


def recognise(tensors, path):
    """in_channels, n_classes, base_channels, depth, bilinear and dtype of the network that these tensors belong to."""
    depth = 0
    while DOWN.format(depth + 1) in tensors:
        depth += 1
    wanted = (FIRST, DOWN.format(1), LAST)
    strange = [name for name in wanted if name not in tensors or tensors[name].ndim != 4 or 0 in tensors[name].shape]
    if strange:
        found = ", ".join(list(tensors)[:3])
        raise InputError(
            f"{path}: no weights of milesial/Pytorch-UNet: {strange[0]} is missing or has not four axes; it begins "
            f"with {found}"
        )
    base_channels, in_channels = tensors[FIRST].shape[:2]
    needed = 9 * base_channels**2 * 2 ** (2 * depth - 1)  # half the numbers that the deepest level has, or less
    if needed > Path(path).stat().st_size:  # a tensor can look large without being stored
        raise InputError(
            f"{path}: {base_channels} base channels and depth {depth} need more numbers than the file has bytes; get "
            f"the file again"
        )
    dtype = "float64" if tensors[FIRST].dtype == np.float64 else "float32"
    return dict(
        in_channels=in_channels,
        n_classes=tensors[LAST].shape[0],
        base_channels=base_channels,
        depth=depth,
        bilinear="up1.up.weight" not in tensors,
        dtype=dtype,
    )


def fill(net, tensors, path):
    """Put the tensors into the network.

    Raises InputError that lists what is missing, unexpected or of another shape.
    """
    wanted = correspondence(net)
    wrong = [
        f"{name} is missing" for name in wanted if name not in tensors and not name.endswith("num_batches_tracked")
    ]
    wrong += [f"{name} is unexpected" for name in tensors if name not in wanted]
    for name, (array, axes) in wanted.items():
        shape = (
            tuple(array.value.shape)
            if axes is None
            else tuple(array.value.shape[axes.index(axis)] for axis in range(4))
        )
        if name in tensors and tensors[name].shape != shape:
            wrong.append(f"{name} has shape {tensors[name].shape} instead of {shape}")
    if wrong:
        more = f" and {len(wrong) - 8} more" if len(wrong) > 8 else ""
        raise InputError(f"{path} does not fit milesial/Pytorch-UNet: {'; '.join(wrong[:8])}{more}")
    for name, (array, axes) in wanted.items():
        if name in tensors:  # files before PyTorch 0.4.1 count no batches
            ours = tensors[name] if axes is None else tensors[name].transpose(axes)
            array.value = to_device(np.array(ours, array.value.dtype, order="C"), net.device)


def save(net, path):
    """Write a .pth for torch.load(weights_only=True) and milesial's predict.py and train.py --load, or a .safetensors
    file.

    Raises InputError for other variants, which have no counterpart there, and a path that cannot be written.
    """
    if net.options.norm != "batch":
        raise InputError(
            f"{path}: only variant 'pytorch-unet' has a layout that PyTorch programs know; "
            f"save the {net.config['variant']!r} network as .npz"
        )
    if (net.input_mean, net.input_std) != (0, 1):
        raise InputError(
            f"{path}: this network centres its input (mean {net.input_mean:g}, deviation {net.input_std:g}), which "
            f"the layout "
            "has no place for; save it as .npz"
        )
    tensors = {}
    for name, (array, axes) in correspondence(net).items():
        value = to_cpu(array.value)
        tensors[name] = value if axes is None else np.ascontiguousarray(value.transpose(np.argsort(axes)))
    values = net.mask_values or list(range(net.n_labels))  # their train.py --load insists on this entry
    if Path(path).suffix.lower() == ".safetensors":
        torch_files.save_safetensors(path, tensors, {"mask_values": json.dumps(values)})
    else:
        torch_files.save_torch(path, tensors, {"mask_values": values})


def mask_values(extra, n_labels):
    """The entry of that name as a list of numbers, or of lists of three (colours); None if there is none that fits."""
    values = extra.get("mask_values")
    if isinstance(values, str):  # the metadata of safetensors are text
        try:
            values = json.loads(values)
        except ValueError:
            return None
    if not isinstance(values, (list, tuple)) or len(values) != n_labels:
        return None

    def number(value):
        return isinstance(value, (int, float)) and 0 <= value <= 255

    values = [list(value) if isinstance(value, tuple) else value for value in values]
    colours = all(isinstance(value, list) and len(value) == 3 and all(map(number, value)) for value in values)
    return values if colours or all(map(number, values)) else None
