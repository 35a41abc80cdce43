"""Check of exercise 9, run as: pytest lessons/exercises -k 09"""

import numpy as np
from exercise import check_of

from lessons.build.checks.pictures import expected_of, pooling_network, tile_mistakes

READ = 'lesson 9, "Why tiles stand at multiples of 2^D"'
LENGTHS = [
    (512, 388, 16, [0, 384]),
    (388, 388, 16, [0]),
    (389, 388, 16, [0, 384]),
    (100, 388, 16, [0]),
    (772, 388, 16, [0, 384]),
    (773, 388, 16, [0, 384, 768]),
    (40, 16, 16, [0, 16, 32]),
    (41, 20, 8, [0, 16, 32]),
    (36, 20, 8, [0, 16]),
]


def test_starts():
    check = check_of("09_overlap_tile", "starts", READ)
    for length, output, grid, expected in LENGTHS:
        stride = output // grid * grid
        pulled = [min(start, max(length - output, 0)) for start in expected]
        mistakes = {
            "tiles stand output pixels apart; that is no multiple of grid": list(range(0, length, output)),
            "one tile too many: those before cover the axis already": list(range(0, length, stride)),
            "one tile too many: those before cover the axis already ": [*expected, expected[-1] + stride],
            "the last tile is missing: the end of the axis has no answer": expected[:-1],
            "the last tile is pulled back: its place is no multiple of grid then": pulled,
            "tiles stand grid pixels apart: many more than needed": list(range(0, max(length - output, 0) + 1, grid)),
            "tiles that do not fit whole are left out": list(range(0, max(length - output, 0) + 1, stride)),
            "an axis shorter than one output needs one tile": [],
            "the places are counted from the border, not from the first pixel": [start - grid for start in expected],
        }
        case = f"length {length}, output {output}, grid {grid}"
        arguments = {"length": length, "output": output, "grid": grid}
        check(case, arguments, np.array(expected), mistakes, outputs=("the list",), axes=("tile",))
    check.verdict()


def test_overlap_tile():
    check = check_of("09_overlap_tile", "overlap_tile", READ)
    cases = {
        "one tile is enough": ((8, 8), (12, 8, 4)),
        "two tiles of 8 pixels side by side": ((8, 16), (12, 8, 4)),
        "an image that is no multiple of the output": ((13, 19), (12, 8, 4)),
        "an output of 10 on a grid of 4: the next tile starts 8 further": ((20, 26), (16, 10, 4)),
        "60 x 44 pixels, tiles of 24": ((60, 44), (24, 16, 4)),
    }
    for seed, (case, (shape, (tile, output, grid))) in enumerate(cases.items()):
        image = np.random.default_rng(seed).permutation(shape[0] * shape[1]).reshape(shape) + 1.0
        network = pooling_network(tile, output, grid)
        border = (tile - output) // 2
        height, width = (grid * (-(-n // grid) + 1) + 2 * border + 2 * grid for n in shape)
        whole = expected_of(image[..., None], border, height // grid * grid, width // grid * grid, grid)

        def forward(x, network=network):
            return network(np.asarray(x)[..., None])[..., 0]

        mistakes = tile_mistakes(network, image[..., None], tile, output, grid)
        mistakes = {sentence: make()[..., 0] for sentence, make in mistakes.items()}
        arguments = {"forward": forward, "image": image, "tile": tile, "output": output, "grid": grid}
        check(case, arguments, whole[..., 0], mistakes, outputs=("the result",), axes=("row", "column"))
    check.verdict()
