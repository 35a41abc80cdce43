"""The numbers of tensor_core_blocks.py that a device will decide, each against float64: warps of a block, slabs, the
order of taps and channels.

A file of its own, which 1-right.sh runs beside the others: it compiles three more kinds of each kernel.
"""

import pytest
from test_cuda_against_float64 import ROUNDED, arranged, check, for_maps, sized

from npunet.gpu import cublas, tensor_core_blocks


@pytest.mark.parametrize("blocks", ["large", "small"])
@pytest.mark.parametrize("precision", ROUNDED)
@pytest.mark.parametrize("warps, slabs, near, shares", [(8, 2, 1, 1), (8, 2, 1, 9), (4, 4, 1, 9), (4, 3, 0, 3)])
def test_other_arrangements(gpu, rng, monkeypatch, warps, slabs, near, shares, precision, blocks):
    """Warps of a block, slabs under way, the order of taps and channels: the numbers that a device will decide."""
    monkeypatch.setattr(cublas, "_precision", precision)
    monkeypatch.setattr(tensor_core_blocks, "NEAR", near)
    monkeypatch.setattr(tensor_core_blocks, "shares_of_taps", lambda *_: shares)
    arranged(monkeypatch, blocks, warps, slabs)
    shape = for_maps(sized(gpu, (3, 5, 4, 32, 128, 1), (3, 30, 31, 64, 128, 1)), precision)
    launched = check(gpu, rng, monkeypatch, "tensor_cores", "float32", shape, ROUNDED[precision])
    assert ("convolve_128" if blocks == "large" else "convolve_64") in launched
    assert ("add_shares" in launched) == (shares > 1)
