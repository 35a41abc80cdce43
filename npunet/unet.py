"""The network (§2, Fig. 1): a contracting path, an expansive path, and the mirror image of both for training.

Fig. 1 for a 572 x 572 tile, one channel in, two classes out (sizes are sides; every 3x3 convolution is
valid and followed by ReLU):

    level 0   572 -> 570 -> 568  64 ----------- crop, concatenate -----------> 392 -> 390 -> 388  64 -> 1x1 -> 2
    level 1     284 -> 282 -> 280  128 -------- crop, concatenate --------> 200 -> 198 -> 196  128
    level 2       140 -> 138 -> 136  256 ------ crop, concatenate -----> 104 -> 102 -> 100  256
    level 3          68 -> 66 -> 64  512 ------ crop, concatenate --> 56 -> 54 -> 52  512
    bottleneck          32 -> 30 -> 28  1024

Down a level: 2x2 max-pooling, channels double. Up a level: 2x2 up-convolution, channels halve, then
concatenation with the central part of the feature map of the same level.

The networks that others call U-Net differ from this in a few places; VARIANTS lists them.
"""

from dataclasses import dataclass

import numpy as np

from npunet import geometry
from npunet.errors import InputError
from npunet.files import formats
from npunet.layers import (
    BatchNorm,
    Convolution,
    CropConcat,
    Dropout,
    Layer,
    MaxPooling,
    PadConcat,
    Tanh,
    UpConvolution,
    Upsampling,
)
from npunet.machine.backend import free_memory, resolve_device, to_device
from npunet.machine.threads import blas_on_one_thread


@dataclass(frozen=True)
class Variant:
    """What differs between the networks that are called U-Net; each is a row of options, not a subclass."""

    padding: int = 0  # 1: 3x3 convolutions keep the size, with zeros around
    batch_norm: bool = False  # after each 3x3 convolution, which then has no bias
    relu_after_up: bool = False  # ReLU after each up-convolution
    last_up_keeps_channels: bool = False  # the topmost up-convolution maps 128 to 128 channels instead of 64
    pads_upsampled: bool = False  # [skip, upsampled with zeros around] instead of [upsampled, cropped skip]
    may_be_bilinear: bool = False  # UNet(bilinear=True) replaces the up-convolutions by interpolation
    dropout_levels: int = 0  # how many of the deepest levels end in dropout (1: the bottleneck)
    tanh: bool = False  # at the end: the output is a picture


VARIANTS = {
    "paper": Variant(dropout_levels=1),
    # The Caffe network that the authors published with the paper, u-net-release.
    "release": Variant(relu_after_up=True, last_up_keeps_channels=True, dropout_levels=2),
    # The paper's, with zeros around every 3x3 convolution: what most copies of it do, and an ablation in
    # `npunet.experiments`.
    "padded": Variant(padding=1, dropout_levels=1),
    # github.com/milesial/Pytorch-UNet, and what most people mean today.
    "pytorch-unet": Variant(padding=1, batch_norm=True, pads_upsampled=True, may_be_bilinear=True),
    # From picture to picture, for style transfer.
    "style": Variant(padding=1, may_be_bilinear=True, tanh=True),
}


class DoubleConvolution(Layer):
    """Two convolutions:
    "the repeated application of two 3x3 convolutions (unpadded convolutions), each followed by a rectified linear unit
    (ReLU)" (§2).

    With `recompute` it keeps its input instead of its layers' contexts, and runs forward once more before it goes back:
    more time for less memory (Chen et al. 2016, arXiv 1604.06174; measured in benchmarks/recompute.py).
    """

    def __init__(
        self,
        in_channels,
        out_channels,
        middle_channels=None,
        *,
        padding=0,
        batch_norm=False,
        recompute=False,
        rng,
        dtype,
    ):
        middle_channels = middle_channels or out_channels
        convolution = dict(padding=padding, bias=not batch_norm, relu=not batch_norm, rng=rng, dtype=dtype)
        self.conv1 = Convolution(in_channels, middle_channels, 3, **convolution)
        self.norm1 = BatchNorm(middle_channels, dtype=dtype) if batch_norm else None
        self.conv2 = Convolution(middle_channels, out_channels, 3, **convolution)
        self.norm2 = BatchNorm(out_channels, dtype=dtype) if batch_norm else None
        self.recompute = recompute

    @property
    def layers(self):
        return {name: layer for name, layer in vars(self).items() if isinstance(layer, Layer)}

    def forward(self, x, train):
        y = x
        for layer in self.layers.values():
            y = layer.forward(y, train)
            if train and self.recompute:
                layer.forget()
        self.keep(x, train and self.recompute)
        return y

    def backward(self, dy, need_dx=True):
        if self.recompute:
            y = self.take()
            for layer in self.layers.values():
                y = layer.forward_again(y)
        _, *layers = self.layers.values()
        for layer in reversed(layers):
            dy = layer.backward(dy)
        return self.conv1.backward(dy, need_dx)


