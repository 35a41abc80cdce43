"""Whether a GPU computes what it should: parts of benchmarks/gpu.py. Each takes the device and the options, and returns
what goes into the report under its name.
"""

import platform
import statistics
from pathlib import Path

import numpy as np

from benchmarks.gpu_device import largest_error
from npunet import UNet, loss, ops, optimizers, training
from npunet.gpu import cublas, sixteen_bits
from npunet.machine.backend import to_cpu, to_device
from npunet.ops.conv_algorithms import GPU_ALGORITHMS


def machine(device, options):
    found = device.describe() | dict(
        host=platform.processor() or platform.machine(), python=platform.python_version(), numpy=np.__version__
    )
    xp, size = device.xp, options.probe
    a, b = xp.ones(size * size * 4, dtype="float32"), xp.empty(size * size * 4, dtype="float32")
    copy = statistics.median(device.times(lambda: xp.copyto(b, a), 1))
    found["copy_tb_s"] = round(2 * a.nbytes / copy / 1e9, 3)
    a = xp.asarray(np.random.default_rng(0).standard_normal((1, size, size)).astype("float32"))
    exact = to_cpu(a[0, :64]).astype("float64") @ to_cpu(a[0]).astype("float64")
    out = xp.empty_like(a)
    for name in ("float32", "tf32"):
        device.precision(name)
        ms = statistics.median(device.times(lambda: cublas.batched_matmul(a, a, out), 1))
        found[f"gemm_{name}_tflops"] = round(2 * size**3 / ms / 1e9, 1)
        # TF32 is really on if this is about 3e-4 and not 1e-6
        found[f"gemm_{name}_error"] = largest_error(out[0, :64], exact)
        found[f"matmul_{name}_error"] = largest_error(xp.matmul(a[0], a[0])[:64], exact)
    device.precision("float32")
    return found


def operations(device, options):
    """Largest error of every operation and of its gradients against NumPy, in float32 and float64."""
    rng, found = np.random.default_rng(0), {}

    def compare(name, forward, backward, *host):
        for dtype in ("float32", "float64"):
            inputs = [x.astype(dtype) for x in host]
            y, ctx = forward(*inputs)
            dy = rng.standard_normal(y.shape).astype(dtype)
            wanted = backward(dy, ctx)
            there, there_ctx = forward(*(device.xp.asarray(x) for x in inputs))
            mine = backward(device.xp.asarray(dy), there_ctx)
            pairs = [(there, y), *zip(*((part if isinstance(part, tuple) else (part,)) for part in (mine, wanted)))]
            found[f"{name} {dtype}"] = max(largest_error(a, b) for a, b in pairs if b is not None)

    draw = rng.standard_normal
    size = options.probe // 64  # 64 pixels where a GPU is measured
    image = draw((1, size, size, 32))
    compare("relu", ops.relu, ops.relu_backward, image)
    compare("max_pool2d, ties", ops.max_pool2d, ops.max_pool2d_backward, np.maximum(np.round(image), 0))
    compare("up_conv2d", ops.up_conv2d, ops.up_conv2d_backward, image, draw((2, 2, 32, 16)), draw(16))
    compare("crop_concat", ops.crop_concat, ops.crop_concat_backward, image[:, 8:-8, 8:-8], image)
    compare("pad_concat", ops.pad_concat, ops.pad_concat_backward, image[:, 4:-4, 4:-4], image)
    compare("upsample2d", ops.upsample2d, ops.upsample2d_backward, image)
    compare("tanh", ops.tanh, ops.tanh_backward, image)
    compare("batch_norm", lambda *a: ops.batch_norm(*a), ops.batch_norm_backward, image, draw(32), draw(32))
    compare("dropout", lambda x: ops.dropout(x, 0.5, np.random.default_rng(3)), ops.dropout_backward, image)
    for kernel, channels, outputs in ((3, 32, 48), (3, 1, 48), (3, 3, 48), (1, 32, 48), (1, 32, 2)):
        x, weight = image[..., :channels], draw((kernel, kernel, channels, outputs)) / (kernel * channels**0.5)
        compare(
            f"conv2d {kernel}x{kernel} {channels} -> {outputs}",
            ops.conv2d,
            ops.conv2d_backward,
            x,
            weight,
            draw(outputs),
        )
    options.keep(dict(errors=found))
    for size, channels, outputs in ((64, 32, 96), (64, 128, 256), (30, 256, 128)):  # small and large blocks of kernels
        size = min(size, len(image[0]))
        for name in (name for name in GPU_ALGORITHMS if can_do(name, 3, channels, outputs)):
            for precision in ("tf32", "bf16") if name == "tensor_cores" else ("float32", "tf32"):
                device.precision(precision)
                title = f"conv2d {name} {precision} {size}x{channels}->{outputs}"
                found |= gradients_of(device, name, title, draw, (1, size, size + 3, channels), outputs)
        device.precision("float32")
    options.keep(dict(errors=found))
    logits, labels = draw((1, 60, 60, 3)), rng.integers(0, 3, (1, 60, 60))
    for dtype in ("float32", "float64"):
        energy, dlogits = loss.weighted_cross_entropy(logits.astype(dtype), labels)
        mine, dmine = loss.weighted_cross_entropy(device.xp.asarray(logits.astype(dtype)), device.xp.asarray(labels))
        found[f"energy {dtype}"] = max(largest_error(mine, energy), largest_error(dmine, dlogits))
    return dict(errors=found, too_large={name: error for name, error in found.items() if error > limit(name)})


