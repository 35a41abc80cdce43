"""wgmma.cu: each product against float64 and against mma.sync, on the emulation and, where there is one, on a GPU.

A file of its own, so that a kernel that hangs on the device costs its own tests and no others.
"""

import numpy as np
import pytest
from cuda_on_cpu import networks_live_on
from test_cuda_against_float64 import ROUNDED, check, distance, placed, sized

from npunet import ops, optimizers, unet
from npunet.gpu import cublas, cuda, sixteen_bits, tensor_core_blocks, tensor_cores
from npunet.machine.backend import to_cpu
from npunet.training import recorded_step, training_step


@pytest.fixture
def gpu(gpu, monkeypatch):
    """--precision bf16 and wgmma are on; skipped on a GPU that has none."""
    if cuda.compute_capability() != 90:
        pytest.skip(f"compute capability {cuda.compute_capability() / 10} has no wgmma, 9.0 has")
    monkeypatch.setattr(cublas, "_precision", "bf16")
    monkeypatch.setattr(tensor_core_blocks, "WGMMA", True)
    return gpu


@pytest.fixture
def launched(gpu, monkeypatch):
    """{(file, kernel)} of what is launched."""
    found, launch = set(), cuda.CudaFile.launch

    def noted(file, name, *arguments, **how):
        found.add((file.path.stem, name))
        launch(file, name, *arguments, **how)

    monkeypatch.setattr(cuda.CudaFile, "launch", noted)
    return found


SHAPES = [  # shares of the taps; n, height, width, channels, outputs, padding: on the emulation, on a device
    (1, (1, 5, 4, 128, 128, 0), (1, 70, 73, 128, 256, 0)),
    (3, (2, 3, 4, 128, 256, 1), (2, 17, 9, 256, 128, 1)),
    (9, (1, 17, 18, 64, 128, 2), (1, 110, 113, 64, 128, 2)),
    (1, (1, 17, 18, 64, 128, 1), (1, 110, 113, 64, 128, 1)),
]


@pytest.mark.parametrize("shares, emulated_shape, device_shape", SHAPES)
def test_convolutions(gpu, rng, monkeypatch, launched, shares, emulated_shape, device_shape):
    """Forward and the input gradient by wgmma; ragged pixels, several images, every padding, shares of the taps."""
    monkeypatch.setattr(tensor_core_blocks, "shares_of_taps", lambda *_: shares)
    shape = sized(gpu, emulated_shape, device_shape)
    check(gpu, rng, monkeypatch, "tensor_cores", "float32", shape, ROUNDED["bf16"])
    products = {file for file, name in launched if name == "convolve_128"}
    products |= {file for file, name in launched if name == "flipped_128" and shape[3] % 128 == 0}
    assert products == {"wgmma"}
    assert (("tensor_cores", "add_shares") in launched) == (shares > 1)


@pytest.mark.parametrize("shares", [1, 2, 4])
def test_up_convolutions(gpu, rng, monkeypatch, launched, shares):
    """In steps of two pixels, forward and backward; the definition is one product for each tap."""
    monkeypatch.setattr(tensor_core_blocks, "shares_of_taps", lambda *a: shares)
    n, height, width, c, k = sized(gpu, (2, 3, 5, 128, 128), (2, 17, 9, 256, 128))
    draw = lambda *size: rng.standard_normal(size).astype("float32")
    weight, bias = draw(2, 2, c, k), draw(k)
    (x_there, x), (dy_there, dy) = (placed(gpu, draw(n, s * height, s * width, m), True) for s, m in ((1, c), (2, k)))
    y = np.einsum("nijc,abck->niajbk", x, weight.astype("float64")).reshape(dy.shape) + bias
    dx = np.einsum("niajbk,abck->nijc", dy.reshape(n, height, 2, width, 2, k), weight.astype("float64"))
    mine, ctx = ops.up_conv2d(x_there, *map(gpu.asarray, (weight, bias)))
    for found, expected in ((mine, y), (ops.up_conv2d_backward(dy_there, ctx)[0], dx)):
        least, most = ROUNDED["bf16"]
        assert least <= distance(sixteen_bits.as_floats(found), expected) <= most
    assert {file for file, name in launched if name in ("up_128", "down_128")} == {"wgmma"}


