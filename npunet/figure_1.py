"""Fig. 1 drawn from the live network: what you see is what the program computes, for any tile, depth and width.

Each box is a feature map, its number of channels above it and its side below it; white boxes are copied feature maps.
The dashed outline in a box is the part that the skip connection keeps.
"""

from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

from npunet.commands import rows as fig_1
from npunet.unet import UNet

OUTLINE, FILL, INK = "#3B5B92", "#D6E2F2", "#303030"
COLOURS = {  # told apart by red-green blind readers too
    "conv 3x3, ReLU": "#0072B2",
    "copy and crop": "#8C8C8C",
    "max-pool 2x2": "#B04000",
    "up-conv 2x2": "#00B070",
    "conv 1x1": "#7CC8EE",
}
GAP = 5.2  # between boxes of a level; one unit is INCHES
LABEL = 2.9  # room for one line of text
STEP_DOWN = 2 * LABEL + 4.2  # between levels: size, arrow, channels
LEGEND_LINE = 3.6
INCHES = 0.06


@dataclass
class Box:
    """A feature map in the drawing: x is its left edge, y its middle."""

    x: float
    y: float
    side: int
    channels: int
    copied: int = 0  # channels of the white part on the left

    @property
    def width(self) -> float:
        return _width(self.channels)

    @property
    def height(self) -> float:
        return _height(self.side)

    @property
    def right(self) -> float:
        return self.x + self.width


def _width(channels):
    return 0.7 + 0.35 * channels**0.5  # areas would fit neither 1 nor 1024 channels; roots fit both


def _height(side):
    return 1.15 * side**0.5


def draw_unet(net: UNet, tile: int = 572, ax: Axes | None = None) -> Axes:
    """Draw the network for a square input tile (§2, Fig. 1);
    returns the Matplotlib axes, `ax` or those of a new figure.

    Raises InputError for an invalid tile, with the nearest valid ones.
    """
    contracting, expansive, output = layout(net, tile)
    boxes = [box for row in (*contracting, *expansive) for box in row] + [output]
    left, right, top = -9, output.right + 15, boxes[0].height / 2 + LABEL + 1
    legend_x = right - 27
    floor = min(box.y - box.height / 2 for box in boxes) - LABEL
    # what hangs over the legend
    overhead = min(box.y - box.height / 2 for box in boxes if box.right > legend_x - 2) - LABEL
    bottom = min(floor, overhead - LEGEND_LINE * (len(COLOURS) + 1)) - 1
    if ax is None:
        figure = Figure(figsize=((right - left) * INCHES, (top - bottom) * INCHES), dpi=150)
        ax = figure.add_axes((0, 0, 1, 1))
    ax.set(xlim=(left, right), ylim=(bottom, top))
    ax.set_axis_off()
    for level, boxes in enumerate(contracting):
        _draw_row(ax, boxes)
        if level + 1 < len(contracting):
            _vertical(ax, boxes[-1], contracting[level + 1][0], "max-pool 2x2")
    below = contracting[-1][-1]
    for level, boxes in reversed(list(enumerate(expansive))):
        _draw_row(ax, boxes)
        _vertical(ax, below, boxes[0], "up-conv 2x2")
        _skip(ax, contracting[level][-1], boxes[0])
        below = boxes[-1]
    _draw_box(ax, output)
    _arrow(ax, (expansive[0][-1].right, output.y), (output.x, output.y), "conv 1x1")
    _caption(ax, contracting[0][0].x - 1.2, contracting[0][0].y, "input\nimage\ntile", "right")
    _caption(ax, output.right + 1.2, output.y, "output\nsegmentation\nmap", "left")
    _legend(ax, legend_x, bottom + 2, f"{net.n_parameters:,} parameters")
    return ax


