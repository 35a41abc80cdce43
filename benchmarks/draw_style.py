"""Draw a style picture that belongs to the project: long brush strokes along a whirling flow, blue and ochre.

    python -m benchmarks.draw_style OUT.png [--size 512] [--seed 1]

For examples and measurements of style transfer, which need a style without anybody's rights on it. No painting is
copied: a flow field of seven whirls, and 9000 strokes that follow it, large ones first. Takes about 15 s.
"""

import argparse
from pathlib import Path

import numpy as np

from npunet.commands import cli
from npunet.files import images

COLOURS = np.array(  # from night to light
    [
        (0.08, 0.14, 0.34),
        (0.16, 0.30, 0.55),
        (0.30, 0.50, 0.72),
        (0.55, 0.70, 0.78),
        (0.85, 0.80, 0.55),
        (0.95, 0.75, 0.25),
        (0.75, 0.45, 0.12),
    ]
)
STROKES, WHIRLS, COVER = 9000, 7, 0.75


def flow(size, rng):
    """The direction of strokes, (down, across) of length 1, and the brightness, 0 to about 1; (size, size) each."""
    down, across = np.mgrid[:size, :size] / size
    towards_right, towards_bottom = np.full_like(down, 0.6), 0.35 * np.sin(6 * across + 2 * down)
    light = np.zeros_like(down)
    for _ in range(WHIRLS):
        centre, radius, turn = rng.random(2), rng.uniform(0.08, 0.25), rng.choice([-1, 1])
        below, right = down - centre[0], across - centre[1]
        squared = below**2 + right**2
        strength = 3 * turn * np.exp(-squared / radius**2) / np.sqrt(squared + 1e-4)
        towards_right, towards_bottom = towards_right - strength * below, towards_bottom + strength * right
        light += np.exp(-squared / (0.35 * radius**2))
    length = np.hypot(towards_right, towards_bottom) + 1e-6
    return towards_bottom / length, towards_right / length, light


def colour_of(light, row, rng):
    """A colour between two of COLOURS, brighter near whirls, in bands from top to bottom."""
    tone = np.clip(4.5 * min(1, light) + 0.9 + 1.2 * np.sin(15 * row) + rng.normal(0, 0.9), 0, len(COLOURS) - 1)
    below, share = int(tone), tone - int(tone)
    mixed = (1 - share) * COLOURS[below] + share * COLOURS[min(below + 1, len(COLOURS) - 1)]
    return mixed + rng.normal(0, 0.05, 3)


def paint_stroke(canvas, directions, start, colour, half_width, length):
    """One stroke along the flow; each pixel of its width is a bristle with a shade of its own."""
    size, (down, across) = len(canvas), directions
    offsets = np.arange(-half_width, half_width + 0.5)
    shades = np.clip(colour + 0.05 * np.sin(7 * offsets + start[0])[:, None], 0, 1)  # (bristles, 3)
    row, column = start
    for _ in range(length):
        if not (0 <= row < size and 0 <= column < size):
            return
        vertical, horizontal = down[int(row), int(column)], across[int(row), int(column)]
        rows, columns = (row + offsets * horizontal).astype(int), (column - offsets * vertical).astype(int)
        inside = (rows >= 0) & (rows < size) & (columns >= 0) & (columns < size)
        rows, columns = rows[inside], columns[inside]
        canvas[rows, columns] = (1 - COVER) * canvas[rows, columns] + COVER * shades[inside]
        row, column = row + vertical, column + horizontal


def draw(size=512, seed=1):
    """The picture, (size, size, 3) in 0..1."""
    rng = np.random.default_rng(seed)
    down, across, light = flow(size, rng)
    canvas = np.broadcast_to(COLOURS[0], (size, size, 3)).copy()
    for number in range(STROKES):
        start = rng.random(2) * size
        colour = colour_of(light[int(start[0]), int(start[1])], start[0] / size, rng)
        broad = 1.6 if number < STROKES // 3 else 1.0
        half_width, length = broad * rng.uniform(2, 5) * size / 512, int(rng.uniform(14, 40) * size / 512)
        paint_stroke(canvas, (down, across), start, colour, half_width, max(1, length))
    return canvas


def main(arguments=None):
    parse = argparse.ArgumentParser(prog="python -m benchmarks.draw_style", description=__doc__.splitlines()[0])
    parse.add_argument("out", help="the picture to write", metavar="OUT.png")
    parse.add_argument("--size", type=int, default=512, help="side in pixels (default 512)")
    parse.add_argument("--seed", type=int, default=1, help="of all random numbers (default 1)")
    options = parse.parse_args(arguments)
    images.write_image(Path(options.out), draw(options.size, options.seed))


if __name__ == "__main__":
    cli.run(main)
