"""Everything that has to be measured on a GPU, in one command:
correctness, times beside PyTorch with cuDNN, a training of some minutes.

    NPUNET_DATA=FOLDER python -m benchmarks.gpu --minutes 2.5 --out DIR

Needs CuPy and a GPU; PyTorch for the comparison; FOLDER/isbi2012 with train-volume.tif and train-labels.tif for the
training (sections 0 to 19, scored on 20 to 23), which is left out where they are missing. All parts together stay under
--seconds (default 480): what is late is shortened or skipped, and said. PyTorch's numbers come first, for without them
no other number means much. Each part is a process of its own: after an illegal address a process can do nothing more on
its GPU. A part writes what it found after every row, so one that fails, or is cut off, has lost its last row alone. The
folder holds results.json, report.md and the pictures after every part. Nothing is believed that was not computed here:
times are medians, measured by events on the device after warming up.
"""

import argparse
import functools
import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.convolution import arrays, layers
from benchmarks.gpu_profile import where_time_goes
from benchmarks.gpu_report import isbi_picture, plain, write
from benchmarks.networks import LEARNING_RATE, MOMENTUM, data
from npunet import UNet, datasets, loss, ops, optimizers, tiling, training
from npunet.commands import cli
from npunet.commands.scoring import evaluate
from npunet.commands.train_options import grey_statistics
from npunet.errors import InputError
from npunet.gpu import cublas
from npunet.machine import backend
from npunet.machine.backend import to_cpu, to_device
from npunet.ops.conv_algorithms import GPU_ALGORITHMS
from npunet.weight_map import class_balance

FULL = dict(tile=572, base_channels=64)
TORCH = {
    "PyTorch TF32": "tf32",
    "PyTorch float32": "float32",
    "PyTorch float32 channels-last": "float32+channels_last",
    "PyTorch TF32 channels-last": "tf32+channels_last",
    "PyTorch TF32 compiled": "tf32+compile",
}


class Gpu:
    """The device that is measured: arrays on it, and times by its own events."""

    name = "gpu"

    def __init__(self):
        import cupy

        self.xp = cupy

    def describe(self):
        cupy = self.xp
        properties = cupy.cuda.runtime.getDeviceProperties(0)
        return dict(
            gpu=properties["name"].decode(),
            multiprocessors=properties["multiProcessorCount"],
            compute_capability=cupy.cuda.Device().compute_capability,
            memory_gb=round(properties["totalGlobalMem"] / 1e9, 1),
            driver=cupy.cuda.runtime.driverGetVersion(),
            cuda=cupy.cuda.runtime.runtimeGetVersion(),
            cupy=cupy.__version__,
        )

    def times(self, step, seconds, least=5, most=50):
        """Milliseconds of each of up to `most` runs."""
        event = self.xp.cuda.Event
        for _ in range(3):
            step()
        self.xp.cuda.Device().synchronize()
        found, end = [], time.perf_counter() + seconds
        while len(found) < least or (len(found) < most and time.perf_counter() < end):
            start, stop = event(), event()
            start.record()
            step()
            stop.record()
            stop.synchronize()
            found.append(self.xp.cuda.get_elapsed_time(start, stop))
        return found

    def enqueued(self, step, count=20):
        """Milliseconds of a step if the host runs ahead: `count` of them between one pair of events."""
        step()
        start = self.mark()
        for _ in range(count):
            step()
        return self.between(start, self.mark()) / count

    def mark(self):
        """A moment in the order of the device's work."""
        event = self.xp.cuda.Event()
        event.record()
        return event

    def between(self, start, stop):
        """Milliseconds from one mark to a later one."""
        stop.synchronize()
        return self.xp.cuda.get_elapsed_time(start, stop)

    def tf32(self, on):
        cublas.use_tf32(on)

    def forget(self):
        """Gives all pooled memory back, so that the next peak is that of the next part."""
        self.xp.get_default_memory_pool().free_all_blocks()

    def peak(self):
        return backend.peak_memory()


def largest_error(mine, expected):
    """Largest difference over largest value."""
    mine, expected = to_cpu(mine).astype("float64"), np.asarray(expected, "float64")
    return float(abs(mine - expected).max() / max(abs(expected).max(), 1e-30))


