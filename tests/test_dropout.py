"""Dropout: statistics, the mask from its definition, seeds, and the same mask on the way back.

Definition, gradient and contract: test_ops_contract.py.
"""

import numpy as np
import pytest

from npunet.machine.backend import to_cpu
from npunet.ops import dropout, dropout_backward
from npunet.ops.dropout import Mask

ALL = 2**64 - 1


def philox4x64(counter, key):
    """Ten rounds of Philox on a counter of four words under a key of two, in Python's integers (Salmon et al.

    2011, section 4.3).
    """
    c, k = list(counter), list(key)
    for _ in range(10):
        first, second = 0xD2E7470EE14C6C93 * c[0], 0xCA5A826395121157 * c[2]
        c = [second >> 64 ^ c[1] ^ k[0], second & ALL, first >> 64 ^ c[3] ^ k[1], first & ALL]
        k = [k[0] + 0x9E3779B97F4A7C15 & ALL, k[1] + 0xBB67AE8584CAA73B & ALL]
    return c


@pytest.mark.parametrize(
    "counter, key, words",
    [
        ([0] * 4, [0] * 2, [0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B]),
        ([ALL] * 4, [ALL] * 2, [0x87B092C3013FE90B, 0x438C3C67BE8D0224, 0x9CC7D7C69CD777B6, 0xA09CAEBF594F0BA0]),
        (
            [0x243F6A8885A308D3, 0x13198A2E03707344, 0xA4093822299F31D0, 0x082EFA98EC4E6C89],
            [0x452821E638D01377, 0xBE5466CF34E90C6C],
            [0xA528F45403E61D95, 0x38C72DBD566E9788, 0xA5A1610E72FD18B5, 0x57BD43B5E52B7FE6],
        ),
    ],
)
def test_known_answers_of_philox(counter, key, words):
    """The definition above gives the published test vectors of Random123, the authors' own library."""
    assert philox4x64(counter, key) == words


@pytest.mark.parametrize("key", [0, 1, 0x0123456789ABCDEF, ALL])
@pytest.mark.parametrize("rate", [0.0, 0.3, 0.5, 0.999])
def test_the_mask_by_its_definition(key, rate):
    words = [word for block in range(1, 5) for word in philox4x64([block, 0, 0, 0], [key, 0])]
    numbers = [half for word in words for half in (word % 2**32, word >> 32)]
    keep = Mask(key, rate).keep((3, 9))
    np.testing.assert_array_equal(keep.ravel(), [number >= int(rate * 2**32) for number in numbers[:27]])


@pytest.mark.parametrize("rate", [0.25, 0.5, 0.9])
def test_statistics(xp, rate):
    """100,000 ones: each value is 0 or 1 / (1 - rate); share of zeros and mean within five standard deviations."""
    y, _ = dropout(xp.asarray(np.ones((10, 100, 100, 1))), rate, np.random.default_rng(3))
    y = to_cpu(y)
    np.testing.assert_allclose(np.unique(y), [0, 1 / (1 - rate)], rtol=1e-12)
    deviation = np.sqrt(rate * (1 - rate) / y.size)
    assert abs(np.mean(y == 0) - rate) < 5 * deviation
    assert abs(y.mean() - 1) < 5 * deviation / (1 - rate)


def test_neighbours_and_calls_are_independent():
    """Of 40,000 pairs of elements, next to each other or from two calls, a quarter are both kept:
    within five standard deviations.
    """
    generator = np.random.default_rng(0)
    first, second = (dropout(np.ones((1, 200, 200, 1)), 0.5, generator)[0] > 0 for _ in range(2))
    deviation = np.sqrt(0.25 * 0.75 / first.size)
    for other in (second, np.roll(first, 1, axis=1), np.roll(first, 1, axis=2)):
        assert abs(np.mean(first & other) - 0.25) < 5 * deviation


def test_the_mask_is_independent_of_device_and_dtype(xp):
    ones = np.ones((2, 5, 5, 3))
    reference = dropout(ones, 0.5, np.random.default_rng(1))[0] != 0
    for dtype in ("float32", "float64"):
        y, _ = dropout(xp.asarray(ones.astype(dtype)), 0.5, np.random.default_rng(1))
        np.testing.assert_array_equal(to_cpu(y) != 0, reference)


def test_every_call_draws_anew_and_uses_only_its_generator():
    generator, x = np.random.default_rng(0), np.ones((1, 8, 8, 4))
    state = np.random.get_state()[1].copy()
    first, second = dropout(x, 0.5, generator)[0], dropout(x, 0.5, generator)[0]
    assert (first != second).any()
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_backward_uses_the_mask_of_forward(xp):
    y, ctx = dropout(xp.asarray(np.ones((1, 6, 6, 2))), 0.5, np.random.default_rng(2))
    np.testing.assert_array_equal(to_cpu(dropout_backward(xp.asarray(np.ones((1, 6, 6, 2))), ctx)), to_cpu(y))


def test_rate_zero_keeps_everything(rng):
    x = rng.standard_normal((1, 4, 4, 2))
    np.testing.assert_array_equal(dropout(x, 0.0, rng)[0], x)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape, rate", [((1,), 0.5), ((2, 3, 5, 7), 0.3), ((1, 16, 16, 9), 0.5), ((3, 1, 1, 1), 0.0)])
def test_the_kernel_gives_the_same_bits(gpu, rng, dtype, shape, rate):
    x = rng.standard_normal(shape).astype(dtype)
    y, ctx = dropout(gpu.asarray(x), rate, np.random.default_rng(5))
    expected, expected_ctx = dropout(x, rate, np.random.default_rng(5))
    assert ctx == expected_ctx and y.dtype == dtype
    np.testing.assert_array_equal(to_cpu(y), expected)
    dy = rng.standard_normal(shape[::-1]).astype(dtype).T  # not in C order
    np.testing.assert_array_equal(to_cpu(dropout_backward(gpu.asarray(dy), ctx)), dropout_backward(dy, ctx))


def test_the_kernel_computes_philox(gpu):
    """Words of blocks far out and keys of all ones, through the device function itself."""
    from npunet.gpu import cuda, kernels

    probe = (
        kernels.DROPOUT.source
        + """
extern "C" __global__ void probe(unsigned long long key, unsigned long long counter, long long* words) {
    Word w[4];
    philox(key, counter, w);
    for (int i = 0; i < 4; ++i) words[i] = (long long)w[i];
}
"""
    )
    run = cuda.compiled(probe, cuda.options("float32")).get_function("probe")
    for key, counter in ((0, 0), (ALL, 12345), (0x9E3779B97F4A7C15, 2**29)):
        words = gpu.asarray(np.zeros(4, "int64"))
        run((1, 1, 1), (32, 1, 1), (np.uint64(key), np.uint64(counter), words))
        assert to_cpu(words).view("uint64").tolist() == philox4x64([counter, 0, 0, 0], [key, 0])
