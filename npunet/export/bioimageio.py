"""A package for bioimage.io, the model zoo that Fiji's deepImageJ, ilastik and others read: one .zip file.

    rdf.yaml          what the network takes and gives: axes, sizes, scaling, and where the rest is
    model.onnx        the network (files/onnx_unet.py), its output probabilities
    test_input.npy    a picture as it comes from the microscope, before scaling: (1, C, H, W)
    test_output.npy   what npunet computes from it: (1, K, H, W)
    README.md, cover.png

rdf.yaml follows specification 0.5 (https://github.com/bioimage-io/spec-bioimage-io). The output is as large as the
input: a valid network mirrors the image at its border, as the paper does, and a padded one adds zeros. The pixels that
saw those instead of the image are the halo, which programs throw away where tiles meet; geometry.py knows how many.

A package describes one way of scaling grey values (grey_scaling.py): that of the network's training images. A network
that knows 8 bits and others can be packed for either; the type of --image decides.
"""

import copy
import hashlib
import io
import os
import tempfile
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from npunet import geometry, tiling
from npunet.datasets.synthetic import synthetic
from npunet.errors import InputError
from npunet.export.grey_scaling import GreyScaling
from npunet.export.yaml_text import to_yaml
from npunet.files import images, onnx_unet
from npunet.files.images import GreyRule
from npunet.files.onnx_messages import OPERATOR_SET
from npunet.files.whole_file import atomic_write
from npunet.machine.backend import to_cpu, to_device

FORMAT_VERSION = "0.5.4"
TEST_SIDE = 256  # pixels, about: of the test picture
COVER_SIDE = 256
PAPER = {
    "text": "Ronneberger, Fischer, Brox: U-Net: Convolutional Networks for Biomedical Image Segmentation. MICCAI 2015",
    "doi": "10.1007/978-3-319-24574-4_28",
}
README = """# {name}

{description}

A U-Net, variant "{variant}", written by npunet. Input: {channels} channel(s), {scaling}. Output: {output}.
{sizes}

## Validation

Predict images whose masks are known and were not used in training, and compare: `python -m npunet.evaluate --model
FILE --data FOLDER` gives intersection over union, Dice and the measures of the ISBI challenge.
"""


