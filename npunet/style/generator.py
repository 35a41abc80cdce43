"""The U-Net as a painter: from picture to picture in one pass, trained by what VGG sees.

Johnson et al. 2016, arXiv 1603.08155.

    content (N, H, W, 3) in 0..1 -> normalised as for VGG -> UNet(3, 3, variant="painter") -> tanh -> picture in 0..1

Three things decide how its pictures come out, and the notes' demo, which this project grew from, does all the simple
way. It can still be had.

**The range.** A tanh gives -1 .. 1. The demo takes that as a picture in VGG's normalised units, so in 0..1 it is mean +
std * tanh: 0.26 .. 0.71 for red, 0.23 .. 0.68 for green, 0.18 .. 0.63 for blue. Neither black nor white nor a full
colour can be painted: the grey veil. `colours="normalised"` is that; `colours="full"` paints 1/2 + 1/2 tanh, all of
0..1. Same network, other two constants.

**The checkerboard.** An up-convolution paints each 2x2 block with four matrices that know nothing of each other
(ops/up_convolution.py). Where they differ, and nothing asks them not to, a flat area gets a pattern of period 2; four
of them give 2, 4, 8, 16. Enlarging by interpolation first and convolving then (a resize-convolution: Odena et al. 2016,
doi:10.23915/distill.00003) has no such blocks: `bilinear=True`, where the first convolution of each level of the
expansive path follows the enlargement and the concatenation. It has fewer parameters too.

**The start.** A tanh that is driven far out has no gradient and does not come back. The demo begins with PyTorch's
default weights, uniform in +-1/sqrt(fan-in): the output of each layer is weaker than its input, the first picture is an
even grey, and every pixel can move (`initial_weights="pytorch"`). At 512 pixels that was not enough for one seed of
three: Adam's next steps threw it to the end for good (benchmarks/results/style_faithful.md). The paper's Gaussian with
sqrt(2/N) keeps the variance from layer to layer (`initial_weights="gaussian"`). In a network of 64 channels the last
layer then reaches far into the tanh, and Adam's first steps push it to one end (lesson 13). With "full" colours and the
Gaussian, the last layer's weights therefore start at a tenth of their size, and the learning rate rises over some steps
(npunet.stylize).

A fourth the demo does not have.

**Instance normalisation** (ops/instance_norm.py) after each convolution. The contrast of a painting is the style's and
not the photograph's, and a network of convolutions alone has to learn that for every contrast there is. With
normalisation the loss on unseen photographs was 0.57 to 0.65 after the same processor time (three seeds;
benchmarks/results/style_painter.md). Mean and variance belong to the whole picture. Tiles of a large one would each
have their own, and seams between them: they get those of the whole picture, seen once at the size of a tile ("thumbnail
instance normalization": Chen et al. 2022, arXiv 2103.11784).
"""

import contextlib

import numpy as np

from npunet import initialization, tiling
from npunet.errors import InputError
from npunet.files import checkpoint
from npunet.layers import InstanceNorm
from npunet.machine.backend import array_module, to_cpu, to_device
from npunet.style.pictures import fitted
from npunet.style.vgg import MEAN, STD
from npunet.unet import UNet

COLOURS = {"full": ((0.5,) * 3, (0.5,) * 3), "normalised": (MEAN, STD)}  # centre and reach of the tanh in each channel
INITIAL_WEIGHTS = ("gaussian", "pytorch")  # see The start above
SMALL_START = 0.1  # of the last layer's weights; see The start above
TILE = 1024  # larger pictures are painted in overlapping tiles


