"""Crop and concatenate: order, centre, adjoint. Definition, gradient and contract: test_ops_contract.py."""

import numpy as np
import pytest

from npunet.machine.backend import to_cpu
from npunet.ops import crop_concat, crop_concat_backward


def test_by_hand(xp):
    """A 4x4 map numbered 0 .. 15 around an upsampled 2x2 map: its centre is 5 6 / 9 10, and it comes second."""
    skip = np.arange(16.0).reshape(1, 4, 4, 1)
    y, _ = crop_concat(xp.asarray(np.full((1, 2, 2, 1), -1.0)), xp.asarray(skip))
    np.testing.assert_array_equal(to_cpu(y)[0, :, :, 0], -1)
    np.testing.assert_array_equal(to_cpu(y)[0, :, :, 1], [[5, 6], [9, 10]])


def test_an_odd_border_loses_the_extra_row_at_the_end(xp):
    skip = np.arange(15.0).reshape(1, 3, 5, 1)
    y, _ = crop_concat(xp.asarray(np.zeros((1, 2, 2, 1))), xp.asarray(skip))
    np.testing.assert_array_equal(to_cpu(y)[0, :, :, 1], [[1, 2], [6, 7]])


def test_backward_is_the_adjoint(xp, rng):
    """<crop_concat(u, s), dy> = <u, du> + <s, ds>: cropping and zero-padding are adjoint."""
    upsampled, skip, dy = (
        rng.standard_normal((2, 3, 4, 2)),
        rng.standard_normal((2, 8, 7, 3)),
        rng.standard_normal((2, 3, 4, 5)),
    )
    y, ctx = crop_concat(xp.asarray(upsampled), xp.asarray(skip))
    dupsampled, dskip = (to_cpu(gradient) for gradient in crop_concat_backward(xp.asarray(dy), ctx))
    assert np.sum(to_cpu(y) * dy) == pytest.approx(np.sum(upsampled * dupsampled) + np.sum(skip * dskip), rel=1e-12)
    np.testing.assert_array_equal(dskip, np.pad(dy[..., 2:], ((0, 0), (2, 3), (1, 2), (0, 0))))


@pytest.mark.parametrize("skip_shape", [(1, 2, 3, 1), (1, 3, 2, 1)])
def test_a_skip_that_is_too_small_is_refused(skip_shape):
    with pytest.raises(ValueError, match="smaller than the upsampled map"):
        crop_concat(np.zeros((1, 3, 3, 1)), np.zeros(skip_shape))
