"""What style transfer minimises:
content, style and total variation, each with its gradient (Gatys, Ecker, Bethge 2016, doi:10.1109/CVPR.2016.265).

Notation: F (N, H, W, C) feature maps of a VGG layer for the picture that is being made, T those of the content picture;
P = H W C.

    content     mean over all elements of (F - T)^2                               d/dF = 2 (F - T) / F.size

    Gram        G[n, c, d] = 1/P  sum over pixels of F[n, pixel, c] F[n, pixel, d]           (N, C, C)

which channels are active together, wherever in the picture: it keeps texture and colour and forgets places. A product
of F with itself, so each F occurs twice:

    dL/dF[n, pixel, c] = 1/P  sum over d of (dG[n, c, d] + dG[n, d, c]) F[n, pixel, d]        dF = F (dG + dG^T) / P

    style       mean over all elements of (G - A)^2, A the style picture's Gram matrix        dG = 2 (G - A) / G.size

    variation   mean of squared differences of neighbouring pixels, down and across: wants smooth pictures

Layers of one kind are summed. Their weights belong to *this* normalisation, G divided by H W C and a mean over its C^2
elements; who divides G by less needs a smaller weight. They also belong to feature maps of the size of torchvision's: F
is F / `VGG.unit` in all of this, so that weights converted from Caffe do not change the balance.

**Which layers.** Gatys compares the first convolution of each block for the style and conv4_2 for the content. His
program (PytorchNeuralStyleTransfer) weights a style layer by 1000 / C^2, with G divided by H W alone and maps of
Caffe's scale: that is 1000 * 58^2 = 3.3e6 here, the same for all layers. conv4_1 sees 68 pixels, so whole strokes
count. The notes' demo, `DEMO`, compares conv1_2 and conv2_2, which see 5 and 14 pixels (grain, no strokes), with 1e6,
as in PyTorch's tutorial, and holds the picture to conv3_4 and conv4_4 of the content.

**Which weight for a generator.** Direct optimisation begins with the photograph, and 50 steps bring the style loss to
a 20th or less: the photograph is still there. A generator begins with random weights and paints every photograph in one
pass. With Gatys' weight its style loss was still 30,000 after 1,350 steps, where content losses are below 300, and it
painted one texture over everything. What serves differs from style to style: with one weight, 2e3, the style loss of
untouched photographs was 160 for a painting of strong colours and 48 for a pale one, which then gave its colours and no
strokes. So a generator's default is the weight that makes it `PAINTER_STYLE_LOSS`. That was chosen by eye, with these
two styles (benchmarks/results/style_painter.md).
"""

from dataclasses import dataclass

from npunet.errors import InputError
from npunet.machine import memory
from npunet.machine.backend import array_module
from npunet.machine.bands import shared_matmul
from npunet.machine.threads import blas_on_one_thread

CONTENT_LAYERS, STYLE_LAYERS = ("conv4_2",), ("conv1_1", "conv2_1", "conv3_1", "conv4_1")
CONTENT_WEIGHT, STYLE_WEIGHT = 1.0, 3e6
PAINTER_STYLE_LOSS = 150.0
DEMO = dict(content_layers=("conv3_4", "conv4_4"), style_layers=("conv1_2", "conv2_2"), style_weight=1e6)


def gram_definition(features):
    """The formula as loops over images, pairs of channels and pixels."""
    xp = array_module(features)
    n, height, width, channels = features.shape
    g = xp.zeros((n, channels, channels), features.dtype)
    for image, c, d in xp.ndindex(g.shape):
        for row, column in xp.ndindex(height, width):
            g[image, c, d] = g[image, c, d] + features[image, row, column, c] * features[image, row, column, d] / (
                height * width * channels
            )
    return g


def gram(features):
    """features (N, H, W, C) -> G (N, C, C), ctx."""
    xp = array_module(features)
    n, height, width, channels = features.shape
    g = xp.empty((n, channels, channels), features.dtype)
    for image in range(n):
        flat = features[image].reshape(height * width, channels)  # (H*W, C)
        shared_matmul(flat.T, flat, g[image])  # (C, H*W) @ (H*W, C)
    g /= height * width * channels
    return g, features


def gram_backward(dg, ctx):
    """dG (N, C, C) -> dF (N, H, W, C)."""
    xp = array_module(dg)
    n, height, width, channels = ctx.shape
    both = (dg + dg.swapaxes(1, 2)) / (height * width * channels)  # (N, C, C)
    df = memory.empty((n, height * width, channels), ctx.dtype, xp)
    for image in range(n):
        shared_matmul(ctx[image].reshape(height * width, channels), both[image], df[image])  # (H*W, C) @ (C, C)
    return df.reshape(ctx.shape)


