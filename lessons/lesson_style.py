"""One figure style for all lessons, and a few pictures that they share. Nothing of the network is defined here.

Conventions of a lesson (tests/test_lessons.py holds every notebook to them):

1. File lessons/NN_name.ipynb, kernel python3, stored executed, below 600 KB, no path of a machine in it, under a minute
   on
   two cores. It runs in the lessons directory and begins its code with ``import lesson_style as style; style.use()``.
2. The first cell is Markdown: ``# N. Title``, then the sentence of the paper that the lesson explains as a block
   quotation
   that names its section: ``> "..." (§2)``.
3. A cell ``## Notation`` with a table. Formula, shapes, code and picture stand together.
4. It imports npunet and shows its functions at work; it never defines them a second time.
5. Towards the end a check of known magnitude (``expect about 1e-9``) that asserts it, a cell ``## Exercise`` that names
   lessons/exercises/NN_name.py and its check, and as last cell ``## Summary`` with a pointer to the next lesson.
6. Figures are WIDTH inches wide and come from `figure`; colours mean the same everywhere: those of the arrows in Fig. 1
   for the
   operations, "gray" for images and probabilities, "magma" for weights and feature maps (at least 0), "RdBu_r" about 0
   for anything with a sign (kernels, gradients).

Run one again after a change: ``jupyter-execute --inplace lessons/02_convolution.ipynb``.
"""

import io

import matplotlib.pyplot as plt
import numpy as np
from IPython import get_ipython
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

WIDTH = 9.0  # inches; with DPI 80 a figure is 720 pixels wide
DPI = 80

INK, PALE = "#222222", "#E9ECEF"
# The arrows of Fig. 1, each in its colour there.
CONVOLUTION, POOLING, UP_CONVOLUTION, SKIP, OUTPUT = "#3B76AF", "#C03D3E", "#3A923A", "#8C8C8C", "#2E9C9C"
HIGHLIGHT, SECOND = "#E1812C", "#8E6BB8"  # the thing to look at, and a second one


def use():
    """Switch the style on, for all figures of a notebook."""
    if shell := get_ipython():
        shell.run_line_magic("matplotlib", "inline")  # now, for it brings a PNG writer; then ours takes its place
        shell.display_formatter.formatters["image/png"].for_type(Figure, small_png)
    plt.rcParams.update(
        {
            "figure.dpi": DPI,
            "savefig.dpi": DPI,
            "figure.facecolor": "white",
            "figure.constrained_layout.use": True,
            "font.family": "DejaVu Sans",
            "font.size": 9.5,
            "axes.titlesize": 9.5,
            "axes.labelsize": 9.5,
            "figure.titlesize": 11,
            "text.color": INK,
            "axes.labelcolor": INK,
            "axes.edgecolor": "#666666",
            "xtick.color": "#444444",
            "ytick.color": "#444444",
            "xtick.labelsize": 8.5,
            "ytick.labelsize": 8.5,
            "legend.fontsize": 8.5,
            "legend.frameon": False,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": False,
            "grid.color": "#DDDDDD",
            "axes.prop_cycle": plt.cycler(color=[CONVOLUTION, HIGHLIGHT, UP_CONVOLUTION, POOLING, SECOND, SKIP]),
            "image.interpolation": "nearest",
            "lines.linewidth": 1.8,
        }
    )
    np.set_printoptions(precision=4, suppress=True, linewidth=110)


def small_png(fig):
    """The figure as PNG with 256 colours: less than half the bytes, so that a notebook stays small."""
    whole, small = io.BytesIO(), io.BytesIO()
    fig.savefig(whole, format="png", bbox_inches="tight")
    Image.open(whole).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
    return small.getvalue()


def figure(rows=1, columns=1, height=None, **keywords):
    """A figure of the lessons' width: (figure, array of axes); `height` in inches, default: square axes."""
    height = height or WIDTH * rows / columns * 1.05
    fig, axes = plt.subplots(rows, columns, figsize=(WIDTH, height), squeeze=False, **keywords)
    return fig, axes[0] if rows == 1 else axes


def picture(axes, array, title=None, *, kind="image", limits=None, outline=None, colour=HIGHLIGHT):
    """Show an array (H, W), or (H, W, 1), or (1, H, W, 1), without ticks; returns the Matplotlib image.

    kind: "image" (grey, 0..1), "map" (values from 0, magma) or "signed" (red above 0, blue below). limits: (low, high),
    else from the array. outline: (top, left, height, width) of a frame, in pixels, drawn in `colour`.
    """
    array = flat(array)
    largest = float(np.abs(array).max()) or 1.0
    usual = {"image": ("gray", (0, 1)), "map": ("magma", (0, largest)), "signed": ("RdBu_r", (-largest, largest))}
    colours, usual_limits = usual[kind]
    low, high = limits or usual_limits
    shown = axes.imshow(array, cmap=colours, vmin=low, vmax=high)
    bare(axes, title)
    if outline is not None:
        frame(axes, *outline, colour)
    return shown


