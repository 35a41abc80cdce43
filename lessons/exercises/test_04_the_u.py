"""Check of exercise 4, run as: pytest lessons/exercises -k 04"""

import numpy as np
import pytest
from exercise import check_of

import npunet

READ = 'lesson 4, "3. Crop and concatenate"'
FIG_1 = [(568, 392, 88), (280, 200, 40), (136, 104, 16), (64, 56, 4)]  # the sizes are printed in Fig. 1


def test_skips():
    check = check_of("04_the_u", "skips", READ)
    cases = {"572, the grey arrows of Fig. 1": (572, 4, FIG_1)}
    for tile, depth in [(188, 4), (108, 3), (60, 2), (64, 2), (22, 1)]:
        cases[f"tile {tile}, depth {depth}: sizes of the live network"] = tile, depth, live(tile, depth)
    for case, (tile, depth, rows) in cases.items():
        table = np.array(rows, float)
        skip, up, crop = table.T
        mistakes = {
            "the levels are in the wrong order; level 0 comes first": table[::-1],
            "the upsampled sides are in the wrong order; level 0 comes first": np.stack(
                [skip, up[::-1], (skip - up[::-1]) // 2], axis=1
            ),
            "all that is cut off; crop is what is cut off at one side, half of it": np.stack([skip, up, 2 * crop], 1),
            "the skip is measured before the convolutions of its level; it starts behind them": np.stack(
                [skip + 4, up, (skip + 4 - up) / 2], 1
            ),
            "one convolution takes 2 rows, two take 4": np.stack([skip + 2, up, (skip + 2 - up) / 2], 1),
            "the upsampled side is measured behind the convolutions; the skip ends before them": np.stack(
                [skip, up - 4, (skip - up + 4) / 2], 1
            ),
            "the bottleneck is forgotten: two more convolutions before the way up": np.array(
                without_bottleneck(tile, depth), float
            ),
        }
        found = check.call(case, {"tile": tile, "depth": depth})
        try:
            found = [tuple(float(value) for value in level) for level in found]
        except TypeError:
            check.fail(f"skips returns {found!r}", "a list of (skip, upsampled, crop) is wanted, one for each level")
        mistakes = {sentence: [result] for sentence, result in mistakes.items()}
        check.keep(case, ["the list of skips"], [found], [table], mistakes, axes=("level", "skip, upsampled, crop"))
    check.verdict()


def live(tile, depth):
    maps = npunet.UNet(base_channels=1, depth=depth).feature_maps(np.zeros((1, tile, tile, 1), np.float32))
    skips = [maps[f"contracting.{level}.dropout"].shape[1] for level in range(depth)]
    ups = [maps[f"expansive.{level}.up"].shape[1] for level in range(depth)]
    return [(skip, up, (skip - up) // 2) for skip, up in zip(skips, ups)]


def without_bottleneck(tile, depth):
    skips, side = [], tile
    for _ in range(depth):
        skips.append(side - 4)
        side = (side - 4) // 2
    ups = []
    for _ in range(depth):
        ups.append(2 * side)
        side = 2 * side - 4
    return [(skip, up, (skip - up) // 2) for skip, up in zip(skips, ups[::-1])]


@pytest.mark.parametrize("tile", [570, 571, 573, 574, 172, 0])
def test_tiles_that_do_not_fit_are_refused(tile):
    check = check_of("04_the_u", "skips", READ)
    try:
        found = check.function(tile)
    except ValueError:
        return
    except NotImplementedError:
        raise
    except Exception as error:
        check.fail(f"skips({tile}) stopped with {type(error).__name__}", "ValueError is wanted")
    why = {0: "nothing is left of a tile of 0", 172: "nothing is left of it at the end: check the last side, too"}
    odd = "a pooling would meet an odd side: ValueError is wanted, look at the side before each halving"
    check.fail(f"skips({tile}) returns {found}", why.get(tile, odd))
