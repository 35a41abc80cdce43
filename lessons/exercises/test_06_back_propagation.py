"""Check of exercise 6, run as: pytest lessons/exercises -k 06"""

import numpy as np
from exercise import check_of, load

READ = 'lesson 6, "2. Two readers, two gradients"'
AXES = ("image", "row", "column", "channel")
CASES = {
    "nothing to crop": ((1, 2, 3, 1), (1, 2, 3, 1)),
    "a frame of 2 rows and 3 columns, two images": ((2, 4, 4, 3), (2, 8, 10, 3)),
    "an odd rest: one row more is cut at the bottom": ((1, 3, 5, 2), (1, 6, 5, 2)),
}


def corners(small, large):
    """(sentence, top, left) of crops at wrong places."""
    down, across = large[1] - small[1], large[2] - small[2]
    return [
        ("the crop is the top left corner of the skip; the middle is wanted", 0, 0),
        ("the crop is the bottom right corner of the skip; the middle is wanted", down, across),
        ("the crop is shifted by one: an odd rest is rounded down at the top", -(-down // 2), -(-across // 2)),
    ]


def test_crop_add():
    check = check_of("06_back_propagation", "crop_add", READ)
    function = check.function
    check.function = lambda upsampled, skip: function(upsampled, skip)[0]
    for seed, (case, (small, large)) in enumerate(CASES.items()):
        rng = np.random.default_rng(seed)
        upsampled, skip = rng.standard_normal(small), rng.standard_normal(large)

        def added(top, left, upsampled=upsampled, skip=skip):
            y = np.zeros(upsampled.shape)
            for n, i, j, c in np.ndindex(y.shape):
                y[n, i, j, c] = upsampled[n, i, j, c] + skip[n, top + i, left + j, c]
            return y

        right = added((large[1] - small[1]) // 2, (large[2] - small[2]) // 2)
        mistakes = {
            "concatenated instead of added": np.concatenate([upsampled, right - upsampled], axis=3),
            "only the cropped skip came back": right - upsampled,
            "the mean of the two; their sum is wanted": right / 2,
            "the skip is subtracted": 2 * upsampled - right,
            "multiplied instead of added": upsampled * (right - upsampled),
        }
        mistakes |= {sentence: added(top, left) for sentence, top, left in corners(small, large)}
        check(case, {"upsampled": upsampled, "skip": skip}, right, mistakes, axes=AXES)
    check.verdict()


def test_crop_add_backward():
    check = check_of("06_back_propagation", "crop_add_backward", READ)
    backward, forward = check.function, load("06_back_propagation").crop_add
    for seed, (case, (small, large)) in enumerate(CASES.items()):
        rng = np.random.default_rng(10 + seed)
        upsampled, skip, dy = rng.standard_normal(small), rng.standard_normal(large), rng.standard_normal(small)
        check.function = lambda dy, u=upsampled, s=skip: backward(dy, forward(u.copy(), s.copy())[1])

        def framed(top, left, dy=dy, large=large):
            dskip = np.zeros(large)
            for n, i, j, c in np.ndindex(dy.shape):
                dskip[n, top + i, left + j, c] = dy[n, i, j, c]
            return dskip

        right = framed((large[1] - small[1]) // 2, (large[2] - small[2]) // 2)
        mistakes = {
            "halved: adding hands all of dy to both": (dy / 2, right / 2),
            "dskip is halved: adding hands all of dy to both": (None, right / 2),
            "the frame is missing: dskip has the size of the skip, 0 where it was cut off": (None, dy),
            "where the skip was cut off the gradient is 0": (None, np.where(right == 0, 1.0, right)),
            "dskip and dupsampled are returned in the other order": (right, dy),
        }
        mistakes |= {sentence: (None, framed(top, left)) for sentence, top, left in corners(small, large)}
        check(case, {"dy": dy}, (dy, right), mistakes, outputs=("dupsampled", "dskip"), axes=AXES)
        check.verdict()
        dupsampled, dskip = check.function(dy)
        for first, second, names in ((dupsampled, dy, "dupsampled and dy"), (dskip, dy, "dskip and dy")):
            if np.shares_memory(first, second):
                why = "whoever adds to one changes the other: return a .copy()"
                check.fail(f"{names} are the same memory: {case}", why)
        if np.shares_memory(dupsampled, dskip):
            check.fail(f"dupsampled and dskip are the same memory: {case}", "return a .copy() of one of them")
