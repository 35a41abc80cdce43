"""The network (§2, Fig. 1): a contracting path, an expansive path, and the mirror image of both for training.

Fig. 1 for a 572 x 572 tile, one channel in, two classes out (sizes are sides; every 3x3 convolution is
valid and followed by ReLU):

    level 0   572 -> 570 -> 568  64 ----------- crop, concatenate -----------> 392 -> 390 -> 388  64 -> 1x1 -> 2
    level 1     284 -> 282 -> 280  128 -------- crop, concatenate --------> 200 -> 198 -> 196  128
    level 2       140 -> 138 -> 136  256 ------ crop, concatenate -----> 104 -> 102 -> 100  256
    level 3          68 -> 66 -> 64  512 ------ crop, concatenate --> 56 -> 54 -> 52  512
    bottleneck          32 -> 30 -> 28  1024

Down a level: 2x2 max-pooling, channels double. Up a level: 2x2 up-convolution, channels halve, then
concatenation with the central part of the feature map of the same level. "In total the network has 23 convolutional
layers" (§2): two at each of nine stations, four up-convolutions, and the last 1x1 convolution.

npunet/plain.py is the same on one page of NumPy; npunet/variants.py lists the other networks that are called U-Net.
"""

from pathlib import Path
from typing import Any

import numpy as np

from npunet import geometry, tiling
from npunet.files import formats, images
from npunet.gpu import sixteen_bits
from npunet.layers import (
    NORMS,
    Convolution,
    CropConcat,
    Dropout,
    Layer,
    MaxPooling,
    PadConcat,
    Parameter,
    Statistic,
    Tanh,
    UpConvolution,
    Upsampling,
    watched,
)
from npunet.machine.backend import Array, resolve_device, to_device
from npunet.machine.threads import blas_on_one_thread
from npunet.variants import VARIANTS, check_images, checked_config, flag


class DoubleConvolution(Layer):
    """One station of the U: "the repeated application of two 3x3 convolutions (unpadded convolutions), each followed by
    a rectified linear unit (ReLU)" (§2). (N, H, W, C) -> (N, H - 4, W - 4, K).

    With `recompute` it keeps its input instead of its layers' contexts, and runs forward once more before it goes back:
    more time for less memory (Chen et al. 2016, arXiv 1604.06174; measured in benchmarks/recompute.py).
    """

    def __init__(
        self, channels: int, out_channels: int, middle: int, *, norm: str, recompute: bool, **options: Any
    ) -> None:
        """middle: channels between the two convolutions. options: padding, rng and dtype of both."""
        options |= dict(bias=not norm, relu=not norm)
        self.conv1 = Convolution(channels, middle, 3, **options)
        self.norm1 = NORMS[norm](middle, dtype=options["dtype"]) if norm else None
        self.conv2 = Convolution(middle, out_channels, 3, **options)
        self.norm2 = NORMS[norm](out_channels, dtype=options["dtype"]) if norm else None
        self.recompute = recompute

    @property
    def layers(self) -> dict[str, Layer]:
        return {name: layer for name, layer in vars(self).items() if isinstance(layer, Layer)}

    def forward(self, x: Array, train: bool) -> Array:
        y = x
        for layer in self.layers.values():
            y = layer.forward(y, train)
            if train and self.recompute:
                layer.forget()
        self.keep(x, train and self.recompute)
        return y

    def backward(self, dy: Array, need_dx: bool = True) -> Array | None:
        if self.recompute:
            y = self.go_back(lambda dy, x: x, dy)
            for layer in self.layers.values():
                y = layer.forward_again(y)
        _, *layers = self.layers.values()
        for layer in reversed(layers):
            dy = layer.backward(dy)
        return self.conv1.backward(dy, need_dx)