def gradients_of(device, algorithm, title, draw, shape, outputs):
    """{title and y, dx, dweight or dbias: largest error} of one algorithm in float32 against float64 on the CPU."""
    x, weight, bias = draw(shape), draw((3, 3, shape[3], outputs)) / (3 * shape[3] ** 0.5), draw(outputs)
    host = [array.astype("float32") for array in (x, weight, bias)]
    y, ctx = ops.conv2d(*(array.astype("float64") for array in host), relu=True)
    dy = draw(y.shape).astype("float32")
    wanted = [y, *ops.conv2d_backward(dy.astype("float64"), ctx)]
    x, weight, bias = map(device.xp.asarray, host)
    there, there_ctx = ops.conv2d(feature_map(x), weight, bias, relu=True, algorithm=algorithm)
    mask = feature_map(device.xp.asarray(y.astype("float32")))  # rounding must not decide the ReLU
    mine = [there, *ops.conv2d_backward(feature_map(device.xp.asarray(dy)), there_ctx._replace(y=mask))]
    mine = map(sixteen_bits.as_floats, mine)
    names = "y", "dx", "dweight", "dbias"
    return {f"{title} {name}": largest_error(a, b) for name, a, b in zip(names, mine, wanted)}


def feature_map(x):
    """x, float32, as convolutions between others get it: in 16 bits after --precision bf16."""
    return sixteen_bits.rounded(x) if cublas.precision() == "bf16" else x


def can_do(name, kernel, channels, outputs):
    """Whether an algorithm of the GPU, or any other, takes such a kernel."""
    algorithm = GPU_ALGORITHMS.get(name)
    return algorithm is None or (
        algorithm.supports(kernel, kernel) and getattr(algorithm, "fits", lambda c, k: True)(channels, outputs)
    )


def limit(name):
    """What an error may be: 1e-5 in float32, 1e-12 in float64; TF32 keeps 10 bits of mantissa, bfloat16 7."""
    if "bf16" in name:
        return 1.6e-2
    return 2e-3 if "tf32" in name else 1e-12 if "float64" in name else 1e-5


def training_steps(device, options):
    """Three training steps of a small network on both devices; then a checkpoint goes from the device to the CPU."""
    rng = np.random.default_rng(0)
    nets = [UNet(base_channels=8, seed=1, device=name) for name in (device.name, "cpu")]
    steps = [optimizers.Adam(net.parameters, 1e-4) for net in nets]
    size, rows = 188, []
    for _ in range(3):
        tile = (
            rng.standard_normal((1, size, size, 1)).astype("float32"),
            rng.integers(0, 2, (1, 4, 4)),
            np.ones((1, 4, 4), "float32"),
        )
        rows.append([training.training_step(net, optimizer, *tile, clip=1.0) for net, optimizer in zip(nets, steps)])
    path = Path(options.out) / "moved.npz"
    nets[0].save(path)
    moved = UNet.load(path)
    path.unlink()
    x = rng.standard_normal((1, size, size, 1)).astype("float32")
    return dict(
        energy_and_norm=rows,
        error=max(abs(a - b) / abs(b) for row in rows for a, b in zip(*row)),
        error_after_moving=largest_error(nets[0].forward(to_device(x, device.name)), moved.forward(x)),
    )