# The parts. Each takes the device and the options, and returns what goes into the report under its name.


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
    for name, on in (("float32", False), ("tf32", True)):
        device.tf32(on)
        ms = statistics.median(device.times(lambda: cublas.batched_matmul(a, a, out), 1))
        found[f"gemm_{name}_tflops"] = round(2 * size**3 / ms / 1e9, 1)
        # TF32 is really on if this is about 3e-4 and not 1e-6
        found[f"gemm_{name}_error"] = largest_error(out[0, :64], exact)
        found[f"matmul_{name}_error"] = largest_error(xp.matmul(a[0], a[0])[:64], exact)
    device.tf32(False)
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
    for size, channels, outputs in ((64, 32, 48), (64, 128, 256), (30, 256, 128)):  # small and large blocks of kernels
        size = min(size, len(image[0]))
        for name in (name for name in GPU_ALGORITHMS if can_do(name, 3, channels, outputs)):
            for on in (True,) if name == "tensor_cores" else (False, True):  # which knows nothing but TF32
                device.tf32(on)
                title = f"conv2d {name} {'tf32' if on else 'float32'} {size}x{channels}->{outputs}"
                found |= gradients_of(device, name, title, draw, (1, size, size + 3, channels), outputs)
        device.tf32(False)
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
    there, there_ctx = ops.conv2d(*map(device.xp.asarray, host), relu=True, algorithm=algorithm)
    there_ctx = there_ctx._replace(y=device.xp.asarray(y.astype("float32")))  # rounding must not decide the ReLU
    mine = [there, *ops.conv2d_backward(device.xp.asarray(dy), there_ctx)]
    names = "y", "dx", "dweight", "dbias"
    return {f"{title} {name}": largest_error(a, b) for name, a, b in zip(names, mine, wanted)}


def can_do(name, kernel, channels, outputs):
    """Whether an algorithm of the GPU, or any other, takes such a kernel."""
    algorithm = GPU_ALGORITHMS.get(name)
    return algorithm is None or (
        algorithm.supports(kernel, kernel) and getattr(algorithm, "fits", lambda c, k: True)(channels, outputs)
    )


def limit(name):
    """What an error may be: 1e-5 in float32, 1e-12 in float64; TF32 keeps 10 bits of mantissa."""
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


def peers(device, options):
    """The full training step and forward pass of PyTorch with cuDNN; its two eager modes first, TF32 before float32."""
    found = {}
    for name, mode in TORCH.items():
        limit_s = min(120 if "compile" in mode else 90, options.time_left() - options.reserved)
        found[name] = torch_peer(mode, "steps", options.tile, options.base_channels, options.part_seconds, limit_s)
        if "train_ms" in found[name]:
            found[name]["steps_a_second"] = 1e3 / found[name]["train_ms"]
        options.keep(found)
    return found


def full_size(device, options, tf32):
    """The full training step and forward pass of npunet, and the segmentation of a 512 x 512 image in one tile of 700,
    transfers included.
    """
    device.forget()
    device.tf32(tf32)
    seconds, found = options.part_seconds, {}
    net = UNet(base_channels=options.base_channels, device=device.name)
    optimizer = optimizers.SGD(net.parameters, LEARNING_RATE, MOMENTUM)
    image, labels = (to_device(array, device.name) for array in data(options.tile))
    weights = device.xp.ones(labels.shape, dtype="float32")

    def step(wait):
        training.training_step(net, optimizer, image, labels, weights, clip=1.0, wait=wait)

    waited = device.times(lambda: step(True), seconds)
    found["train_ms"], found["train_times_ms"] = statistics.median(waited), waited
    found |= dict(steps_a_second=1e3 / found["train_ms"], peak_bytes=device.peak())
    options.keep(found)
    found["train_without_waiting_ms"] = device.enqueued(lambda: step(False))
    options.keep(found)
    optimizer.forget_gradients()
    found["infer_ms"] = statistics.median(device.times(lambda: net.forward(image), seconds / 2))
    options.keep(found)
    picture = np.random.default_rng(0).random((options.picture, options.picture, 1), dtype=np.float32)
    whole = []
    for _ in range(7):
        start = time.perf_counter()
        tiling.predict(net, picture, options.picture_tile)
        whole.append(1e3 * (time.perf_counter() - start))
    found["segmentation_512_ms"] = statistics.median(whole[2:])
    device.tf32(False)
    return found