@pytest.mark.parametrize("kind", [tensor_cores.CONVOLVE, tensor_cores.FLIPPED, tensor_cores.UP, tensor_cores.DOWN])
def test_the_same_as_mma_sync(gpu, rng, monkeypatch, launched, kind):
    """Both add the same products in float32, in another order; to 16 bits they round to the same, but for a few."""
    size, c, k = sized(gpu, (18, 64, 128), (66, 192, 256))
    side = 3 if kind.taps == 9 else 2
    weight = gpu.asarray(
        rng.standard_normal((side, side, *((c, k) if kind.outputs == 3 else (k, c)))).astype("float32")
    )
    x = sixteen_bits.rounded(gpu.asarray(rng.standard_normal((1, size, size, c)).astype("float32")))
    bias = gpu.asarray(rng.standard_normal(k).astype("float32"))
    output = {"convolve": size, "flipped": size, "up": 2 * size, "down": size // 2}[kind.name]
    results = []
    for wgmma in (True, False):
        monkeypatch.setattr(tensor_core_blocks, "WGMMA", wgmma)
        y = tensor_cores.multiply(kind, x, weight, bias, (1, output, output, k), int(kind.taps == 9), relu=True)
        results.append(to_cpu(sixteen_bits.as_floats(y)))
    assert {file for file, name in launched if name.startswith(kind.name)} == {"wgmma", "tensor_cores"}
    np.testing.assert_allclose(*results, rtol=1 / 128, atol=1e-4)
    assert (results[0] != results[1]).mean() < 0.01


def test_a_training_step(gpu, rng, monkeypatch, launched):
    """A network's loss and norm of the gradient are those of mma.sync; the step can be recorded and replayed."""
    networks_live_on(gpu, monkeypatch, "npunet.training")
    image = gpu.asarray(rng.standard_normal((1, 8, 8, 1)).astype("float32"))
    labels, weights = gpu.asarray(rng.integers(0, 2, (1, 8, 8))), gpu.asarray(np.ones((1, 8, 8), "float32"))
    net, other = (unet.UNet(1, 2, 64, 1, variant="padded", device="gpu", dropout=0.0, seed=3) for _ in range(2))
    replayed = recorded_step(net, optimizers.Adam(net.parameters, 1e-3), 0.5)
    found = to_cpu(replayed(image, labels, weights))
    assert {name for file, name in launched if file == "wgmma"} == {"convolve_128", "flipped_128", "down_128"}
    monkeypatch.setattr(tensor_core_blocks, "WGMMA", False)
    optimizer = optimizers.Adam(other.parameters, 1e-3)
    expected = training_step(other, optimizer, image, labels, weights, clip=0.5, wait=False)
    np.testing.assert_allclose(found, to_cpu(expected), rtol=1e-2)


def test_what_it_cannot_do_is_left_to_mma_sync(gpu, rng, monkeypatch, launched):
    """Other channels, other precisions, other GPUs."""

    def used(c, k, precision="bf16", capability=90):
        launched.clear()
        monkeypatch.setattr(cublas, "_precision", precision)
        with monkeypatch.context() as during:
            during.setattr(cuda, "compute_capability", lambda: capability)
            x, weight = (gpu.asarray(rng.standard_normal(s).astype("float32")) for s in ((1, 4, 4, c), (3, 3, c, k)))
            x = sixteen_bits.rounded(x) if precision == "bf16" else x
            ops.conv2d(x, weight, algorithm="tensor_cores")
        return {file for file, name in launched if name.startswith("convolve")}.pop()

    assert used(64, 128) == "wgmma"
    assert used(96, 128) == used(64, 64) == used(64, 128, "tf32") == used(64, 128, capability=100) == "tensor_cores"
    monkeypatch.setattr(tensor_core_blocks, "WGMMA", False)
    assert used(64, 128) == "tensor_cores"