class UNet:
    """The U-Net (§2).

    in_channels     channels of the image: 1 grey, 3 RGB
    n_classes       channels of the output, one logit for each class. 1 is a single logit for two classes: its sigmoid
                    is the probability of class 1. `n_labels` is the number of classes, 2 in both cases.
    base_channels   channels of the first level; 64 in the paper
    depth           number of poolings; 4 in the paper
    variant         a row of npunet.variants.VARIANTS; "paper" is Fig. 1
    bilinear        upsampling without parameters, for variants "pytorch-unet", "style" and "painter"
    dropout         rate of the drop-out layers at the end of the contracting path, at least 0 and below 1
    device          "cpu", "gpu" or "auto"
    dtype           "float32" or "float64", of weights and feature maps
    seed            of the initial weights and of drop-out: an integer, at least 0
    input_mean, input_std   the network sees (x - input_mean) / input_std. Training sets them to the grey values'
                    statistics, because ReLU networks learn faster from centred images.
    recompute       less memory and more time in training

    Raises InputError for an option that cannot be used, too little memory for the weights, or no usable GPU.
    """

    def __init__(
        self,
        in_channels: int = 1,
        n_classes: int = 2,
        base_channels: int = 64,
        depth: int = 4,
        *,
        variant: str = "paper",
        bilinear: bool = False,
        dropout: float = 0.5,
        device: str = "cpu",
        dtype: str = "float32",
        seed: int = 0,
        input_mean: float = 0.0,
        input_std: float = 1.0,
        recompute: bool = False,
    ) -> None:
        sizes = dict(in_channels=in_channels, n_classes=n_classes, base_channels=base_channels, depth=depth)
        rest = dict(variant=variant, seed=seed, input_mean=input_mean, input_std=input_std)
        self.config = checked_config(bilinear, dropout, dtype, **sizes, **rest)  # plain types: it becomes JSON
        self.in_channels, self.n_classes = self.config["in_channels"], self.config["n_classes"]
        self.input_mean, self.input_std = self.config["input_mean"], self.config["input_std"]
        self.mask_values = self.cutting = self.grey_rule = None  # of its training data: files.checkpoint.KNOWN
        self.options, self.depth = VARIANTS[variant], self.config["depth"]
        self.bilinear, self.recompute = flag("bilinear", bilinear), flag("recompute", recompute)
        self.dtype, self.device = np.dtype(self.config["dtype"]), resolve_device(device)
        self.rng = np.random.default_rng(seed)
        self._build(self.config["base_channels"], self.config["dropout"])
        for held in (self.parameters, self.statistics):
            for array in held.values():
                array.value = to_device(array.value, self.device)

    def _build(self, base_channels, dropout):
        """The layers of Fig. 1. Their initial weights are drawn in this order."""
        options, make = self.options, dict(rng=self.rng, dtype=self.dtype)
        block = make | dict(padding=options.padding, norm=options.norm, recompute=self.recompute)
        # "At each downsampling step we double the number of feature channels" (§2).
        widths = [base_channels * 2**level for level in range(self.depth + 1)]  # 64, 128, 256, 512, 1024
        # An up-convolution halves the channels. Interpolation cannot, so the convolutions before it do.
        leaving = [widths[0], *widths[:-1]] if self.bilinear else widths
        self.contracting = [
            DoubleConvolution(before, width, width, **block)
            for before, width in zip([self.in_channels, *widths], widths[:-1])
        ]
        self.pools = [MaxPooling() for _ in self.contracting]
        self.bottleneck = DoubleConvolution(widths[-2], leaving[-1], leaving[-1], **block)
        self.ups, self.concats, self.expansive = {}, {}, {}
        for level in reversed(range(self.depth)):
            halves = level > 0 or not options.last_up_keeps_channels
            upsampled = widths[level] if halves else widths[level + 1]
            if self.bilinear:
                self.ups[level] = Upsampling()
            else:
                self.ups[level] = UpConvolution(widths[level + 1], upsampled, relu=options.relu_after_up, **make)
            self.concats[level] = PadConcat() if options.pads_upsampled else CropConcat()
            self.expansive[level] = DoubleConvolution(upsampled + widths[level], leaving[level], widths[level], **block)
        # "At the final layer a 1x1 convolution is used to map each 64-component feature vector to the desired number
        # of classes" (§2).
        self.output = Convolution(widths[0], self.n_classes, 1, relu=False, **make)
        self.tanh = Tanh() if options.tanh else None
        # "Drop-out layers at the end of the contracting path perform further implicit data augmentation" (§3.1).
        first = self.depth + 1 - options.dropout_levels  # Fig. 1: the bottleneck alone
        self.dropouts = [Dropout(dropout if level >= first else 0.0, self.rng) for level in range(self.depth + 1)]

    @blas_on_one_thread()  # the operations share their work among threads themselves
    def forward(self, x: Array, train: bool = False) -> Array:
        """Images x (N, H, W, in_channels) -> logits (N, H', W', n_classes); H' = self.output_size(H).

        x must be on the network's device; it is taken in the network's dtype. With train=True dropout and the batch's
        own statistics are at work and what backward needs is kept. Raises InputError for a size or a number of channels
        that does not fit, with the nearest that do.
        """
        check_images(x, self.in_channels)
        for size in x.shape[1:3]:
            self.output_size(size)  # raises InputError, with the nearest valid sizes
        sixteen_bits.check_network(self)  # raises InputError for a layer that has no kernel for --precision bf16
        x = (x.astype(self.dtype, copy=False) - self.input_mean) / self.input_std
        skips = []
        for level in range(self.depth):
            x = self.contracting[level].forward(x, train)
            x = self.dropouts[level].forward(x, train)
            skips.append(x)
            x = self.pools[level].forward(x, train)
        x = self.bottleneck.forward(x, train)
        x = self.dropouts[self.depth].forward(x, train)
        for level in reversed(range(self.depth)):
            x = self.ups[level].forward(x, train)
            x = self.concats[level].forward(x, skips.pop(), train)
            x = self.expansive[level].forward(x, train)
        x = self.output.forward(x, train)
        return self.tanh.forward(x, train) if self.tanh else x

    @blas_on_one_thread()
    def backward(self, dlogits: Array, need_dx: bool = True) -> Array | None:
        """Gradient of the loss by the logits -> fills every parameter's .grad.

        The forward pass read backwards. A feature map with two readers, the pooling and the skip connection, gets the
        sum of both gradients. Returns the gradient by the images, like x, or None with need_dx=False: training does not
        need it and saves a convolution.
        """
        dx = self.tanh.backward(dlogits) if self.tanh else dlogits
        dx = self.output.backward(dx)
        dskips = []
        for level in range(self.depth):
            dx = self.expansive[level].backward(dx)
            dx, dskip = self.concats[level].backward(dx)
            dskips.append(dskip)
            dx = self.ups[level].backward(dx)
        dx = self.dropouts[self.depth].backward(dx)
        dx = self.bottleneck.backward(dx)
        for level in reversed(range(self.depth)):
            dx = self.pools[level].backward(dx, dskips.pop())
            dx = self.dropouts[level].backward(dx)
            dx = self.contracting[level].backward(dx, need_dx=need_dx or level > 0)
        return dx / self.input_std if need_dx else None

    @property
    def layers(self) -> dict[str, Layer]:
        """Every layer by name, in order of use: "contracting.0.conv1", ..., "expansive.0.concat", ..., "output"."""
        layers = {}

        def add(place, named):
            layers.update({f"{place}.{name}": layer for name, layer in named.items()})

        for level, block in enumerate(self.contracting):
            add(f"contracting.{level}", block.layers | {"dropout": self.dropouts[level], "pool": self.pools[level]})
        add("bottleneck", self.bottleneck.layers | {"dropout": self.dropouts[self.depth]})
        for level, block in self.expansive.items():
            add(f"expansive.{level}", {"up": self.ups[level], "concat": self.concats[level]} | block.layers)
        return layers | {"output": self.output} | ({"tanh": self.tanh} if self.tanh else {})

    def feature_maps(self, x: Array) -> dict[str, Array]:
        """The output of every layer in one forward pass: {layer name: (N, H, W, C)}; for looking inside."""
        maps = {}

        def recorded(name, direction, method):
            def record(*arguments):
                maps[name] = sixteen_bits.as_floats(y := method(*arguments))
                return y

            return record

        with watched(self.layers, recorded):
            self.forward(x)
        return maps

    @property
    def parameters(self) -> dict[str, Parameter]:
        """All parameters by name, in order of use: "contracting.0.conv1.weight" and so on."""
        return self._held("parameters")

    @property
    def statistics(self) -> dict[str, Statistic]:
        """The running statistics of batch normalisation, "contracting.0.norm1.running_mean" and so on; {} without."""
        return self._held("statistics")

    def _held(self, kind):
        layers = self.layers.items()
        return {f"{place}.{name}": x for place, layer in layers for name, x in getattr(layer, kind).items()}

    @property
    def n_labels(self) -> int:
        """Number of classes that it tells apart: n_classes, or 2 with a single logit."""
        return max(2, self.n_classes)

    @property
    def n_parameters(self) -> int:
        return sum(parameter.value.size for parameter in self.parameters.values())

    def output_size(self, size: int) -> int:
        """Side of the output for a side of the input. Raises InputError, with what would fit, if it does not fit."""
        if self.options.padding:
            return geometry.padded_output_size(size, self.depth, whole=self.options.pads_upsampled)
        return geometry.output_size(size, self.depth)

    def predict(self, image: np.ndarray, tile: int | None = None, augment: bool = False) -> np.ndarray:
        """Class probabilities of an image of any size and type (§1): (H, W) or (H, W, C) -> (H, W, K) float32."""
        image = images.as_floats(image, images.GreyRule.of(self.grey_rule))
        return tiling.predict(self, image, tile or tiling.default_tile(self), augment=augment)

    def save(self, path: str | Path) -> None:
        """Write the network to one file, whole or not at all: .npz, .onnx, .pth or .safetensors (docs/formats.md)."""
        formats.save(self, path)

    @classmethod
    def load(cls, path: str | Path, device: str = "cpu") -> "UNet":
        """The network in a file: npunet's .npz, milesial/Pytorch-UNet's .pth or .safetensors, or a .caffemodel with the
        layers of the authors' release (docs/formats.md). Raises InputError, with what does not fit.
        """
        return formats.load(cls, path, device)
