"""Check of exercise 16, run as: pytest lessons/exercises -k 16"""

import numpy as np
from exercise import check_of


def rounds(n, begin_again=False, modulo=True, forward=1):
    """For each rank and round (sent, received), by walking around the ring: everyone passes on what came last."""
    table = np.zeros((n, 2 * n - 2, 2), int)
    for rank in range(n):
        holds = rank
        for k in range(2 * n - 2):
            if k == n - 1:
                holds = rank if begin_again else holds + n  # the same piece, rank + 1
            sends, holds = holds, holds - forward
            table[rank, k] = sends, holds
    return table % n if modulo else table


def test_pieces():
    check = check_of("16_many_processes", "pieces", 'lesson 16, "2. The ring"')
    for n in (2, 3, 4, 7):
        case = f"{n} ranks"
        expected = rounds(n)
        found = np.zeros_like(expected)
        for rank, k in np.ndindex(*expected.shape[:2]):
            answer = check.call(case, {"rank": rank, "k": k, "n": n})
            try:
                found[rank, k] = [int(piece) for piece in answer]
            except (TypeError, ValueError):
                check.fail(f"pieces({rank}, {k}, {n}) returns {answer!r}", "two whole numbers are wanted")
        sent, rank, k = expected[..., 0], *np.indices(expected.shape[:2])
        no_remainder = found if np.array_equal(found % n, expected) else rounds(n, modulo=False)
        mistakes = {
            "pieces are counted modulo n: there is none below 0": no_remainder,
            "what is received is one piece lower than what is sent, not one higher": np.stack(
                [sent, (sent + 1) % n], axis=2
            ),
            "in round k a rank sends piece rank - k, not rank + k": np.stack(
                [(rank + k) % n, (rank + k - 1) % n], axis=2
            ),
            "the second half begins with the finished piece, rank + 1, not with piece rank": rounds(
                n, begin_again=True
            ),
            "the pieces go round the other way: to the right neighbour, so the number sinks": rounds(n, forward=-1),
            "what a rank receives is not what it sends in the same round": np.repeat(rounds(n)[..., :1], 2, axis=2),
            "sent and received are exchanged": rounds(n)[..., ::-1],
        }
        mistakes = {sentence: [result] for sentence, result in mistakes.items()}
        check.keep(case, ["(sent, received)"], [found], [expected], mistakes, axes=("rank", "round", "sent, received"))
    check.verdict()


def test_big_gradient():
    check = check_of("16_many_processes", "big_gradient", 'lesson 16, "1. What has to be said: one gradient"')
    rng = np.random.default_rng(0)
    for case, pixels in (("as many pixels each", [4, 4, 4]), ("one rank has more", [300, 100]), ("alone", [7])):
        pixels = np.array(pixels)
        of_pixels = [rng.standard_normal((count, 5)) for count in pixels]  # the gradient of each pixel's energy
        gradients = np.stack([one.mean(axis=0) for one in of_pixels])
        expected = np.concatenate(of_pixels).mean(axis=0)
        mistakes = {
            "the mean over ranks: a rank with many pixels counts no more than one with few": gradients.mean(axis=0),
            "the sum is not divided by the number of pixels": (pixels[:, None] * gradients).sum(axis=0),
            "the weighted sum is divided by the number of ranks": (pixels[:, None] * gradients).mean(axis=0),
            "the sum over ranks": gradients.sum(axis=0),
        }
        check(case, {"gradients": gradients, "pixels": pixels}, expected, mistakes, outputs=("gradient",))
    check.verdict()
