"""VGG19 and VGG16 up to any layer:
the eye of style transfer, which is never trained (Simonyan and Zisserman 2015, arXiv 1409.1556).

Five blocks of padded 3x3 convolutions, each followed by ReLU; 2x2 max-pooling after each block:

    block       1        2         3         4         5
    channels    64       128       256       512       512
    VGG19       1_1 1_2  2_1 2_2   3_1..3_4  4_1..4_4  5_1..5_4
    VGG16       1_1 1_2  2_1 2_2   3_1..3_3  4_1..4_3  5_1..5_3

**Names.** "conv3_4" is the fourth convolution of block 3 *after* its ReLU, and "relu3_4" is another name for the same
map. In torchvision's network the ReLUs work in place, so that who picks module 16 out of `features` gets this map too,
whatever it is called there.

**Input.** Pictures (N, H, W, 3), RGB in 0..1. ImageNet's mean is taken off and its standard deviation divided out in
here, and the gradient is divided by it again on the way back: callers live in 0..1.

**Backward** goes to the picture only. A convolution that is not trained needs no weight gradient, so going back through
it is exactly one more convolution: of the gradient, zero where the ReLU cut off, with the flipped kernel (derivation in
ops/convolution.py); padding 1 stays 1. It asks only for the sign of each layer's output, so forward keeps one map a
layer, and nothing is computed above the last layer asked for.

**Two scales of weights.** Networks trained by torchvision saw pictures of standard deviation 1. The authors' own, for
Caffe, saw 0..255; in files converted from it, with that folded into the first layer, all feature maps are some 58 = 255
* 0.226 times as large (ReLU networks are homogeneous), so that content losses are 58^2 and style losses 58^4 times as
large, and 1e6 would mean something else. `VGG.unit` tells which.

It corrects the factor that all layers share, and no more. In a ReLU network a layer may be s times as strong if the
next one is 1/s times: all later maps stay as they are, and only this layer's style loss changes, by s^4. Two networks
that were trained apart may differ in that. On the demo's pair, with the file from Caffe, conv1_2 has 22 times the
style loss of conv2_2 and rules the training; the picture that the demo's author got with torchvision's weights left
conv1_2's loss as it was and lowered conv2_2's to a third (benchmarks/results/style_faithful.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from npunet import initialization, ops
from npunet.errors import InputError
from npunet.files import torch_files
from npunet.machine import memory
from npunet.machine.backend import Array, array_module, resolve_device, to_device
from npunet.machine.bands import each_band
from npunet.machine.shapes import flipped
from npunet.machine.threads import blas_on_one_thread

KINDS = {"vgg19": (2, 2, 4, 4, 4), "vgg16": (2, 2, 3, 3, 3)}  # convolutions of each block
CHANNELS = (64, 128, 256, 512, 512)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pictures, in 0..1


def chain(kind: str) -> list[tuple[str, int]]:
    """The layers in order: [(name, torchvision's module number)], "conv1_1" 0, "conv1_2" 2, "pool1" 4, "conv2_1" 5, ...

    with ReLUs between.
    """
    layers, number = [], 0
    for block, count in enumerate(KINDS[kind], start=1):
        for place in range(1, count + 1):
            layers.append((f"conv{block}_{place}", number))
            number += 2  # the convolution and its ReLU
        layers.append((f"pool{block}", number))
        number += 1
    return layers


def weight_shape(kind: str, name: str) -> tuple[int, ...]:
    """(3, 3, C, K) of one of the convolutions of `chain`."""
    block, place = int(name[4]), int(name[6:])
    channels = CHANNELS[block - 1] if place > 1 else (3, *CHANNELS)[block - 1]
    return 3, 3, channels, CHANNELS[block - 1]


class VGG:
    """A VGG network as far as its weights go.

    weights: {"conv1_1": (weight (3, 3, C, K), bias (K,)), ...}, an unbroken run from the first layer on. Use `load` or
    `random`. unit: 1, or 58 if the weights are of Caffe's scale (see above); the losses divide features by it.
    """

    def __init__(
        self,
        weights: dict[str, tuple[np.ndarray, np.ndarray]],
        kind: str = "vgg19",
        *,
        device: str = "cpu",
        dtype: DTypeLike = "float32",
    ) -> None:
        self.kind, self.dtype, self.device = kind, np.dtype(dtype), resolve_device(device)
        self.weights = {
            name: tuple(to_device(np.ascontiguousarray(array, self.dtype), self.device) for array in pair)
            for name, pair in weights.items()
        }
        self.context: list | None = None
        self.turned = {}  # the flipped kernels, kept after the first backward pass: to flip one takes NumPy long
        size = float(np.sqrt(np.mean(np.square(weights["conv1_1"][0], dtype=np.float64)))) if weights else 0.0
        self.unit = 255 * sum(STD) / 3 if size > 1 else 1.0  # torchvision's 0.2, Caffe's 11

    @classmethod
    def load(cls, path: str | Path, *, device: str = "cpu", dtype: DTypeLike = "float32") -> VGG:
        """From torchvision's .pth, or .safetensors:
        the whole network or `features` alone, cut off after any layer, float16 or float32.

        Raises InputError if the file holds no such network.
        """
        tensors, _ = torch_files.load_tensors(path)
        stem = "features." if any(name.startswith("features.") for name in tensors) else ""
        found = sorted(
            int(number)
            for name in tensors
            if name.startswith(stem)
            for number, _, rest in [name.removeprefix(stem).partition(".")]
            if number.isdigit() and rest == "weight"
        )
        for kind in KINDS:
            convolutions = [(name, number) for name, number in chain(kind) if name.startswith("conv")]
            if found and found == [number for _, number in convolutions[: len(found)]]:
                break
        else:
            raise InputError(
                f"{path}: no VGG16 or VGG19 of torchvision; expected features.0.weight, features.2.weight and so on "
                f"(found modules {str(found[:6])[1:-1] or 'none'}); networks with batch normalisation do not fit"
            )
        weights = {}
        for name, number in convolutions[: len(found)]:
            weight, bias = tensors[f"{stem}{number}.weight"], tensors.get(f"{stem}{number}.bias")
            height, width, channels, outputs = weight_shape(kind, name)
            if weight.shape != (outputs, channels, height, width) or bias is None or bias.shape != (outputs,):
                raise InputError(
                    f"{path}: {stem}{number}.weight has shape {weight.shape}; {kind} has {(outputs, channels, 3, 3)} "
                    f"there, with a bias"
                )
            weights[name] = weight.transpose(2, 3, 1, 0), bias  # (K, C, 3, 3) -> (3, 3, C, K)
        return cls(weights, kind, device=device, dtype=dtype)

    @classmethod
    def random(cls, kind: str = "vgg19", seed: int = 0, *, device: str = "cpu", dtype: DTypeLike = "float32") -> VGG:
        """All layers with random weights, N(0, sqrt(2 / N)), for those who have no file.

        What to expect: its first layers are filters enough that their Gram matrices carry colours and fine texture
        (Ustyuzhaninov et al. 2016, arXiv 1606.00021), but it has never seen a picture: no brush strokes or larger
        shapes of a style.
        """
        rng = np.random.default_rng(seed)
        weights = {}
        for name, _ in chain(kind):
            if name.startswith("conv"):
                shape = weight_shape(kind, name)
                weights[name] = (
                    initialization.gaussian(shape, 9 * shape[2], rng, dtype),
                    initialization.zeros(shape[3], dtype),
                )
        return cls(weights, kind, device=device, dtype=dtype)

    @property
    def layers(self) -> list[str]:
        """Names of the convolutions that it has weights for."""
        return list(self.weights)

    def checked(self, layers: Sequence[str]) -> list[str]:
        """The names as this class spells them, "relu3_4" as "conv3_4". Raises InputError for one that is not there."""
        names = [name.replace("relu", "conv", 1) for name in layers]
        for name in names:
            if name not in self.weights:
                known = name in dict(chain(self.kind))
                raise InputError(
                    f"layer {name}: "
                    f"{'no weights for it in this file' if known else f'{self.kind} has none of that name'}; "
                    f"there are {', '.join(self.weights)}"
                )
        return names

    @blas_on_one_thread()
    def forward(self, image: Array, layers: Sequence[str], train: bool = True) -> dict[str, Array]:
        """Pictures (N, H, W, 3) in 0..1 -> {layer: (N, h, w, C)}, after the ReLU;
        nothing above the last of `layers` is computed.

        With train=False nothing is kept for backward. Raises InputError for a layer or picture that does not fit.
        """
        names = dict(zip(self.checked(layers), layers, strict=True))
        if image.ndim != 4 or image.shape[3] != 3:
            raise InputError(f"pictures have shape {image.shape}; expected (N, H, W, 3), RGB")
        xp = array_module(image)
        mean, std = (xp.asarray(np.array(values, self.dtype)) for values in (MEAN, STD))
        x = (image.astype(self.dtype, copy=False) - mean) / std
        features: dict[str, Array] = {}
        kept: list = []
        for name, _ in chain(self.kind):
            if len(features) == len(names):
                break
            if name.startswith("pool"):
                if min(x.shape[1:3]) < 2:
                    height, width = image.shape[1:3]
                    raise InputError(
                        f"pictures of {height} x {width} pixels are too small for {', '.join(layers)}; give larger ones"
                    )
                x, ctx = ops.max_pool2d(x)
                kept.append((name, ctx))
            else:
                x, _ = ops.conv2d(x, *self.weights[name], padding=1, relu=True)
                kept.append((name, x))
            if name in names:
                features[names[name]] = x
        self.context = kept if train else None
        return {name: features[name] for name in layers}

    @blas_on_one_thread()
    def backward(self, gradients: dict[str, Array]) -> Array:
        """{layer: dL/dfeatures} for layers of the last forward(train=True) -> dL/dpicture (N, H, W, 3);
        uses up what forward kept.
        """
        if self.context is None:
            raise RuntimeError(
                "VGG.backward: no forward pass to go back through; call forward(image, layers) once before each "
                "backward"
            )
        kept, self.context = self.context, None
        gradients = dict(zip(self.checked(list(gradients)), gradients.values(), strict=True))
        xp, dx = array_module(next(iter(gradients.values()))), None
        while kept:
            name, ctx = kept.pop()  # each map's memory is free again as soon as it has been used
            if name.startswith("pool"):
                dx = None if dx is None else ops.max_pool2d_backward(dx, ctx)
                continue
            arriving = [gradient for gradient in (dx, gradients.get(name)) if gradient is not None]
            if arriving:
                dz = through_relu(arriving, ctx)
                if name not in self.turned:
                    self.turned[name] = xp.ascontiguousarray(flipped(self.weights[name][0]))
                dx, _ = ops.conv2d(dz, self.turned[name], padding=1)
        return dx / xp.asarray(np.array(STD, self.dtype))


def through_relu(gradients: Sequence[Array], y: Array) -> Array:
    """The sum of one or two gradients (N, H, W, C) where y > 0, else 0: a new array."""
    xp = array_module(y)
    dz = memory.empty(y.shape, y.dtype, xp)

    def one_band(image, rows):
        part = dz[image, rows]
        xp.multiply(gradients[0][image, rows], y[image, rows] > 0, out=part)
        for other in gradients[1:]:
            part += other[image, rows] * (y[image, rows] > 0)

    each_band(one_band, touches=(y, dz, *gradients))
    return dz
