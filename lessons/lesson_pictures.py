"""Pictures of arrays: one colour a pixel, or one number a cell that can be read and checked by hand."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle

WIDTH = 9.0  # inches; a figure is shown 720 pixels wide

# After Okabe and Ito (2008), made darker or lighter until every pair stays apart for red-green blind readers: a test
# simulates both kinds. The operations of Fig. 1, then the thing to look at, and a second one.
CONVOLUTION, POOLING, UP_CONVOLUTION, SKIP, OUTPUT = "#0072B2", "#B04000", "#00B070", "#555555", "#7CC8EE"
HIGHLIGHT, SECOND = "#EB9B00", "#CC79A7"
COLOURS = (CONVOLUTION, HIGHLIGHT, UP_CONVOLUTION, POOLING, SECOND, SKIP, OUTPUT)
INK, PALE = "#222222", "#E9ECEF"


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


def number_grid(axes, array, title=None, *, form="{:g}", kind=None, limits=None, fill=None, size=10):
    """An array (H, W) as a grid that can be read and checked by hand: one number in each cell.

    kind: None leaves cells white; "image", "map", "signed" colour them as `picture` does. fill: {(row, column):
    colour}.
    """
    array = flat(array)
    height, width = array.shape
    shown = None
    if kind:
        low, high = limits or (-np.abs(array).max() if kind == "signed" else 0, np.abs(array).max())
        stretch = 1.7 if kind == "signed" else 1.0  # pale colours: the number must stay legible
        shown = picture(axes, array, kind=kind, limits=(stretch * low, stretch * high))
        shown.set_alpha(0.6)
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
            number = form.format(array[row, column] + 0)  # + 0: no -0
            ink = ink_on(shown, array[row, column])
            axes.text(column, row, number, ha="center", va="center", fontsize=size, color=ink)
    axes.set(xlim=(-0.55, width - 0.45), ylim=(height - 0.45, -0.55), aspect="equal")
    bare(axes, title)


def ink_on(shown, value):
    """White or nearly black, whichever can be read on the colour of `value` in a Matplotlib image (None: on white)."""
    if shown is None:
        return INK
    alpha = shown.get_alpha() or 1.0
    colour = alpha * np.array(shown.cmap(shown.norm(value))[:3]) + 1 - alpha
    return INK if colour @ [0.299, 0.587, 0.114] > 0.5 else "white"


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
