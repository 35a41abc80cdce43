"""What is done to a painted picture at the end: how much of the painting there is, and whose colours it has.

**Strength.** 1 is the painting, 0 the content, and between them the mean of both, pixel by pixel. (What the *losses*
ask for is another question: `--style-weight` moves the balance, and needs a new run.)

**The content's colours.** A colour is its luminance Y = 0.299 R + 0.587 G + 0.114 B and what is left, (R - Y, G - Y,
B - Y), which says how far from grey. Brush strokes are seen in the luminance. So the painting's luminance with the
content's rest is a painting in the content's colours (Gatys et al. 2016, arXiv 1606.05897). Direct optimisation then
looks at luminance alone, of both pictures, and gives that of the style the mean and spread of the content's: a dark
style would otherwise make a bright picture dark.
"""

import numpy as np

LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # of red, green and blue (ITU-R BT.601)
ROWS = 256  # that are finished at a time, so that a large picture needs no second one of its size


def luminance(picture):
    """(H, W, 3) -> (H, W, 1)."""
    return (picture @ LUMINANCE)[..., None]


def as_grey(picture):
    """(H, W, 3) -> the same size, its luminance in each channel."""
    return np.repeat(luminance(picture), 3, axis=2)


def with_spread_of(style, content):
    """Grey pictures (H, W, 3): the style with the content's mean and standard deviation, in 0..1."""
    factor = content.std() / max(float(style.std()), 1e-6)
    return np.clip((style - style.mean()) * factor + content.mean(), 0, 1).astype(np.float32)


def with_colours_of(painted, content):
    """The luminance of the painting, the rest of the content: (H, W, 3) in 0..1."""
    return np.clip(content + (luminance(painted) - luminance(content)), 0, 1)


def finished(painted, content, strength=1.0, keep_colours=False):
    """The painting (H, W, 3), as much of it as `strength` says, in its own colours or the content's; a new array."""
    if strength == 1 and not keep_colours:
        return painted
    done = np.empty_like(painted)
    for top in range(0, len(painted), ROWS):
        rows = slice(top, top + ROWS)
        part = with_colours_of(painted[rows], content[rows]) if keep_colours else painted[rows]
        done[rows] = content[rows] + strength * (part - content[rows])
    return done
