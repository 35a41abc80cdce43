"""A .caffemodel without Caffe: the layers of a network with their weights, and nothing that could be run.

The file is one protobuf message, NetParameter of caffe.proto (https://github.com/BVLC/caffe, src/caffe/proto). Its
layers stand in field 2, as Caffe wrote them until 2014 and the authors of the U-Net in 2015, or in field 100, as it
writes them since. What is needed of a layer is its name, its blobs (weights and bias), and two settings that change
what a network of the same names computes: the padding of a convolution, and the slope of a ReLU below 0.
"""

import math
import os
import struct
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from npunet.errors import InputError
from npunet.files import protobuf
from npunet.files.torch_files.tensors import shown

LARGEST = 2**31 - 1  # bytes of a protobuf message
MOST_LAYERS, MOST_BLOBS, MOST_SIDES, LONGEST_NAME = 1000, 8, 8, 200
# Field numbers of name, blobs, convolution_param and relu_param in the two kinds of layer.
LAYER_KINDS = {2: (4, 6, 10, 30), 100: (1, 7, 106, 123)}
PADDINGS, NEGATIVE_SLOPE = (3, 9, 10), 1  # of a convolution: both sides, height, width; of a ReLU
LEGACY_SIDES, NUMBERS, SHAPE = (1, 2, 3, 4), {5: "<f4", 8: "<f8"}, 7  # of a blob


@dataclass
class CaffeLayer:
    """A layer: its blobs, read-only views into the file's bytes, and the two settings."""

    name: str = ""
    blobs: list = field(default_factory=list)
    padding: int = 0
    negative_slope: float = 0.0


def read_caffemodel(path) -> list[CaffeLayer]:
    """The layers of the file in its order; blobs as Caffe has them, for example (C_out, C_in, kh, kw).

    Memory is that of the file's bytes. Raises InputError (one line, with the file's name) if it cannot be read, is
    damaged or something else.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise InputError("is a folder; expected a file" if path.is_dir() else "no such file")
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > LARGEST:
                raise InputError(f"has {size:,} bytes; expected a .caffemodel, at most {LARGEST:,}")
            data = file.read()
        layers = _read_network(memoryview(data))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return layers


def _read_network(data):
    layers = []
    for number, wire, value in protobuf.read_fields(data):
        if wire == protobuf.BYTES and number in LAYER_KINDS:
            if len(layers) == MOST_LAYERS:
                raise InputError(f"has more than {MOST_LAYERS} layers; expected a .caffemodel of a U-Net")
            layers.append(_read_layer(value, *LAYER_KINDS[number]))
    if not any(layer.blobs for layer in layers):
        raise InputError("holds no layers with weights; expected a .caffemodel")
    return layers


def _read_layer(data, name, blobs, convolution, relu):
    layer = CaffeLayer()
    for number, wire, value in protobuf.read_fields(data):
        if wire != protobuf.BYTES:
            continue
        if number == name:
            layer.name = _read_name(value)
        elif number == blobs:
            if len(layer.blobs) == MOST_BLOBS:
                raise InputError(f"has a layer with more than {MOST_BLOBS} blobs; expected weights and bias")
            layer.blobs.append(_read_blob(value))
        elif number == convolution:
            layer.padding = _read_padding(value)
        elif number == relu:
            layer.negative_slope = _read_slope(value)
    return layer


def _read_padding(data):
    """The largest of a convolution's paddings."""
    found = [value for number, _, value in protobuf.read_fields(data) if number in PADDINGS]
    return max([0, *(value if isinstance(value, int) else max(value, default=0) for value in found)])


def _read_slope(data):
    for number, wire, value in protobuf.read_fields(data):
        if (number, wire) == (NEGATIVE_SLOPE, protobuf.FOUR_BYTES):
            return struct.unpack("<f", value)[0]
    return 0.0


def _read_name(value):
    try:
        if len(value) <= LONGEST_NAME:
            return bytes(value).decode("utf-8")
    except UnicodeDecodeError:
        pass
    raise InputError(f"has a layer whose name is not text of at most {LONGEST_NAME} bytes; it is damaged")


def _read_blob(data):
    """A blob as an array, a view of `data`."""
    legacy, sides, numbers = {}, None, None
    for number, wire, value in protobuf.read_fields(data):
        if number in LEGACY_SIDES and wire == protobuf.VARINT:
            legacy[number] = value
        elif number == SHAPE and wire == protobuf.BYTES:
            sides = _read_sides(value)
        elif number in NUMBERS and wire == protobuf.BYTES and numbers is None:
            numbers = value, NUMBERS[number]
        elif number in NUMBERS:
            raise InputError("has a blob whose numbers do not stand side by side; save it with Caffe again")
    sides = sides if sides is not None else [legacy.get(number, 0) for number in LEGACY_SIDES]
    raw, dtype = numbers or (memoryview(b""), "<f4")
    if not raw or math.prod(sides) * np.dtype(dtype).itemsize != len(raw):
        raise InputError(f"has a blob of shape {shown(sides)} with {len(raw):,} bytes of numbers; it is damaged")
    return np.frombuffer(raw, dtype).reshape(sides)


def _read_sides(data):
    """BlobShape: its sides, each a field or all side by side."""
    sides = []
    for number, wire, value in protobuf.read_fields(data):
        if number == 1:
            sides += [value] if wire == protobuf.VARINT else protobuf.read_integers(value, MOST_SIDES)
        if len(sides) > MOST_SIDES:
            raise InputError(f"has a blob with more than {MOST_SIDES} axes; it is damaged")
    return sides
