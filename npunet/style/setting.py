"""From options to what is computed: the losses, the eye that they look with, and the pair of pictures at any size."""

import sys

import numpy as np

from npunet.commands import cli
from npunet.machine.backend import to_device
from npunet.style import memory_needs
from npunet.style.finish import as_grey, finished, with_spread_of
from npunet.style.losses import PAINTER_STYLE_LOSS, STYLE_WEIGHT, Objective
from npunet.style.pictures import fitted, read_picture
from npunet.style.vgg import VGG

NO_WEIGHTS = (
    "no --weights: a VGG19 with random weights looks on. Expect colours and fine texture of the style, no strokes or "
    "larger shapes. Trained ones: python -m npunet.stylize download vgg19"
)


def objective_of(options, device):
    """The losses of the options, with VGG behind them, which has not seen the style yet."""
    if options.weights:
        eye = VGG.load(options.weights, device=device)
    else:
        eye = VGG.random(device=device)
        print(NO_WEIGHTS, file=sys.stderr)
    cli.set_tf32(options.tf32, options.device, eye.device)
    return Objective(
        eye,
        names(options.content_layers),
        names(options.style_layers),
        options.content_weight,
        STYLE_WEIGHT if options.style_weight is None else options.style_weight,
        options.variation_weight,
    )


def look_at_style(options, objective):
    """The style picture at its size, (H, W, 3), after the objective has seen it."""
    size = options.style_size or options.photo_size
    style = fitted(read_picture(options.style), size or options.size, square=options.square)
    if size:
        memory_needs.check(objective, style.shape[:2], option="style-size")
    objective.set_style(to_device(style[None], objective.vgg.device))
    return style


def style_weight_for(objective, photographs):
    """The --style-weight of a generator that was given none: it makes the style loss of the photographs, (1, H, W, 3)
    each, `PAINTER_STYLE_LOSS` in the median. Two digits, so that the last bits of the losses do not matter. Photographs
    whose style is the style picture's already say nothing.
    """
    place = lambda photograph: to_device(photograph, objective.vgg.device)
    loss = np.median([objective.style_loss(place(photograph)) for photograph in photographs])
    return float(f"{PAINTER_STYLE_LOSS / loss:.1e}") if loss else STYLE_WEIGHT


def names(text):
    """Names from one string: "conv1_2,conv2_2" -> ("conv1_2", "conv2_2"); "none" -> ()."""
    return () if text == "none" else tuple(part.strip() for part in text.split(","))


class Pair:
    """Content and style of direct optimisation: pair(size) -> (content, style), (H, W, 3) each, as VGG is to see them.

    With --keep-colours that is grey, see `npunet.style.finish`. --style-size is the style's size at the last --size;
    at smaller ones it is smaller in proportion. `content` and `style` are the pictures at the last size, in colour.
    """

    def __init__(self, options):
        self.options = options
        self.files = [read_picture(path) for path in (options.content, options.style)]
        self.content, self.style = self.in_colour(options.size)

    def in_colour(self, size):
        """Both pictures at a size of the content."""
        of_style = (self.options.style_size or self.options.size) * size / self.options.size
        return [fitted(picture, side) for picture, side in zip(self.files, (size, of_style), strict=True)]

    def __call__(self, size):
        content, style = (self.content, self.style) if size == self.options.size else self.in_colour(size)
        if self.options.keep_colours:
            content, style = as_grey(content), as_grey(style)
            style = with_spread_of(style, content)
        return content, style

    def finished(self, painted, size):
        """What is kept of painted(), (H, W, 3), at a size: as much of it, and in the colours, that the options say."""
        return finished(painted(), self.in_colour(size)[0], self.options.strength, self.options.keep_colours)