def mean_square(a, target):
    """mean((a - target)^2) as a 0-d array, and its gradient by a, of a's shape;
    target may be broadcast over the first axis.
    """
    difference = a - target
    flat = difference.reshape(-1)
    return array_module(a).vdot(flat, flat) / a.size, difference * (2 / a.size)


def total_variation(picture):
    """Mean squared difference of neighbouring pixels of (N, H, W, 3), and its gradient."""
    xp = array_module(picture)
    down, across = picture[:, 1:] - picture[:, :-1], picture[:, :, 1:] - picture[:, :, :-1]
    dpicture = xp.zeros(picture.shape, picture.dtype)
    loss = 0
    for step, (after, before) in (
        (down, (dpicture[:, 1:], dpicture[:, :-1])),
        (across, (dpicture[:, :, 1:], dpicture[:, :, :-1])),
    ):
        if step.size:  # a picture one pixel wide has no neighbours across
            loss = loss + (step * step).mean()
            after += step * (2 / step.size)
            before -= step * (2 / step.size)
    return loss, dpicture


@dataclass
class Objective:
    """The weighted sum of the losses for one style picture, as seen by a VGG network.

    `style_targets` holds its Gram matrices.
    """

    vgg: object
    content_layers: tuple = CONTENT_LAYERS
    style_layers: tuple = STYLE_LAYERS
    content_weight: float = CONTENT_WEIGHT
    style_weight: float = STYLE_WEIGHT
    variation_weight: float = 0.0

    def __post_init__(self):
        for name in ("content_weight", "style_weight", "variation_weight"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise InputError(f"--{name.replace('_', '-')} is {getattr(self, name)}; expected a number, 0 or more")
        self.content_layers, self.style_layers = (
            tuple(self.vgg.checked(names)) for names in (self.content_layers, self.style_layers)
        )
        if not (self.content_layers or self.style_layers):
            raise InputError("there is nothing to compare: give at least one layer for content or style")

    @blas_on_one_thread()
    def set_style(self, style):
        """Remember the Gram matrices of the style picture (1, H, W, 3); it may have another size than the content."""
        self.style_targets = {
            name: gram(features)[0]
            for name, features in self.vgg.forward(style, self.style_layers, train=False).items()
        }
        return self

    @blas_on_one_thread()
    def style_loss(self, picture):
        """The style loss of pictures (N, H, W, 3), without a weight: a float."""
        features = self.vgg.forward(picture, self.style_layers, train=False)
        losses = (mean_square(gram(features[name])[0], self.style_targets[name])[0] for name in self.style_layers)
        return float(sum(losses)) / self.vgg.unit**4

    def content_targets(self, content):
        """The features of the content pictures (N, H, W, 3), which a picture of the same size is compared with."""
        return self.vgg.forward(content, self.content_layers, train=False)

    @blas_on_one_thread()
    def __call__(self, picture, content_targets):
        """Loss of pictures (N, H, W, 3) -> ({"total", "content", "style", "variation"} weighted floats,
        dL/dpicture).
        """
        layers = dict.fromkeys((*self.content_layers, *self.style_layers))
        features = self.vgg.forward(picture, list(layers))
        content = style = 0.0
        content_weight, style_weight = self.content_weight / self.vgg.unit**2, self.style_weight / self.vgg.unit**4
        gradients = {}

        def add(name, gradient):
            gradients[name] = gradient if name not in gradients else gradients[name] + gradient

        for name in self.content_layers:
            loss, gradient = mean_square(features[name], content_targets[name])
            content = content + loss
            gradient *= content_weight
            add(name, gradient)
        for name in self.style_layers:
            g, ctx = gram(features[name])
            loss, dg = mean_square(g, self.style_targets[name])
            style = style + loss
            add(name, gram_backward(style_weight * dg, ctx))
        del features  # backward frees each map once it is used
        dpicture = self.vgg.backward(gradients)
        terms = {"content": content_weight * float(content), "style": style_weight * float(style)}
        if self.variation_weight:
            variation, gradient = total_variation(picture)
            dpicture = dpicture + self.variation_weight * gradient.astype(dpicture.dtype, copy=False)
            terms["variation"] = self.variation_weight * float(variation)
        return {"total": sum(terms.values())} | terms, dpicture