def pictures(arrays, *, kind="image", columns=None, height=None, limits=None, suptitle=None):
    """A row (or several, with `columns`) of pictures: {title: array} -> figure."""
    columns = columns or len(arrays)
    rows = -(-len(arrays) // columns)
    fig, axes = figure(rows, columns, height)
    axes = np.ravel(axes)
    for one, (title, array) in zip(axes, arrays.items()):
        picture(one, array, title, kind=kind, limits=limits)
    for one in axes[len(arrays) :]:
        one.set_axis_off()
    if suptitle:
        fig.suptitle(suptitle)
    return fig


def cells(axes, instances, title=None):
    """Cell numbers (H, W) as colours, 0 black; neighbouring numbers look different."""
    colours = plt.cm.tab20(np.arange(20))[:, :3]
    axes.imshow(np.where(instances[..., None] > 0, colours[instances * 7 % 20], 0.08))
    bare(axes, title)


def feature_maps(maps, count=8, title=None, *, kind="map", order=None):
    """The first `count` channels of maps (1, H, W, C) side by side, on one scale;
    `order` lists the channels instead.
    """
    channels = list(order if order is not None else range(min(count, maps.shape[3])))
    fig, axes = figure(1, len(channels), WIDTH / len(channels) + 0.45)
    largest = float(np.abs(maps[..., channels]).max()) or 1.0
    for one, channel in zip(axes, channels):
        picture(
            one,
            maps[0, ..., channel],
            f"channel {channel}",
            kind=kind,
            limits=(-largest if kind == "signed" else 0, largest),
        )
    if title:
        fig.suptitle(title)
    return fig


def kernels(weight, in_channel=0, title=None, numbers=False):
    """The kernels weight (kh, kw, C, K) that read one input channel: K small pictures on one scale, red above 0."""
    outputs = weight.shape[3]
    columns = min(outputs, 8)
    rows = -(-outputs // columns)
    fig, axes = figure(rows, columns, rows * (WIDTH / columns + 0.3) + 0.2)
    largest = float(np.abs(weight[:, :, in_channel]).max()) or 1.0
    for k, one in enumerate(np.ravel(axes)):
        if k >= outputs:
            one.set_axis_off()
        elif numbers:
            number_grid(one, weight[:, :, in_channel, k], f"k = {k}", kind="signed", limits=(-largest, largest))
        else:
            picture(one, weight[:, :, in_channel, k], f"k = {k}", kind="signed", limits=(-largest, largest))
    if title:
        fig.suptitle(title)
    return fig


def number_grid(axes, array, title=None, *, form="{:g}", kind=None, limits=None, fill=None, size=10):
    """An array (H, W) as a grid that can be read and checked by hand: one number in each cell.

    kind: None leaves cells white; "image", "map", "signed" colour them as `picture` does. fill: {(row, column):
    colour}.
    """
    array = flat(array)
    height, width = array.shape
    if kind:
        low, high = limits or (-np.abs(array).max() if kind == "signed" else 0, np.abs(array).max())
        stretch = 1.7 if kind == "signed" else 1.0  # pale colours: the number must stay legible
        picture(axes, array, kind=kind, limits=(stretch * low, stretch * high)).set_alpha(0.6)
    for row in range(height):
        for column in range(width):
            colour = (fill or {}).get((row, column))
            axes.add_patch(
                Rectangle(
                    (column - 0.5, row - 0.5),
                    1,
                    1,
                    facecolor=colour or "none",
                    edgecolor="#AAAAAA",
                    linewidth=0.8,
                    alpha=0.35 if colour else 1,
                    clip_on=False,
                )
            )
            axes.text(
                column, row, form.format(array[row, column] + 0), ha="center", va="center", fontsize=size
            )  # + 0: no -0
    axes.set(xlim=(-0.55, width - 0.45), ylim=(height - 0.45, -0.55), aspect="equal")
    bare(axes, title)


def number_grids(*items, size=10, cell=0.42):
    """Number grids in a row, all cells of one size, with signs between them: (figure, axes of the grids).

    items: a string is a sign ("=", "·", "→"), anything else is array, or (array, title), or (array, title, options of
    `number_grid`). cell: side of a cell in inches, less if the row would become too wide.
    """
    items = [item if isinstance(item, str | tuple) else (item,) for item in items]
    arrays = [None if isinstance(item, str) else flat(item[0]) for item in items]
    columns = [1 if array is None else max(array.shape[1], 3) for array in arrays]  # a title needs room
    gap = 0.6  # cells
    total = sum(columns) + gap * (len(items) - 1)
    cell = min(cell, WIDTH / total)
    tallest = max(array.shape[0] for array in arrays if array is not None)
    width, height = total * cell, tallest * cell + 0.35
    fig = plt.figure(figsize=(width, height), layout="none")
    left, grids = 0.0, []
    for item, array, wide in zip(items, arrays, columns):
        rows = tallest if array is None else array.shape[0]
        axes = fig.add_axes((left / total, (tallest - rows) / 2 * cell / height, wide / total, rows * cell / height))
        if array is None:
            sign(axes, item)
        else:
            title, options = item[1:] + (None, {})[len(item) - 1 :]
            number_grid(axes, array, title, size=options.pop("size", size), **options)
            grids.append(axes)
        left += wide + gap
    return fig, grids


def frame(axes, top, left, height, width, colour=HIGHLIGHT, linewidth=2.5, **keywords):
    """A rectangle around pixels [top, top + height) x [left, left + width) of a picture or number grid."""
    axes.add_patch(
        Rectangle((left - 0.5, top - 0.5), width, height, fill=False, edgecolor=colour, linewidth=linewidth, **keywords)
    )


def sign(axes, text, size=16):
    """An empty axes with a sign in its middle: the "+", "=" or arrow of a formula made of pictures."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, text, ha="center", va="center", fontsize=size, transform=axes.transAxes)


def bare(axes, title=None):
    """Without ticks and frame, with a title."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    if title:
        axes.set_title(title)


def flat(array):
    """(H, W) from (H, W), (H, W, 1), (1, H, W), (1, H, W, 1), or a kernel (kh, kw, 1, 1)."""
    array = np.asarray(array)
    if array.ndim == 4 and array.shape[2:] == (1, 1) and array.shape[0] > 1:
        return array[:, :, 0, 0]
    if array.ndim >= 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim == 3 and array.shape[0] == 1:
        array = array[0]
    if array.ndim != 2:
        raise ValueError(f"a picture needs one channel; found shape {array.shape}, pick a channel")
    return array
