"""One figure style for all lessons, and a few pictures that they share. Nothing of the network is defined here.

Conventions of a lesson (tests/test_lessons.py holds every notebook to them):

1. File lessons/NN_name.ipynb, kernel python3, stored executed by ``python -m lessons.run NN``, below 1 MB, no path of a
   machine in it, under a minute on two cores. It runs in the lessons directory and begins its code with
   ``import lesson_style as style; style.use()``.
2. The first cell is Markdown: ``# N. Title``, the sentence of the paper that the lesson explains as a block quotation
   that names its section, ``> "..." (§2)``, then what the reader needs and what he can do afterwards.
3. A cell ``## Notation`` with a table. Formula, shapes, code and picture stand together.
4. It imports npunet and shows its functions at work; it never defines them a second time. `show_source` prints two to
   five of them, and the text beside the print reads them line by line.
5. Every picture goes through `show`, with a text for readers who do not see it and a caption. Cells that only draw
   are tagged "hide-input".
6. Towards the end: a check of known magnitude (``expect about 1e-9``) that asserts it; ``## Exercise``;
   ``## Questions`` with folded answers; ``## Sources``; as last cell ``## Summary`` with links to the lessons before
   and after.
7. Figures are WIDTH inches wide and come from `figure`; colours mean the same everywhere: those of Fig. 1 for its
   operations, "gray" for images and probabilities, "magma" for weights and feature maps (at least 0), "RdBu_r" about 0
   for anything with a sign (kernels, gradients).
8. A cell that trains for many seconds, and whose numbers the tests do not compare (prints; pictures with ``varies``),
   has "shorter_in_tests" in its metadata: what it says, and what it says with fewer steps.
9. A cell that takes a minute or more in a browser has "seconds_in_a_page" in its metadata, measured with
   ``docs/site/run_in_node.mjs``; docs/site/lite.py lets the cell say so there. What it repeats goes through `counted`.
"""

import matplotlib.pyplot as plt
import numpy as np
from IPython import get_ipython
from lesson_output import show, show_kernel, show_source  # noqa: F401  for the lessons
from lesson_page import counted  # noqa: F401  for the lessons
from lesson_pictures import (  # noqa: F401  for the lessons
    COLOURS,
    CONVOLUTION,
    HIGHLIGHT,
    INK,
    OUTPUT,
    PALE,
    POOLING,
    SECOND,
    SKIP,
    UP_CONVOLUTION,
    WIDTH,
    bare,
    frame,
    ink_on,
    number_grid,
    number_grids,
    picture,
)

DPI = 160  # of the screen twice: sharp on dense ones


def use():
    """Switch the style on, for all figures of a notebook."""
    if shell := get_ipython():
        shell.run_line_magic("matplotlib", "inline")
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
            "axes.prop_cycle": plt.cycler(color=COLOURS),
            "image.interpolation": "nearest",
            "lines.linewidth": 1.8,
        }
    )
    np.set_printoptions(precision=4, suppress=True, linewidth=110)


def figure(rows=1, columns=1, height=None, **keywords):
    """A figure of the lessons' width: (figure, array of axes); `height` in inches, default: square axes."""
    height = height or WIDTH * rows / columns * 1.05
    fig, axes = plt.subplots(rows, columns, figsize=(WIDTH, height), squeeze=False, **keywords)
    return fig, axes[0] if rows == 1 else axes


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
    """Cell numbers (H, W) as colours, 0 black. Neighbours differ in lightness as well, which everybody sees."""
    strong = np.array([plt.matplotlib.colors.to_rgb(colour) for colour in COLOURS if colour != SKIP])
    colours = np.concatenate([strong, 0.5 + 0.5 * strong, [[0.93, 0.93, 0.93]]])  # 13, a prime
    axes.imshow(np.where(instances[..., None] > 0, colours[instances * 5 % len(colours)], 0.0))
    bare(axes, title)


def errors(axes, found, truth, title=None):
    """A segmentation (H, W) in grey with its mistakes: orange "+" is wrongly called interior, blue "-" wrongly called
    membrane. The signs say it without the colours; where mistakes are many, hatching takes their place.
    """
    grey = np.where(found, 0.9, 0.2)[..., None] * np.ones(3)
    for wrong, colour, mark, hatch in (
        (found & ~truth, HIGHLIGHT, "+", "+++"),
        (~found & truth, CONVOLUTION, "_", "----"),
    ):
        grey[wrong] = plt.matplotlib.colors.to_rgb(colour)
        rows, columns = np.nonzero(wrong)
        if 0 < rows.size <= 300:
            axes.scatter(columns, rows, marker=mark, s=14, color="white" if mark == "_" else "black", linewidths=1)
        elif rows.size:
            with plt.rc_context({"hatch.linewidth": 0.5}):
                axes.contourf(wrong, [0.5, 1.5], colors="none", hatches=[hatch])
    axes.imshow(grey)
    bare(axes, title)


def running_mean(values, count):
    """(positions, means of the last `count` values), to draw over a noisy curve."""
    return np.arange(count - 1, len(values)), np.convolve(values, np.ones(count) / count, "valid")