def save_package(
    net, path, *, name=None, description=None, authors=(), licence=None, image=None, weights="float32", scale=1.0
):
    """Write the package of a network, at once or not at all.

    path : ends in .zip
    name, description, authors (names), licence (an SPDX identifier) : what the zoo shows
    image : path of a picture for the test tensors and the cover; without it one is made up
    weights : "float32" or "float16"
    scale : size of the pictures that the network was trained on, relative to those on the disk; for the documentation
    Raises InputError for a name that is not .zip, a picture that does not fit the network, or what cannot be written.
    """
    if Path(path).suffix.lower() != ".zip":
        raise InputError(f"{path}: a bioimage.io package is a zip file; expected a name such as model.zip")
    scaling, picture = test_picture(net, image)
    expected = run(net if weights == "float32" else with_rounded_weights(net), picture, scaling)
    name = name or f"U-Net {net.config['variant']} {net.in_channels} to {net.n_classes} channels"
    description = description or "A U-Net trained with npunet."
    text = documentation(net, name, description, scaling, scale)
    model = onnx_bytes(net, weights)
    rdf = description_of(net, name, description, scaling, picture, expected, model) | {
        "authors": [{"name": author} for author in authors],
    }
    if licence:
        rdf["license"] = licence
    content = {
        "rdf.yaml": to_yaml(rdf).encode(),
        "model.onnx": model,
        "test_input.npy": npy_bytes(picture),
        "test_output.npy": npy_bytes(expected),
        "README.md": text.encode(),
        "cover.png": cover(scaling.scaled(picture), expected),
    }
    with atomic_write(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry, data in content.items():
            archive.writestr(zipfile.ZipInfo(entry), data, zipfile.ZIP_DEFLATED)


def test_picture(net, path) -> tuple[GreyScaling, np.ndarray]:
    """How it is scaled, and (1, C, H, W) as stored: the middle of a picture, mirrored where it is smaller than the
    side. Without a path one is made up, of 16 bits if the network has seen other pixels than those of 8.
    """
    rule = GreyRule.of(net.grey_rule) if net.grey_rule else None
    side = max(TEST_SIDE, block_rule(net)[1])
    if path is None:
        grey, scaling = synthetic(1, 512).samples[0].image, GreyScaling.of(rule)
        image = np.repeat(grey.reshape(*grey.shape[:2], -1)[:, :, :1], net.in_channels, axis=2)
    else:
        stack = images.open_image(path, rule or GreyRule())
        scaling = GreyScaling.of(rule, np.uint8 if stack.stored.kind == "b" else stack.stored)
        image = images.with_channels(stack[0], net.in_channels, path)
    top, left = ((length - side) // 2 for length in image.shape[:2])
    part = tiling.gather(image, top, left, side, side)  # (side, side, C) in 0..1
    return scaling, scaling.stored(part).transpose(2, 0, 1)[None]  # (1, C, side, side)


def block_rule(net):
    """Halo of the output, smallest side and step of the input, in pixels: 96, 256 and 16 for depth 4.

    The network takes smaller images too; but of a block little is left within its halo.
    """
    halo, grid = onnx_unet.tile_rule(net, mirror=True)["halo"], 2**net.depth
    return halo, 2 * halo + 4 * grid, grid


def run(net, picture, scaling) -> np.ndarray:
    """(1, C, H, W) as in the file -> what the ONNX file is to compute from it, by npunet: (1, K, H, W) float32."""
    scaled = scaling.scaled(np.moveaxis(picture[0], 0, -1))  # (H, W, C)
    if net.tanh:
        found = to_cpu(net.forward(to_device(scaled[None].astype(net.dtype), net.device)))[0]
    else:  # in one tile
        tile = geometry.input_size_for(max(scaled.shape[:2]), net.depth, net.options.padding)
        found = tiling.predict(net, scaled, tile)
    return np.ascontiguousarray(np.moveaxis(found, -1, 0)[None], np.float32)


def with_rounded_weights(net):
    """A copy whose convolutions have the weights that a float16 file has."""
    twin = copy.deepcopy(net)
    for parameter in twin.parameters.values():
        if parameter.value.ndim == 4:
            parameter.value = parameter.value.astype(np.float16).astype(twin.dtype)
    return twin


def description_of(net, name, description, scaling, picture, expected, model) -> dict:
    """The content of rdf.yaml."""
    output = onnx_unet.PICTURE if net.tanh else onnx_unet.PROBABILITIES
    return {
        "format_version": FORMAT_VERSION,
        "type": "model",
        "name": name,
        "description": description,
        "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
        "cite": [PAPER],
        "tags": ["unet", "2d", "npunet"] + ([] if net.tanh else ["segmentation", "semantic-segmentation"]),
        "documentation": "README.md",
        "covers": ["cover.png"],
        "inputs": [
            {
                "id": onnx_unet.INPUT,
                "axes": [{"type": "batch"}, channel_axis(net.in_channels, "channel"), *input_axes(net)],
                "data": {"type": picture.dtype.name},
                "test_tensor": {"source": "test_input.npy"},
                "preprocessing": scaling.steps(),
            }
        ],
        "outputs": [
            {
                "id": output,
                "axes": [{"type": "batch"}, channel_axis(expected.shape[1], "class"), *output_axes(net)],
                "data": {"type": "float32", "range": [-1.0 if net.tanh else 0.0, 1.0]},
                "test_tensor": {"source": "test_output.npy"},
            }
        ],
        "weights": {
            "onnx": {
                "source": "model.onnx",
                "sha256": hashlib.sha256(model).hexdigest(),
                "opset_version": OPERATOR_SET,
            }
        },
    }


def channel_axis(count, word):
    return {"type": "channel", "channel_names": [f"{word}{number}" for number in range(count)]}


def input_axes(net):
    _, smallest, step = block_rule(net)
    return [{"type": "space", "id": axis, "size": {"min": smallest, "step": step}} for axis in "yx"]


def output_axes(net):
    halo, _, _ = block_rule(net)
    sizes = {axis: {"tensor_id": onnx_unet.INPUT, "axis_id": axis} for axis in "yx"}
    return [{"type": "space", "id": axis, "size": size, "halo": halo} for axis, size in sizes.items()]


def documentation(net, name, description, scaling, scale):
    halo, smallest, step = block_rule(net)
    border = "zeros" if net.options.padding else "the mirrored image"
    sizes = (
        f"Sides of {smallest} pixels, or more in steps of {step}; where tiles meet, the outer {halo} pixels of each "
        f"side of a tile's output saw {border} instead of the image and do not count."
    )
    if scale != 1:
        sizes += f"\nIt was trained on pictures at {scale:g} of their size; make yours smaller alike."
    output = "a picture" if net.tanh else f"probabilities of {net.n_labels} classes"
    if net.mask_values:
        output += f", in the masks of training {net.mask_values}"
    return README.format(
        name=name,
        description=description,
        variant=net.config["variant"],
        channels=net.in_channels,
        scaling=scaling,
        output=output,
        sizes=sizes,
    )


def onnx_bytes(net, weights) -> bytes:
    """The network as an ONNX file: the output as large as the input, probabilities where it tells classes apart."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx_unet.save(net, path, softmax=not net.tanh, mirror=True, weights=weights)
        return path.read_bytes()


def npy_bytes(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def cover(scaled, expected) -> bytes:
    """A PNG, twice as wide as high: the picture in 0..1, and beside it class 1 (or the picture made)."""
    left = scaled[0, 0]
    right = expected[0, min(1, expected.shape[1] - 1)]
    halves = [centre(half) for half in (left, (right + 1) / 2 if right.min() < 0 else right)]
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "cover.png")
        images.write_image(path, np.hstack(halves).astype(np.float32))
        return Path(path).read_bytes()


def centre(grey):
    """The middle of (H, W), or all of it in the middle of black: (COVER_SIDE, COVER_SIDE)."""
    result = np.zeros((COVER_SIDE, COVER_SIDE))
    side = min(COVER_SIDE, *grey.shape)
    inside, outside = ((np.array(shape) - side) // 2 for shape in (result.shape, grey.shape))
    result[inside[0] : inside[0] + side, inside[1] : inside[1] + side] = grey[
        outside[0] : outside[0] + side, outside[1] : outside[1] + side
    ]
    return result
