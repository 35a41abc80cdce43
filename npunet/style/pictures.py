"""Pictures for style transfer: read, made to size, and laid out on contact sheets.

Drawn without a screen.
"""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageOps

from npunet.commands import run_pictures, scaling
from npunet.errors import InputError
from npunet.files import images
from npunet.machine.backend import free_memory

COPIES = 3  # of a picture while it is scaled


def read_picture(path):
    """One picture of any kind as (H, W, 3) float32 in 0..1; grey is repeated, and what is transparent lies on white.

    A photograph that its camera says to turn (EXIF) is turned. Raises InputError for stacks and what is no picture.
    """
    stack = images.open_image(path)
    if len(stack) > 1:
        raise InputError(f"{path}: holds {len(stack)} pages; expected a picture of one page")
    picture = images.with_channels(stack[0], 3, str(path))
    opacity = read_opacity(path)
    return picture if opacity is None else 1 - opacity * (1 - picture)


def read_opacity(path):
    """The alpha channel of a PNG, GIF or the like, (H, W, 1) float32 in 0..1, or None if all of it is opaque."""
    if Path(path).suffix.lower() in images.TIFF:
        return None
    with Image.open(path) as file:
        if not file.has_transparency_data:
            return None
        alpha = np.asarray(ImageOps.exif_transpose(file).convert("RGBA").getchannel("A"))
    return None if alpha.min() == 255 else (alpha / np.float32(255))[..., None]


def fitted(picture, size, multiple=1, square=False):
    """Scaled so that the shorter side has `size` pixels, both sides rounded to a `multiple`, which changes the
    proportions a little.

    The shorter side, because squares are cut from pictures of about that size when a generator learns on a folder
    (`photographs`): then strokes have one size in training, painting and direct optimisation. It is also what
    torchvision's Resize means by a size.

    square: both sides get `size` pixels whatever the proportions, by bilinear interpolation, as the notes' demo does.
    Raises InputError for a picture that is larger than the memory.
    """
    factor, how = size / min(picture.shape[:2]), Image.Resampling.LANCZOS
    height, width = (max(1, round(factor * side / multiple)) * multiple for side in picture.shape[:2])
    if square:
        height, width, how = size, size, Image.Resampling.BILINEAR
    needed, free = COPIES * 12 * height * width, free_memory("cpu")
    if free is not None and needed > free:
        raise InputError(
            f"a picture of {width} x {height} pixels alone needs {needed / 1e9:.1f} GB, but {free / 1e9:.1f} GB are "
            f"free; give a size below {size}"
        )
    return np.clip(scaling.resize(picture, height, width, how), 0, 1)


def contact_sheet(path, named, columns=5):
    """Write pictures {title: (H, W, 3)} side by side, row by row, to one PNG, whole or not at all."""
    rows = -(-len(named) // columns)
    height = 3 * rows * max(picture.shape[0] / picture.shape[1] for picture in named.values()) + 0.3 * rows
    figure = Figure(figsize=(3 * columns, min(height, 40)), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (title, picture) in zip(grid, named.items()):
        axes.imshow(np.clip(picture, 0, 1), interpolation="antialiased")
        axes.set_title(title)
    for axes in grid:
        axes.set_axis_off()
    run_pictures.save(figure, path)


def loss_curves(path, records):
    """Write the terms of the loss over the steps, from records {"step", "total", "content", ...}."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for name in (name for name in records[0] if name not in ("step", "size", "seconds")):
        drawn = [(record["step"], record[name]) for record in records if isinstance(record.get(name), (int, float))]
        axes.plot(*zip(*drawn), label=name, linewidth=1.2)
    axes.set(
        xlabel="step",
        ylabel="weighted loss",
        yscale="log" if min(record["total"] for record in records) > 0 else "linear",
    )
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    run_pictures.save(figure, path)
