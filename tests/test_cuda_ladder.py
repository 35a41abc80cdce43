"""Convolution on a GPU in five kernels: every rung computes the same, on the emulation and on a device."""

import numpy as np
import pytest

from npunet.errors import InputError
from npunet.gpu.conv_ladder import KERNELS, RUNGS, climb
from npunet.machine.backend import to_cpu
from npunet.ops.convolution import conv2d_definition


@pytest.mark.parametrize("height, width, channels, outputs", [(6, 7, 16, 20), (3, 3, 16, 4), (12, 9, 32, 68)])
@pytest.mark.parametrize("rung", RUNGS)
def test_every_rung_is_the_definition(gpu, rng, rung, height, width, channels, outputs):
    x = rng.standard_normal((height, width, channels)).astype("float32")
    weight = rng.standard_normal((3, 3, channels, outputs)).astype("float32")
    wanted = exact(x, weight)
    found = to_cpu(climb(rung, gpu.asarray(x), gpu.asarray(weight)))
    error = np.linalg.norm(found - wanted) / np.linalg.norm(wanted)
    least, most = (3e-5, 1e-3) if rung in ("ladder_tensor", "ladder_overlap") else (0, 1e-6)
    assert found.dtype == "float32" and least <= error <= most


def exact(x, weight):
    """In float64, one product of matrices for each tap."""
    height, width, _ = x.shape
    x, weight = x.astype("float64"), weight.astype("float64")
    return sum(x[u : height - 2 + u, v : width - 2 + v] @ weight[u, v] for u in range(3) for v in range(3))


def test_the_oracle_is_the_definition(rng):
    x, weight = rng.standard_normal((4, 5, 2)), rng.standard_normal((3, 3, 2, 3))
    np.testing.assert_allclose(exact(x, weight), conv2d_definition(x[None], weight, np.zeros(3))[0], rtol=1e-12)


@pytest.mark.parametrize("rung", list(RUNGS)[:4])
def test_all_but_the_last_take_any_number_of_channels(gpu, rng, rung):
    x, weight = rng.standard_normal((5, 6, 3)).astype("float32"), rng.standard_normal((3, 3, 3, 7)).astype("float32")
    found = to_cpu(climb(rung, gpu.asarray(x), gpu.asarray(weight)))
    np.testing.assert_allclose(found, exact(x, weight), atol=1e-2)


def test_the_last_rung_says_what_it_needs(gpu, rng):
    x, weight = (gpu.asarray(np.zeros(shape, "float32")) for shape in ((5, 6, 8), (3, 3, 8, 16)))
    with pytest.raises(InputError, match="ladder_overlap: found 8 -> 16 channels; expected multiples of 16 and 4"):
        climb("ladder_overlap", x, weight)


def test_the_ladder_is_all_there():
    assert list(RUNGS) == [name for name in KERNELS.source.replace("(", " ").split() if name in RUNGS][-len(RUNGS) :]
