"""python -m benchmarks.onnx_agreement: how far ONNX Runtime and OpenVINO are from npunet, at the paper's width.

Every variant with 64 base channels and depth 4 is written as ONNX and run at three sizes. Biases and statistics are
drawn, so that every number of the file counts. A difference is the largest over all pixels of the logits (the picture,
for "style"), in units of the largest of them, at least 1. The aim is 1e-5. Compared are

    float64     the same network computed by npunet in float64: what the file would give without rounding
    im2col      npunet in float32 with plain matrix products
    forward     npunet as it is, with Winograd's transforms, whose rounding is larger

Needs the extra "formats".
"""

import argparse
import importlib
import importlib.util
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.machine import described
from npunet import UNet, geometry
from npunet.commands import cli
from npunet.files import onnx_unet

NETWORKS = {
    "paper": dict(variant="paper"),
    "release": dict(variant="release"),
    "padded": dict(variant="padded"),
    "pytorch-unet": dict(variant="pytorch-unet", in_channels=3),
    "pytorch-unet, bilinear": dict(variant="pytorch-unet", in_channels=3, n_classes=1, bilinear=True),
    "style": dict(variant="style", in_channels=3, n_classes=3),
    "style, bilinear": dict(variant="style", in_channels=3, n_classes=3, bilinear=True),
}
VALID, PADDED = [(188, 188), (204, 236), (252, 188)], [(128, 128), (100, 131), (77, 190)]


def network(options, base_channels):
    """The network with biases that are not 0, and statistics that batch normalisation has gathered."""
    net, rng = UNet(**options, base_channels=base_channels, input_mean=0.5, input_std=0.3), np.random.default_rng(0)
    for parameter in net.parameters.values():
        if parameter.value.ndim == 1:
            parameter.value = parameter.value + rng.normal(0, 0.1, parameter.value.shape).astype(np.float32)
    for _ in range(30 if net.statistics else 0):
        net.forward(rng.random((1, 64, 64, net.in_channels), dtype=np.float32), train=True)
    return net


def in_float64(net):
    twin = UNet(**net.config | {"dtype": "float64"})
    theirs = [*net.parameters.values(), *net.statistics.values()]
    for ours, array in zip([*twin.parameters.values(), *twin.statistics.values()], theirs):
        ours.value = array.value.astype(np.float64)
    return twin


def by_im2col(net, x):
    """forward with that algorithm for every convolution."""
    convolutions = [layer for layer in net.layers.values() if hasattr(layer, "algorithm")]
    for layer in convolutions:
        layer.algorithm = "im2col"
    y = net.forward(x)
    for layer in convolutions:
        layer.algorithm = "auto"
    return y


def onnx_runtime(path):
    """A function (N, C, H, W) -> (N, K, H', W')."""
    session = importlib.import_module("onnxruntime").InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {onnx_unet.INPUT: x})[0]


def openvino(path):
    core = importlib.import_module("openvino").Core()
    compiled = core.compile_model(core.read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda x: compiled(x)[0]


RUNTIMES = {"onnxruntime": onnx_runtime, "openvino": openvino}  # by their modules


def differences(net, runtimes, sizes):
    """{runtime: largest difference from float64, im2col and forward} over the sizes."""
    twin, found = in_float64(net), {name: [0.0] * 3 for name in runtimes}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        net.save(path)
        runs = {name: make(path) for name, make in runtimes.items()}
        for size in sizes:
            x = np.random.default_rng(1).random((1, *size, net.in_channels), dtype=np.float32)
            ours = twin.forward(x), by_im2col(net, x), net.forward(x)
            unit = max(1, np.abs(ours[0]).max())
            for name, run in runs.items():
                other = np.moveaxis(run(np.ascontiguousarray(np.moveaxis(x, -1, 1))), 1, -1)
                found[name] = [max(old, float(np.abs(y - other).max() / unit)) for old, y in zip(found[name], ours)]
    return found


def main(arguments=None):
    parse = argparse.ArgumentParser(prog="python -m benchmarks.onnx_agreement", description="ONNX files and npunet.")
    parse.add_argument("--base-channels", type=int, default=64, help="channels of the first level (default 64)")
    options = parse.parse_args(arguments)
    runtimes = {name: make for name, make in RUNTIMES.items() if importlib.util.find_spec(name)}
    print(described())
    print(f"python -m benchmarks.onnx_agreement --base-channels {options.base_channels}\n")
    for name in runtimes:
        print(name, importlib.import_module(name).__version__)
    print("\n" + " " * 24 + "".join(f"{name + ':  float64':>24}{'im2col':>10}{'forward':>10}" for name in runtimes))
    for name, chosen in NETWORKS.items():
        net = network(chosen, options.base_channels)
        sizes = PADDED if net.options.padding else [tuple(map(geometry.nearest_valid_size, size)) for size in VALID]
        found = differences(net, runtimes, sizes)
        columns = "".join(f"{a:>24.1e}{b:>10.1e}{c:>10.1e}" for a, b, c in found.values())
        print(f"{name:<24}{columns}", flush=True)


if __name__ == "__main__":
    cli.run(main)