class Generator:
    """A U-Net (variant "painter", four poolings) that maps pictures in 0..1 to pictures in 0..1.

    colours: "full" or "normalised"; bilinear: resize-convolutions instead of up-convolutions; initial_weights:
    "gaussian" or "pytorch"; instance_norm: without it the variant is "style"; all four explained above.
    `net` is the UNet, `info` a dict for JSON that is saved with it. Raises InputError for options that do not exist.
    """

    def __init__(
        self,
        base_channels=32,
        depth=4,
        *,
        colours="full",
        bilinear=True,
        instance_norm=True,
        initial_weights="gaussian",
        device="cpu",
        dtype="float32",
        seed=0,
        net=None,
    ):
        if colours not in COLOURS:
            raise InputError(f"colours {colours!r} is not known; expected {' or '.join(COLOURS)}")
        if initial_weights not in INITIAL_WEIGHTS:
            raise InputError(
                f"initial_weights {initial_weights!r} is not known; expected {' or '.join(INITIAL_WEIGHTS)}"
            )
        self.net, self.colours, self.info = net, colours, {}
        if net is None:
            how = dict(variant="painter" if instance_norm else "style", bilinear=bilinear, dtype=dtype)
            self.net = UNet(3, 3, base_channels, depth, device=device, seed=seed, **how)
            if initial_weights == "pytorch":
                start_as_pytorch(self.net, seed)
            elif colours == "full":
                self.net.parameters["output.weight"].value *= SMALL_START

    @classmethod
    def faithful(cls, base_channels=64, **options):
        """The notes' demo: up-convolutions, tanh in normalised units, PyTorch's default weights."""
        how = dict(colours="normalised", bilinear=False, instance_norm=False, initial_weights="pytorch")
        return cls(base_channels, **how, **options)

    def _constants(self, xp, values):
        return (xp.asarray(np.array(value, self.net.dtype)) for value in values)

    def forward(self, content, train=False):
        """Content (N, H, W, 3) in 0..1 -> picture (N, H', W', 3);
        H' and W' are rounded down to multiples of 2^depth (see `paint`).
        """
        xp = array_module(content)
        mean, std = self._constants(xp, (MEAN, STD))
        centre, reach = self._constants(xp, COLOURS[self.colours])
        return centre + reach * self.net.forward((content.astype(self.net.dtype, copy=False) - mean) / std, train)

    def backward(self, dpicture):
        """dL/dpicture -> the network's gradients; the content needs none."""
        _, reach = self._constants(array_module(dpicture), COLOURS[self.colours])
        self.net.backward(dpicture * reach, need_dx=False)

    def paint(self, content, tile=TILE):
        """One picture (H, W, 3) in 0..1 of any size, a NumPy array -> (H, W, 3) float32 in 0..1.

        Its size is made up to a multiple of 2^depth by mirroring; a larger picture than `tile` is painted in tiles that
        overlap by what one pixel sees (`npunet.tiling`), so that memory is that of one tile. Raises InputError if it is
        no such picture.
        """
        if content.ndim != 3 or content.shape[2] != 3 or 0 in content.shape:
            raise InputError(f"the picture has shape {content.shape}; expected (H, W, 3), RGB in 0..1")
        picture = np.empty(content.shape, np.float32)

        def painted(piece):
            return to_cpu(self.forward(to_device(piece[None], self.net.device)))[0]

        with self.normalised_as_a_whole(content, tile):
            for rows, columns, part in tiling.tile_by_tile(self.net, content, tile, painted):
                picture[rows, columns] = part
        return np.clip(picture, 0, 1, out=picture)

    @contextlib.contextmanager
    def normalised_as_a_whole(self, content, tile):
        """Within, tiles of the content (H, W, 3) have mean and variance of the whole picture, see above."""
        norms = [layer for layer in self.net.layers.values() if isinstance(layer, InstanceNorm)]
        longer, grid = max(content.shape[:2]), 2**self.net.depth
        try:
            if norms and longer > tile:
                small = fitted(content, min(content.shape[:2]) * tile / longer, grid)
                self.forward(to_device(small[None], self.net.device))
                for layer in norms:
                    layer.fixed = layer.seen
            yield
        finally:
            for layer in norms:
                layer.fixed = None

    def save(self, path):
        """One .npz file, whole or not at all."""
        checkpoint.save(path, checkpoint.network_entries(self.net), style=self.info | {"colours": self.colours})

    @classmethod
    def load(cls, path, device="cpu"):
        """What `save` wrote. Raises InputError if the file is something else."""
        entries = checkpoint.load(path)
        info = entries["header"].get("style")
        if not isinstance(info, dict) or "colours" not in info:
            raise InputError(f"{path} holds no style generator; expected the model.npz that npunet.stylize train wrote")
        generator = cls(colours=info["colours"], net=checkpoint.restore_network(UNet, entries, path, device))
        generator.info = {name: value for name, value in info.items() if name != "colours"}
        return generator


def start_as_pytorch(net: UNet, seed: int) -> None:
    """Draw the weights and biases of `net` anew, as PyTorch's modules draw theirs (`initialization.uniform`)."""
    rng = np.random.default_rng(seed)
    for name, weight in net.parameters.items():
        if not name.endswith(".weight"):
            continue
        kh, kw, c_in, c_out = weight.value.shape
        fan_in = kh * kw * (c_out if ".up." in name else c_in)
        bias = net.parameters.get(name.removesuffix("weight") + "bias")  # none before a normalisation
        for parameter in (weight, bias) if bias else (weight,):
            drawn = initialization.uniform(parameter.value.shape, fan_in, rng, net.dtype)
            parameter.value[...] = to_device(drawn, net.device)


def generator_step(generator, objective, optimizer, content, targets=None):
    """One step of gradient descent on content pictures (N, H, W, 3), sides multiples of 2^depth.

    Returns the terms of the loss.

    targets: objective.content_targets(content), if known. The parameters are left alone if the loss is not finite.
    """
    optimizer.forget_gradients()  # their memory serves the forward pass
    targets = objective.content_targets(content) if targets is None else targets
    picture = generator.forward(content, train=True)
    terms, dpicture = objective(picture, targets)
    if np.isfinite(terms["total"]):
        generator.backward(dpicture)
        optimizer.step()
    return terms
