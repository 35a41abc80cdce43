from collections import Counter

import matplotlib.colors
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

from npunet import InputError, UNet, figure_1


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_fig_1_of_the_paper():
    shown = texts(figure_1.draw_unet(UNet(), 572))
    sides = [
        572,
        570,
        568,
        284,
        282,
        280,
        140,
        138,
        136,
        68,
        66,
        64,
        32,
        30,
        28,
        56,
        54,
        52,
        104,
        102,
        100,
        200,
        198,
        196,
        392,
        390,
        388,
        388,
    ]
    assert Counter(text for text in shown if text.endswith("²")) == Counter(f"{side}²" for side in sides)
    channels = [
        1,
        64,
        64,
        64,
        128,
        128,
        128,
        256,
        256,
        256,
        512,
        512,
        512,
        1024,
        1024,
        1024,
        512,
        512,
        512,
        256,
        256,
        256,
        128,
        128,
        128,
        64,
        64,
        2,
    ]
    assert Counter(text for text in shown if text.isdecimal()) == Counter(map(str, channels))
    assert "31,030,658 parameters" in shown


def test_what_is_copied_is_outlined_in_dashes():
    """One outline in each level, as high as the map that it is joined to: 56, 104, 200 and 392 rows, drawn as roots."""
    ax = figure_1.draw_unet(UNet(base_channels=2))  # the tile of 572 is the default
    dashed = [patch for patch in ax.patches if patch.get_linestyle() in ("--", "dashed")]
    heights = [patch.get_height() for patch in dashed]
    assert len(dashed) == 4 and not any(patch.get_fill() for patch in dashed)
    np.testing.assert_allclose(heights, np.sqrt([56, 104, 200, 392]) * heights[-1] / np.sqrt(392), rtol=1e-6)


@pytest.mark.parametrize("depth, base, tile", [(1, 2, 24), (2, 8, 60), (3, 16, 188), (4, 64, 188)])
def test_nothing_overlaps_and_all_is_inside(depth, base, tile):
    figure = figure_1.draw_unet(UNet(3, 4, base_channels=base, depth=depth), tile).figure
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    boxes = [text.get_window_extent(canvas.get_renderer()) for text in figure.axes[0].texts]
    width, height = canvas.get_width_height()
    for index, box in enumerate(boxes):
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height
        assert not any(box.overlaps(other) for other in boxes[:index])


def test_draws_into_given_axes_and_refuses_invalid_tiles():
    ax = Figure().add_subplot()
    net = UNet(base_channels=2, depth=1)
    assert figure_1.draw_unet(net, 24, ax) is ax
    with pytest.raises(InputError, match="nearest"):
        figure_1.draw_unet(net, 25)


def test_the_arrows_of_fig_1_join_its_maps_and_sizes_stand_below_them():
    ax = figure_1.draw_unet(UNet(base_channels=2, depth=2), 60)
    maps = {}  # by (left, right, y): the side that is written below
    solid = [patch for patch in ax.patches if isinstance(patch, Rectangle) and patch.get_linestyle() == "solid"]
    for box in solid:
        halves = [box, *(other for other in solid if np.isclose(other.get_x(), box.get_x() + box.get_width()))]
        left, right, y = box.get_x(), halves[-1].get_x() + halves[-1].get_width(), box.get_y() + box.get_height() / 2
        for text in ax.texts:
            if text.get_text().endswith("²") and np.allclose(
                text.get_position(), ((left + right) / 2, box.get_y() - 0.5)
            ):
                maps[left, right, y] = int(text.get_text()[:-1])
    assert len(maps) == 16
    kinds = {matplotlib.colors.to_rgba(colour): operation for operation, colour in figure_1.COLOURS.items()}
    joined = {operation: [] for operation in figure_1.COLOURS}
    for arrow in ax.patches:
        if isinstance(arrow, FancyArrowPatch):
            (x, y), (to_x, to_y) = arrow._posA_posB
            if x == to_x:
                source = [side for (left, right, _), side in maps.items() if np.isclose(x, (left + right) / 2)]
                joined[kinds[arrow.get_facecolor()]] += source
            sources = [side for (_, right, at), side in maps.items() if np.allclose((x, y), (right, at))]
            targets = [side for (left, _, at), side in maps.items() if np.allclose((to_x, to_y), (left, at))]
            joined[kinds[arrow.get_facecolor()]] += zip(sources, targets)
    assert joined == {
        "conv 3x3, ReLU": [(side, side - 2) for side in (60, 58, 28, 26, 12, 10, 16, 14, 24, 22)],
        "copy and crop": [(24, 16), (56, 24)],
        "max-pool 2x2": [56, 28, 24, 12],  # the map above the arrow, and the one below, which has the same middle
        "up-conv 2x2": [8, 12],
        "conv 1x1": [(20, 20)],
    }  # fmt: skip
