"""What fits into memory: what is named really needs less, by the same predictions, and is one line;
the estimate for a GPU by hand.
"""

import re
import sys
import types

import pytest

from npunet import InputError, UNet, geometry, summary
from npunet.commands import memory_needs
from npunet.gpu import cublas
from npunet.machine import backend


@pytest.fixture(scope="module")
def net():
    return UNet(base_channels=32)


def there(net, monkeypatch):
    """The network as if it were on a GPU; only its sizes are asked for."""
    monkeypatch.setattr(net, "device", "gpu")
    return net


@pytest.mark.parametrize("device, batch, tile", [("cpu", 1, 572), ("gpu", 1, 572), ("gpu", 4, 316)])
def test_what_is_named_before_starting_fits(net, monkeypatch, device, batch, tile):
    monkeypatch.setattr(net, "device", device)
    wanted = memory_needs.needed(net, tile, batch)
    monkeypatch.setattr(memory_needs, "free_memory", lambda device: wanted)
    memory_needs.check_training(net, tile, batch)  # just enough
    free = 0.6 * wanted
    monkeypatch.setattr(memory_needs, "free_memory", lambda device: free)
    with pytest.raises(InputError) as error:
        memory_needs.check_training(net, tile, batch)
    found = re.fullmatch(
        rf"a training step at tile {tile} with 32 base channels needs about \S+ GB, but \S+ GB are free; "
        r"--tile (\d+) or --base-channels (\d+) would fit",
        str(error.value),
    )
    smaller, width = map(int, found.groups())
    assert smaller < tile and width < 32
    assert memory_needs.needed(net, smaller, batch) <= free < memory_needs.needed(net, smaller + 16, batch)
    assert (
        memory_needs.needed(UNet(base_channels=width), tile, batch, device)
        <= free
        < memory_needs.needed(UNet(base_channels=2 * width), tile, batch, device)
    )


def test_running_out_names_less_than_was_predicted_or_is_there(net, monkeypatch):
    there(net, monkeypatch)
    for in_all in (10**13, 0.5 * memory_needs.needed(net, 572, 1)):
        monkeypatch.setattr(memory_needs, "memory_in_all", lambda device: in_all)
        with (
            pytest.raises(
                InputError, match="^out of memory at tile 572 with 32 base channels; --tile .* should fit$"
            ) as error,
            memory_needs.out_of_memory(net, 572, 1),
        ):
            raise MemoryError
        allowed = 0.8 * min(in_all, memory_needs.needed(net, 572, 1))
        assert memory_needs.needed(net, int(re.search(r"--tile (\d+)", str(error.value))[1]), 1) <= allowed
        assert (
            memory_needs.needed(
                UNet(base_channels=int(re.search(r"--base-channels (\d+)", str(error.value))[1])), 572, 1, "gpu"
            )
            <= allowed
        )


def test_inference_names_a_tile_below_what_the_image_needs(net):
    """An image of 196 pixels is predicted with a tile of 380, whatever --tile says."""
    with (
        pytest.raises(InputError, match=r"^out of memory at tile 380; --tile \d+ should fit$") as error,
        memory_needs.out_of_memory(net, 1020, covering=196.0),
    ):
        raise MemoryError
    assert 204 <= int(re.search(r"--tile (\d+)", str(error.value))[1]) < 380


def test_nothing_fits(net, monkeypatch):
    monkeypatch.setattr(memory_needs, "free_memory", lambda device: 1000)
    with pytest.raises(InputError, match="nothing at this width: a smaller network or more memory would fit"):
        memory_needs.check_training(net, 188, 1)


def test_other_errors_pass(net):
    with pytest.raises(ValueError, match="mine"), memory_needs.out_of_memory(net, 572, 1):
        raise ValueError("mine")


def test_gpu_workspace_by_hand(monkeypatch):
    """Depth 1, two channels, tile 24: 24 -> 22 -> 20 | 10 -> 8 -> 6 | 12 -> 10 -> 8. With 8 and 16 channels as well."""
    small = UNet(1, 2, base_channels=2, depth=1)  # fewer than 8 channels everywhere: copies of a kernel, 4 -> 4 at most
    assert (
        memory_needs.gpu_workspace(small, summary.rows(small, 24), 1) == 4 * 4 * 9 * 4 * 4 + memory_needs.CUBLAS_BUFFERS
    )
    wide = UNet(1, 2, base_channels=16, depth=1)
    tiles, largest = 3 * 3, 0  # 12 -> 10, 32 -> 16 channels; 8 -> 6, 32 -> 32 channels has 4 tiles
    largest = max(
        36 * 36 * (16 + 16) + 36 * 16 * 16, 36 * tiles * (32 + 16) + 36 * 32 * 16, 36 * 4 * (32 + 32) + 36 * 32 * 32
    )
    assert memory_needs.gpu_workspace(wide, summary.rows(wide, 24), 1) == 4 * largest + memory_needs.CUBLAS_BUFFERS
    monkeypatch.setattr(cublas, "_precision", "tf32")  # kernels' copies only
    assert (
        memory_needs.gpu_workspace(wide, summary.rows(wide, 24), 1) == 4 * 4 * 9 * 32 * 32 + memory_needs.CUBLAS_BUFFERS
    )


def test_16_bits_need_half_and_narrower_networks_keep_multiples_of_32(monkeypatch):
    """--precision bf16, as in Fig. 1: the maps have half the bytes, parameters and their gradients all of them."""
    net = there(UNet(base_channels=128, depth=2), monkeypatch)
    monkeypatch.setattr(cublas, "_precision", "tf32")  # no workspace of Winograd's
    in_float32 = memory_needs.needed(net, 572, 4)
    beside = memory_needs.needed(net, 44, 0)  # no maps
    monkeypatch.setattr(cublas, "_precision", "bf16")
    in_16_bits = memory_needs.needed(net, 572, 4)
    assert 0.48 < (in_16_bits - beside) / (in_float32 - beside) < 0.52
    assert memory_needs.advice(net, 572, 4, in_16_bits / 3).endswith("--base-channels 32")
    assert "--base-channels" not in memory_needs.advice(net, 572, 4, in_16_bits / 8)  # 16 would be refused
    monkeypatch.setattr(net, "device", "cpu")
    assert memory_needs.rows(net, 44) == memory_needs.rows(net, 44, "cpu") != memory_needs.rows(net, 44, "gpu")


def test_free_memory_of_a_gpu_counts_the_pool(monkeypatch):
    module = types.ModuleType("cupy")
    module.cuda = types.SimpleNamespace(runtime=types.SimpleNamespace(memGetInfo=lambda: (1000, 9000)))
    module.get_default_memory_pool = lambda: types.SimpleNamespace(free_bytes=lambda: 30, total_bytes=lambda: 200)
    monkeypatch.setitem(sys.modules, "cupy", module)
    assert (
        backend.free_memory("gpu") == 1030
        and backend.memory_in_all("gpu") == 1200
        and backend.memory_in_all("cpu") is None
    )


@pytest.mark.parametrize("depth", [1, 3, 4])
def test_tiles_that_fit_together_bring_a_whole_block_of_the_grid(depth):
    assert memory_needs.least_output(UNet(base_channels=2, depth=depth)) == 2**depth
    padded = memory_needs.least_output(UNet(base_channels=2, depth=depth, variant="padded"))
    margin = (padded - 2**depth) // 2  # on each side, and no smaller multiple of the grid would do
    assert 0 <= margin - geometry.padded_context(depth) < 2**depth and margin % 2**depth == 0
