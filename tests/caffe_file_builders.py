"""Writes .caffemodel files like those of u-net-release, and runs them, without npunet.

The encoder is Google's protobuf package with the messages of caffe.proto that are needed, declared here; the oracle is
OpenCV's Caffe importer with a network definition written out layer by layer.
"""

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

STRING, BYTES_FLOAT, INT32, INT64, ENUM_AS_INT, MESSAGE = 9, 2, 5, 3, 5, 11
OPTIONAL, REPEATED = 1, 3
CONVOLUTION, DECONVOLUTION, RELU = 4, 39, 18  # V1LayerParameter.LayerType


def messages():
    """{name: class} of the part of caffe.proto that weights need."""
    file = descriptor_pb2.FileDescriptorProto(name="caffe_part.proto", package="caffe", syntax="proto2")

    def declare(name, *fields):
        declared = file.message_type.add(name=name)
        for field, number, label, kind, *rest in fields:
            added = declared.field.add(name=field, number=number, label=label, type=kind)
            if rest and rest[0] == "packed":
                added.options.packed = True
            elif rest:
                added.type_name = f".caffe.{rest[0]}"

    sides = [(side, number, OPTIONAL, INT32) for number, side in enumerate(("num", "channels", "height", "width"), 1)]
    declare("BlobShape", ("dim", 1, REPEATED, INT64, "packed"))
    data = ("data", 5, REPEATED, BYTES_FLOAT, "packed")
    declare("BlobProto", *sides, data, ("shape", 7, OPTIONAL, MESSAGE, "BlobShape"))
    settings = [(name, number, OPTIONAL, INT32) for name, number in (("num_output", 1), ("pad", 3), ("kernel_size", 4))]
    declare("ConvolutionParameter", *settings)
    declare("ReLUParameter", ("negative_slope", 1, OPTIONAL, BYTES_FLOAT))

    def declare_layer(name, numbers, kind):
        declare(
            name,
            ("name", numbers["name"], OPTIONAL, STRING),
            ("type", numbers["type"], OPTIONAL, kind),
            ("bottom", numbers["bottom"], REPEATED, STRING),
            ("top", numbers["top"], REPEATED, STRING),
            ("blobs", numbers["blobs"], REPEATED, MESSAGE, "BlobProto"),
            ("convolution_param", numbers["convolution"], OPTIONAL, MESSAGE, "ConvolutionParameter"),
            ("relu_param", numbers["relu"], OPTIONAL, MESSAGE, "ReLUParameter"),
        )

    old = dict(bottom=2, top=3, name=4, type=5, blobs=6, convolution=10, relu=30)
    new = dict(name=1, type=2, bottom=3, top=4, blobs=7, convolution=106, relu=123)
    declare_layer("V1LayerParameter", old, ENUM_AS_INT)
    declare_layer("LayerParameter", new, STRING)
    declare(
        "NetParameter",
        ("name", 1, OPTIONAL, STRING),
        ("layers", 2, REPEATED, MESSAGE, "V1LayerParameter"),
        ("layer", 100, REPEATED, MESSAGE, "LayerParameter"),
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClassesForFiles(["caffe_part.proto"], pool)


def release_layers(in_channels=1, n_classes=2, base=64, depth=4):
    """The layers of u-net-release: (name, type, bottoms, top, outputs, kernel, inputs), with crops in between."""
    layers, blob, channels = [], "data", in_channels

    def convolution(name, top, outputs, kernel=3, relu=True):
        nonlocal blob, channels
        layers.append((name, "Convolution", [blob], top, outputs, kernel, channels))
        blob, channels = top, outputs
        if relu:
            layers.append((f"relu_{top}", "ReLU", [top], top, 0, 0, 0))

    for level in range(depth + 1):
        convolution(f"conv_d{level}a-b", f"d{level}b", base * 2**level)
        convolution(f"conv_d{level}b-c", f"d{level}c", base * 2**level)
        if level < depth:
            layers.append((f"pool_d{level}c-{level + 1}a", "Pooling", [blob], f"d{level + 1}a", 0, 2, 0))
            blob = f"d{level + 1}a"
    for level in reversed(range(depth)):
        name = f"upconv_d{depth}c_u{level}a" if level == depth - 1 else f"upconv_u{level + 1}d_u{level}a"
        outputs = base * 2 ** (level + (level == 0))
        layers.append((name, "Deconvolution", [blob], f"u{level}a", outputs, 2, channels))
        layers.append((f"relu_u{level}a", "ReLU", [f"u{level}a"], f"u{level}a", 0, 0, 0))
        cut = f"d{level}cc"
        layers.append((f"crop_d{level}c-{cut}", "Crop", [f"d{level}c", f"u{level}a"], cut, 0, 0, 0))
        layers.append((f"concat_{cut}_u{level}a-b", "Concat", [f"u{level}a", cut], f"u{level}b", 0, 0, 0))
        blob, channels = f"u{level}b", outputs + base * 2**level
        convolution(f"conv_u{level}b-c", f"u{level}c", base * 2**level)
        convolution(f"conv_u{level}c-d", f"u{level}d", base * 2**level)
    convolution("conv_u0d-score", "score", n_classes, kernel=1, relu=False)
    return layers


def weights_of(layers, seed=0):
    """{name: (weights, bias)} float32 as Caffe has them, with biases that count."""
    rng, found = np.random.default_rng(seed), {}
    for name, kind, _, _, outputs, kernel, inputs in layers:
        if kind in ("Convolution", "Deconvolution"):
            shape = (outputs, inputs) if kind == "Convolution" else (inputs, outputs)
            spread = np.sqrt(2 / (inputs * (kernel**2 if kind == "Convolution" else 1)))
            weights = rng.normal(0, spread, (*shape, kernel, kernel)).astype(np.float32)
            found[name] = weights, rng.normal(0, 0.1, outputs).astype(np.float32)
    return found


def caffemodel(layers, weights, old=True, slope=0.0, pad=0):
    """The bytes of the file, with the layers of 2014 (`old`) or those of today."""
    network = messages()["caffe.NetParameter"](name="u-net")
    kinds = {"Convolution": CONVOLUTION, "Deconvolution": DECONVOLUTION, "ReLU": RELU}
    for name, kind, bottoms, top, outputs, kernel, _ in layers:
        if old and kind not in kinds:
            continue
        layer = network.layers.add() if old else network.layer.add()
        layer.name, layer.type = name, kinds[kind] if old else kind
        layer.bottom.extend(bottoms)
        layer.top.append(top)
        if kind == "ReLU" and slope:
            layer.relu_param.negative_slope = slope
        for array in weights.get(name, ()):
            layer.convolution_param.num_output, layer.convolution_param.kernel_size = outputs, kernel
            if pad:
                layer.convolution_param.pad = pad
            blob = layer.blobs.add()
            blob.data.extend(array.ravel().tolist())
            if old:
                sides = (1,) * (4 - array.ndim) + array.shape
                blob.num, blob.channels, blob.height, blob.width = sides
            else:
                blob.shape.dim.extend(array.shape)
    return network.SerializeToString()


def prototxt(layers, in_channels, height, width):
    """The definition that OpenCV needs, in Caffe's text format; crops are centred."""
    sides = {"data": (height, width)}
    lines = ['input: "data"', *(f"input_dim: {side}" for side in (1, in_channels, height, width))]
    for name, kind, bottoms, top, outputs, kernel, _ in layers:
        size = np.array(sides[bottoms[0]])
        options = ""
        if kind == "Convolution":
            options = f"convolution_param {{ num_output: {outputs} kernel_size: {kernel} }}"
            size = size - (kernel - 1)
        elif kind == "Deconvolution":
            options = f"convolution_param {{ num_output: {outputs} kernel_size: 2 stride: 2 }}"
            size = 2 * size
        elif kind == "Pooling":
            options = "pooling_param { pool: MAX kernel_size: 2 stride: 2 }"
            size = size // 2
        elif kind == "Crop":
            target = np.array(sides[bottoms[1]])
            top_left = (size - target) // 2
            options = f"crop_param {{ axis: 2 offset: {top_left[0]} offset: {top_left[1]} }}"
            size = target
        named = " ".join(f'bottom: "{bottom}"' for bottom in bottoms)
        lines.append(f'layer {{ name: "{name}" type: "{kind}" {named} top: "{top}" {options} }}')
        sides[top] = tuple(size)
    return "\n".join(lines)


def opencv_output(layers, data, x):
    """What OpenCV computes from the file's bytes for x (1, H, W, C): (1, H', W', K) float32."""
    import cv2

    definition = prototxt(layers, x.shape[3], *x.shape[1:3]).encode()
    network = cv2.dnn.readNetFromCaffe(np.frombuffer(definition, np.uint8), np.frombuffer(data, np.uint8))
    network.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
    network.enableWinograd(False)
    network.setInput(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))
    return network.forward().transpose(0, 2, 3, 1)