def layout(net: UNet, tile: int) -> tuple[list[list[Box]], list[list[Box]], Box]:
    """Where the boxes go: contracting[level] = [in, conv, conv], expansive[level] = [concatenated, conv, conv], output.

    The bottleneck is the last row of `contracting`. A level begins below (or above) the end of the level that feeds it.
    """
    rows = {row.name: row for row in fig_1.rows(net, tile)}
    incoming, x, y = rows["input"], 0.0, 0.0
    contracting = []
    for level in range(net.depth + 1):
        block = f"contracting.{level}" if level < net.depth else "bottleneck"
        boxes = _row(x, y, [incoming, rows[f"{block}.conv1"], rows[f"{block}.conv2"]])
        contracting.append(boxes)
        if level < net.depth:
            incoming = rows[f"{block}.pool"]
            x = boxes[-1].x + boxes[-1].width / 2 - _width(incoming.channels) / 2
            y -= boxes[0].height / 2 + STEP_DOWN + _height(incoming.side) / 2
    expansive: list[list[Box]] = [[] for _ in range(net.depth)]
    below = contracting[-1][-1]
    for level in reversed(range(net.depth)):
        concat, up = rows[f"expansive.{level}.concat"], rows[f"expansive.{level}.up"]
        boxes = _row(
            0, contracting[level][0].y, [concat, rows[f"expansive.{level}.conv1"], rows[f"expansive.{level}.conv2"]]
        )
        boxes[0].copied = concat.channels - up.channels
        middle_of_up = boxes[0].width * (1 - up.channels / concat.channels / 2)
        shift = below.x + below.width / 2 - middle_of_up
        for box in boxes:
            box.x += shift
        expansive[level], below = boxes, boxes[-1]
    output = Box(below.right + GAP, below.y, rows["output"].side, rows["output"].channels)
    return contracting, expansive, output


def _row(x, y, rows):
    boxes = []
    for row in rows:
        boxes.append(Box(x, y, row.side, row.channels))
        x = boxes[-1].right + GAP
    return boxes


def _draw_row(ax, boxes):
    for box in boxes:
        _draw_box(ax, box)
    for left, right in zip(boxes, boxes[1:]):
        _arrow(ax, (left.right, left.y), (right.x, right.y), "conv 3x3, ReLU")


def _draw_box(ax, box):
    white = box.width * box.copied / box.channels
    bottom = box.y - box.height / 2
    for x, width, fill in ((box.x, white, "white"), (box.x + white, box.width - white, FILL)):
        if width:
            ax.add_patch(
                Rectangle((x, bottom), width, box.height, facecolor=fill, edgecolor=OUTLINE, linewidth=0.9, zorder=3)
            )
    ax.text(
        box.x + box.width / 2,
        box.y + box.height / 2 + 0.5,
        str(box.channels),
        ha="center",
        va="bottom",
        fontsize=8,
        color=INK,
    )
    ax.text(box.x + box.width / 2, bottom - 0.5, f"{box.side}²", ha="center", va="top", fontsize=7.5, color=INK)


def _arrow(ax, start, end, operation, **options):
    style = "simple,head_length=5,head_width=7,tail_width=2.4"
    ax.add_patch(
        FancyArrowPatch(
            start,
            end,
            arrowstyle=style,
            color=COLOURS[operation],
            linewidth=0,
            zorder=4,
            **{"shrinkA": 1.5, "shrinkB": 1.5} | options,
        )
    )


def _vertical(ax, source, target, operation):
    """The red arrow down or the green arrow up, between the labels of the two boxes."""
    x, up = source.x + source.width / 2, target.y > source.y
    start = source.y + (source.height / 2 + LABEL) * (1 if up else -1)
    end = target.y - (target.height / 2 + LABEL) * (1 if up else -1)
    _arrow(ax, (x, start), (x, end), operation)


def _skip(ax, source, target):
    """The grey arrow, and the outline of what it keeps of its source."""
    kept = target.height
    if kept < source.height:
        inset = min(0.45, source.width / 6)
        ax.add_patch(
            Rectangle(
                (source.x + inset, source.y - kept / 2),
                source.width - 2 * inset,
                kept,
                fill=False,
                edgecolor=OUTLINE,
                linewidth=0.7,
                linestyle="dashed",
                zorder=3.5,
            )
        )
    _arrow(ax, (source.right, source.y), (target.x, target.y), "copy and crop")


def _caption(ax, x, y, text, align):
    ax.text(x, y, text, ha=align, va="center", fontsize=8, color=INK)


def _legend(ax, x, y, heading):
    ax.text(x, y + LEGEND_LINE * len(COLOURS), heading, va="center", fontsize=8.5, color=INK)
    for line, operation in enumerate(reversed(COLOURS)):
        _arrow(ax, (x, y + LEGEND_LINE * line), (x + 5, y + LEGEND_LINE * line), operation, shrinkA=0, shrinkB=0)
        words = operation.replace("2x2", "2×2").replace("3x3", "3×3").replace("1x1", "1×1")
        ax.text(x + 6.5, y + LEGEND_LINE * line, words, va="center", fontsize=8.5, color=INK)