def profile(device, options):
    """Where the time of a full training step goes, in float32 and in TF32."""
    found = {}
    for name, on in (("float32", False), ("TF32", True)):
        device.forget()
        device.tf32(on)
        net = UNet(base_channels=options.base_channels, device=device.name)
        optimizer = optimizers.SGD(net.parameters, LEARNING_RATE, MOMENTUM)
        image, labels = (to_device(array, device.name) for array in data(options.tile))
        weights = device.xp.ones(labels.shape, dtype="float32")
        found[name] = where_time_goes(
            device, net, lambda: training.training_step(net, optimizer, image, labels, weights, clip=1.0, wait=False)
        )
        options.keep(found)
    device.tf32(False)
    return found


def torch_peer(mode, task, tile, base_channels, seconds, timeout):
    """What benchmarks/gpu_torch.py printed last, in a process of its own:
    all of it, or what it had so far when it was late.
    """
    if timeout < 1:
        return dict(error="skipped, out of time")
    command = [sys.executable, "-m", "benchmarks.gpu_torch", mode, task, str(tile), str(base_channels), str(seconds)]
    try:
        printed, otherwise = (
            subprocess.run(command, capture_output=True, text=True, timeout=timeout).stdout,
            "ended without an answer",
        )
    except subprocess.TimeoutExpired as late:
        printed, otherwise = (late.stdout or b"").decode(), f"no answer within {timeout:.0f} s"
    try:
        return json.loads(printed.strip().splitlines()[-1])
    except (IndexError, ValueError):
        return dict(error=otherwise)


def layer_by_layer(device, options):
    """Every convolution of the network: each algorithm of the GPU, and cuDNN;
    forward, and forward with both gradients.
    """
    shapes = list(dict.fromkeys(layers(options.tile)))
    end, rows = time.perf_counter() + options.time_left() - options.reserved - 60, []  # a minute for PyTorch
    shapes = shapes[::2] + shapes[1::2]  # wide and deep ones early, should time run out
    for size, channels, outputs, kernel in shapes:
        if time.perf_counter() > end:
            rows.append(dict(layer=[size, channels, outputs, kernel], skipped="out of time"))
            continue
        x, weight, bias, dy = (device.xp.asarray(array) for array in arrays(size, channels, outputs, kernel))
        row = dict(
            layer=[size, channels, outputs, kernel],
            gflop=2e-9 * (size - kernel + 1) ** 2 * kernel**2 * channels * outputs,
            ms={},
        )
        for name in ("im2col", "shifted_gemm", *GPU_ALGORITHMS, "auto"):
            if not can_do(name, kernel, channels, outputs):
                continue
            for precision, on in (("float32", False), ("tf32", True))[name == "tensor_cores" :]:
                device.tf32(on)

                def both():
                    y, ctx = ops.conv2d(x, weight, bias, relu=True, algorithm=name)
                    ops.conv2d_backward(dy, ctx, channels > 1)

                try:
                    forward = device.times(lambda: ops.conv2d(x, weight, bias, relu=True, algorithm=name), 0.1, 3, 10)
                    row["ms"][f"{name} {precision}"] = [
                        statistics.median(forward),
                        statistics.median(device.times(both, 0.1, 3, 10)),
                    ]
                except Exception as error:  # this algorithm, at this size: the others go on
                    row["ms"][f"{name} {precision}"] = f"{type(error).__name__}: {error}"
        rows.append(row)
        options.keep(dict(rows=rows, notes={}))
        device.forget()
    device.tf32(False)
    peers = {
        mode: torch_peer(
            mode, "layers", options.tile, options.base_channels, 8, min(60, options.time_left() - options.reserved)
        )
        for mode in ("float32", "tf32", "tf32+channels_last")
    }
    for mode, peer in peers.items():
        for one in peer.get("layers", []):
            row = next((row for row in rows if row["layer"] == one["layer"] and "ms" in row), None)
            if row is not None:
                row["ms"][f"PyTorch {mode}"] = [one["forward_ms"], one["both_ms"]]
    return dict(rows=rows, notes={mode: peer["error"] for mode, peer in peers.items() if "error" in peer})