def check_size(base_channels, depth, dtype):
    """Raises InputError for a network whose weights alone do not fit into memory, before any is drawn:
    some 30 for each pair of channels at the bottom.
    """
    size = 30 * (base_channels * 2 ** min(depth, 60)) ** 2 * dtype.itemsize
    free = free_memory("cpu")
    if free is not None and size > free:
        raise InputError(
            f"a U-Net with {base_channels} base channels and {depth} poolings has weights of about {size / 1e9:.3g} "
            f"GB, but {free / 1e9:.1f} GB are "
            f"free; give fewer base channels or a smaller depth (the paper's: 64 and 4, 0.1 GB)"
        )


class UNet:
    """The U-Net. in_channels (1 grey, 3 RGB), n_classes, base_channels (64 in the paper), depth (4 poolings).

    variant: a row of VARIANTS; bilinear: upsampling without parameters, for variants "pytorch-unet" and "style".
    n_classes 1 is one logit for two classes (its sigmoid is the probability of class 1). dropout: rate at the end of
    the contracting path. device: "cpu", "gpu" or "auto". dtype: "float32" or "float64". seed: of the initial weights
    and of dropout. input_mean and input_std: the network sees (x - input_mean) / input_std; training sets them to the
    grey values' statistics, because ReLU networks learn faster from centred images. recompute: less memory and more
    time in training. Raises InputError for options that do not exist or a GPU that cannot be used.
    """

    def __init__(
        self,
        in_channels=1,
        n_classes=2,
        base_channels=64,
        depth=4,
        *,
        variant="paper",
        bilinear=False,
        dropout=0.5,
        device="cpu",
        dtype="float32",
        seed=0,
        input_mean=0.0,
        input_std=1.0,
        recompute=False,
    ):
        if variant not in VARIANTS:
            raise InputError(f"variant {variant!r} is not known; expected one of {', '.join(VARIANTS)}")
        if bilinear and not VARIANTS[variant].may_be_bilinear:
            raise InputError(
                f"variant {variant!r} has up-convolutions; bilinear upsampling goes with variants 'pytorch-unet' and "
                f"'style'"
            )
        for name, value in (
            ("in_channels", in_channels),
            ("n_classes", n_classes),
            ("base_channels", base_channels),
            ("depth", depth),
        ):
            if not isinstance(value, (int, np.integer)) or value < 1:
                raise InputError(f"{name} is {value!r}; expected an integer, at least 1")
        if not (np.isfinite(input_mean) and np.isfinite(input_std) and input_std > 0):
            raise InputError(
                f"input_mean {input_mean} and input_std {input_std} are not usable; expected finite numbers, "
                f"input_std above 0"
            )
        if not 0 <= dropout < 1:
            raise InputError(f"dropout is {dropout}; expected at least 0 and below 1")
        dtype = getattr(dtype, "__name__", dtype)  # np.float32, the class, is as good as its name
        if str(dtype) not in ("float32", "float64"):
            raise InputError(f"dtype {dtype} is not supported; expected float32 or float64")
        self.config = dict(
            in_channels=int(in_channels),
            n_classes=int(n_classes),
            base_channels=int(base_channels),
            depth=int(depth),
            variant=variant,
            dropout=float(dropout),
            dtype=str(dtype),
            seed=seed,
            input_mean=float(input_mean),
            input_std=float(input_std),
        )  # plain types: it becomes JSON
        if bilinear:
            self.config["bilinear"] = True
        self.mask_values = None  # the value of each class in the masks it was trained on, a list, if that is known
        self.in_channels, self.n_classes, self.depth = in_channels, n_classes, depth
        self.input_mean, self.input_std = float(input_mean), float(input_std)
        self.dtype, self.device = np.dtype(dtype), resolve_device(device)
        self.rng = np.random.default_rng(seed)
        self.options, self.bilinear, self.recompute = VARIANTS[variant], bool(bilinear), bool(recompute)
        check_size(base_channels, depth, self.dtype)
        self._build(base_channels, self.options, dropout)
        for array in (*self.parameters.values(), *self.statistics.values()):
            array.value = to_device(array.value, self.device)

    def _build(self, base_channels, options, dropout):
        make = dict(rng=self.rng, dtype=self.dtype)
        block = make | dict(padding=options.padding, batch_norm=options.batch_norm, recompute=self.recompute)
        channels = [base_channels * 2**level for level in range(self.depth + 1)]  # 64, 128, 256, 512, 1024
        leaving = channels  # those with which the expansive path leaves a level; up-convolution halves them
        if self.bilinear:  # interpolation cannot, so the second convolution of the level below does
            leaving = [channels[max(level - 1, 0)] for level in range(self.depth + 1)]  # 64, 64, 128, 256, 512
        rates = [dropout if level > self.depth - options.dropout_levels else 0.0 for level in range(self.depth + 1)]
        self.dropouts = [Dropout(rate, self.rng) for rate in rates]
        self.contracting, self.pools = [], []
        previous = self.in_channels
        for level in range(self.depth):
            self.contracting.append(DoubleConvolution(previous, channels[level], **block))
            self.pools.append(MaxPooling())
            previous = channels[level]
        self.bottleneck = DoubleConvolution(previous, leaving[self.depth], **block)
        self.ups, self.concats, self.expansive = {}, {}, {}
        for level in reversed(range(self.depth)):
            keeps_channels = options.last_up_keeps_channels and level == 0
            up_channels = channels[level + 1] if keeps_channels else channels[level]
            self.ups[level] = (
                Upsampling()
                if self.bilinear
                else UpConvolution(channels[level + 1], up_channels, relu=options.relu_after_up, **make)
            )
            self.concats[level] = PadConcat() if options.pads_upsampled else CropConcat()
            self.expansive[level] = DoubleConvolution(
                up_channels + channels[level], leaving[level], channels[level], **block
            )
        self.output = Convolution(channels[0], self.n_classes, 1, relu=False, **make)
        self.tanh = Tanh() if options.tanh else None

    @blas_on_one_thread()  # the operations share their work among threads themselves
    def forward(self, x, train=False):
        """Images x (N, H, W, in_channels) -> logits (N, H', W', n_classes); H' = self.output_size(H).

        x must be on the network's device; it is taken in the network's dtype. With train=True dropout and the batch's
        own statistics are at work and what backward needs is kept. Raises InputError for a size or a number of channels
        that does not fit, with the nearest that do.
        """
        self._check_input(x)
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
    def backward(self, dlogits, need_dx=True):
        """Gradient of the loss by the logits -> fills every parameter's .grad.

        The forward pass read backwards. A feature map with two readers, the pooling and the skip
        connection, gets the sum of the gradients of both. Returns the gradient by the images, like x, or
        None with need_dx=False (training does not need it and saves a convolution).
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
    def layers(self):
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

    def feature_maps(self, x):
        """The output of every layer in one forward pass: {layer name: (N, H, W, C)}; for looking inside."""
        maps, layers = {}, self.layers

        def recorded(name, forward):
            def record(*arguments):
                maps[name] = forward(*arguments)
                return maps[name]

            return record

        for name, layer in layers.items():
            layer.forward = recorded(name, layer.forward)
        try:
            self.forward(x)
        finally:
            for layer in layers.values():
                del layer.forward  # the method of the class is seen again
        return maps

    @property
    def parameters(self):
        """All parameters by name, in order of use: "contracting.0.conv1.weight" and so on."""
        return {
            f"{layer_name}.{name}": parameter
            for layer_name, layer in self.layers.items()
            for name, parameter in layer.parameters.items()
        }

    @property
    def statistics(self):
        """The running statistics of batch normalisation by name, "contracting.0.norm1.running_mean" and so on;
        {} without it.
        """
        return {
            f"{layer_name}.{name}": statistic
            for layer_name, layer in self.layers.items()
            for name, statistic in layer.statistics.items()
        }

    @property
    def n_labels(self):
        """How many classes it tells apart: n_classes, but two with a single logit."""
        return max(2, self.n_classes)

    @property
    def n_parameters(self):
        return sum(parameter.value.size for parameter in self.parameters.values())

    def output_size(self, size):
        """Side of the output for a side of the input of this network.

        Raises InputError, with what would fit, if it does not.
        """
        if self.options.padding:
            return geometry.padded_output_size(size, self.depth, whole=self.options.pads_upsampled)
        return geometry.output_size(size, self.depth)

    def save(self, path):
        """Write the network to one file, at once or not at all:
        .npz, .onnx, or .pth or .safetensors for variant "pytorch-unet" (docs/formats.md).
        """
        formats.save(self, path)

    @classmethod
    def load(cls, path, device="cpu"):
        """The network in a .npz file that `save` or training wrote, a .pth or .safetensors file of
        milesial/Pytorch-UNet, or a .caffemodel with the layers of the authors' release of 2015 (docs/formats.md).

        Raises InputError if it is none, or names what does not fit.
        """
        return formats.load(cls, path, device)

    def _check_input(self, x):
        if x.ndim != 4 or x.shape[3] != self.in_channels:
            raise InputError(f"the input has shape {x.shape}; expected (N, H, W, {self.in_channels})")
        for size in x.shape[1:3]:
            self.output_size(size)