def isbi(device, options):
    """Training for --minutes on sections 0 to 19 of ISBI 2012, scored on sections 20 to 23; TF32 as --tf32 says."""
    dataset = datasets.load(options.data)
    train, held_out = dataset.samples[:20], dataset.samples[20:24]
    if not held_out:
        raise InputError(f"{options.data} has {len(dataset.samples)} images; expected more than 20")
    device.forget()
    device.tf32(options.tf32)
    mean, std = grey_statistics(train)
    seconds = 60 * min(options.minutes, max(0.2, options.time_left() / 60 - 0.6))
    settings = training.augmentation.Settings(w0=0.0)
    if (
        options.weight_map
    ):  # Eq. 2 in full: V_rand 0.972 instead of 0.961 on a CPU; the host's threads draw the tiles then
        settings = training.augmentation.Settings(
            class_weights=tuple(map(float, class_balance([sample.labels for sample in train], 2)))
        )
    net = UNet(base_channels=options.base_channels, device=device.name, input_mean=mean, input_std=std)
    train = training.placed(train, device.name)

    def run(net, steps):
        recipe = training.Recipe(steps=steps, tile=options.tile, learning_rate=options.learning_rate)
        optimizer, rows = training.make_optimizer(recipe, net.parameters), []
        began = time.perf_counter()
        for step, batch in enumerate(training.batches(train, recipe, net.output_size(recipe.tile), 0, settings)):
            optimizer.learning_rate = training.learning_rate(recipe, step)
            rows.append(
                (time.perf_counter() - began, *training.training_step(net, optimizer, *batch, clip=recipe.clip))
            )
        return rows

    trial = run(UNet(base_channels=options.base_channels, device=device.name, input_mean=mean, input_std=std), 12)
    steps = max(12, int(0.97 * seconds / ((trial[-1][0] - trial[3][0]) / 8)))
    rows = run(net, steps)
    start = time.perf_counter()
    scores, probabilities = evaluate(net, held_out, options.tile)
    device.tf32(False)
    np.savez_compressed(
        Path(options.out) / "held_out.npz", probabilities=np.stack([p[..., 1] for p in probabilities]).astype("float16")
    )
    isbi_picture(rows, held_out[0], probabilities[0], Path(options.out) / "isbi.png")
    return dict(
        seconds=rows[-1][0],
        steps=steps,
        steps_a_second=len(rows) / rows[-1][0],
        tf32=options.tf32,
        weight_map=options.weight_map,
        scores=scores,
        scoring_seconds=time.perf_counter() - start,
        peak_bytes=device.peak(),
        losses=[round(row[1], 4) for row in rows[:: max(1, steps // 200)]],
    )


PARTS = {
    "PyTorch": peers,
    "npunet TF32": functools.partial(full_size, tf32=True),
    "npunet float32": functools.partial(full_size, tf32=False),
    "operations": operations,
    "training steps": training_steps,
    "machine": machine,
    "profile": profile,
    "isbi": isbi,
    "layers": layer_by_layer,
}
WITHOUT_GPU = ("PyTorch",)  # it starts processes that use the GPU, and does not itself


def run(options, begin, parts=PARTS):
    """All parts in turn; returns {part: what it found}. begin(name, options) does one part."""
    began, found = time.perf_counter(), {}
    options.time_left = lambda: options.seconds - (time.perf_counter() - began)
    for place, name in enumerate(parts):
        start = time.perf_counter()
        later = list(parts)[place + 1 :]
        options.reserved = 60 * options.minutes + 60 if "isbi" in later else 0  # for the training and its scores
        if options.time_left() < 15:
            found[name] = dict(error="skipped, out of time")
        else:
            found[name] = begin(name, options)
        print(
            f"{name}: {time.perf_counter() - start:.0f} "
            f"s{', failed: ' + found[name]['error'] if isinstance(found[name].get('error'), str) else ''}",
            flush=True,
        )
        write(found, options)
    return found


def here(name, options, device, parts=PARTS):
    """One part in this process; what it kept, and its error if it failed."""
    kept = {}
    options.keep = kept.update
    try:
        return parts[name](device, options)
    except Exception as error:  # recorded; the next part runs
        return kept | dict(error=f"{type(error).__name__}: {(str(error).strip() or '?').splitlines()[0]}")


def apart(name, options, command=(sys.executable, "-m", "benchmarks.gpu")):
    """One part in a process of its own; what it wrote until it ended, and how it ended if that was not well."""
    path = Path(options.out) / "part.json"
    path.unlink(missing_ok=True)
    given = ["--alone", name, "--seconds", str(options.time_left()), "--reserved", str(options.reserved)]
    try:
        status = subprocess.run([*command, *options.given, *given], timeout=options.time_left() + 30).returncode
        ended = {} if status == 0 else dict(error=f"its process ended with status {status}")
    except subprocess.TimeoutExpired:
        ended = dict(error="its process was late and was ended")
    kept = json.loads(path.read_text()) if path.exists() else {}
    path.unlink(missing_ok=True)
    return ended | kept


def alone(name, options):
    """What `apart` started: the part, whose rows go to a file as they come."""
    began, path = time.perf_counter(), Path(options.out) / "part.json"
    options.time_left = lambda: options.seconds - (time.perf_counter() - began)

    def keep(found):
        whole = path.with_suffix(".new")
        whole.write_text(json.dumps(found, default=plain))
        whole.replace(path)

    options.keep = keep
    try:
        keep(PARTS[name](None if name in WITHOUT_GPU else Gpu(), options))
    except Exception as error:
        kept = json.loads(path.read_text()) if path.exists() else {}
        keep(kept | dict(error=f"{type(error).__name__}: {(str(error).strip() or '?').splitlines()[0]}"))


def parser():
    parse = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.partition("\n")[0])
    parse.add_argument("--minutes", type=float, default=2.5, help="of training on ISBI 2012 (default 2.5)")
    parse.add_argument("--out", default="runs/gpu", help="folder for everything that is written (default runs/gpu)")
    parse.add_argument("--seconds", type=float, default=480, help="for all parts together (default 480)")
    parse.add_argument("--parts", help="comma-separated, default all: " + ", ".join(PARTS))
    parse.add_argument(
        "--data", default="isbi2012", help="what is trained on: a named set or a folder (default isbi2012)"
    )
    parse.add_argument("--learning-rate", type=float, default=1e-3)
    parse.add_argument(
        "--tf32", action=argparse.BooleanOptionalAction, default=True, help="for the training (default on)"
    )
    parse.add_argument(
        "--weight-map",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="Eq. 2 in full for the training: w0 = 10 and w_c (default on)",
    )
    parse.add_argument("--part-seconds", type=float, default=4, help="for one series of a step (default 4)")
    parse.add_argument("--alone", help=argparse.SUPPRESS)
    parse.add_argument("--reserved", type=float, default=0, help=argparse.SUPPRESS)
    parse.set_defaults(probe=4096, picture=512, picture_tile=700, **FULL)
    return parse


def main(arguments=None):
    options = parser().parse_args(arguments)
    if options.alone:
        return alone(options.alone, options)
    problem = backend.gpu_problem()
    if problem:
        raise InputError(f"benchmarks.gpu: {problem}")
    parts = PARTS
    if options.parts:
        unknown = [name for name in options.parts.split(",") if name not in PARTS]
        if unknown:
            raise InputError(f"--parts {unknown[0]} is not known; expected some of {', '.join(PARTS)}")
        parts = {name: PARTS[name] for name in options.parts.split(",")}
    Path(options.out).mkdir(parents=True, exist_ok=True)
    options.given = list(arguments if arguments is not None else sys.argv[1:])
    options.command = " ".join(["python -m benchmarks.gpu", *options.given])
    warming = subprocess.Popen([sys.executable, "-c", "import torch"], stderr=subprocess.DEVNULL)  # from a cold disk
    try:
        warming.wait(timeout=90 if "PyTorch" in parts else 0)
    except subprocess.TimeoutExpired:
        pass
    found = run(options, apart, parts)
    print((Path(options.out) / "report.md").read_text())
    return found


if __name__ == "__main__":
    cli.run(main)
