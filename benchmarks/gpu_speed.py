"""How fast a GPU is, beside PyTorch with cuDNN: parts of benchmarks/gpu.py. Each takes the device and the options, and
returns what goes into the report under its name.
"""

import json
import statistics
import subprocess
import sys
import time

import numpy as np

from benchmarks.convolution import arrays, layers
from benchmarks.gpu_correct import can_do, feature_map
from benchmarks.gpu_profile import where_time_goes
from benchmarks.networks import LEARNING_RATE, MOMENTUM, data
from npunet import UNet, datasets, ops, optimizers, tiling, training
from npunet.gpu import tensor_core_blocks
from npunet.machine.backend import to_device

NEEDED = {  # the bars are ratios to these
    "PyTorch TF32": "tf32",
    "PyTorch float32": "float32",
    "PyTorch bf16": "bf16",
}
LESS_NEEDED = {
    "PyTorch TF32 channels-last": "tf32+channels_last",
    "PyTorch bf16 channels-last": "bf16+channels_last",
    "PyTorch TF32 compiled": "tf32+compile",
}
# Each algorithm in each precision that it knows, and what is set in gpu/tensor_core_blocks.py for it; "swapped": its
# taps in the other order.
VARIANTS = {
    "few_channels_cuda float32": ("few_channels_cuda", "float32", {}),
    "winograd_cuda float32": ("winograd_cuda", "float32", {}),
    "tensor_cores tf32": ("tensor_cores", "tf32", {}),
    "tensor_cores tf32 swapped": ("tensor_cores", "tf32", dict(NEAR=0)),
    "tensor_cores tf32 8 warps": ("tensor_cores", "tf32", dict(WARPS=8, SLABS=2)),
    "tensor_cores tf32 4 slabs": ("tensor_cores", "tf32", dict(SLABS=4)),
    "tensor_cores bf16": ("tensor_cores", "bf16", {}),
    "tensor_cores bf16 8 warps": ("tensor_cores", "bf16", dict(WARPS=8, SLABS=2)),
}
BY_WARPGROUPS = {"tensor_cores bf16 wgmma": ("tensor_cores", "bf16", dict(WGMMA=True))}  # last, should it hang


def peers(device, options, modes):
    """The full training step and forward pass of PyTorch with cuDNN, in each of {name: mode}."""
    found = {}
    for name, mode in modes.items():
        limit_s = min(90 if "compile" in mode else 60, options.time_left() - options.reserved)
        found[name] = torch_peer(mode, "steps", options.tile, options.base_channels, options.part_seconds, limit_s)
        if "train_ms" in found[name]:
            found[name]["steps_a_second"] = 1e3 / found[name]["train_ms"]
        options.keep(found)
    return found


def full_size(device, options, precision, graph=False, wgmma=False):
    """The full training step and forward pass of npunet, and the segmentation of a 512 x 512 image in one tile of 700,
    transfers included. With graph the step is recorded and replayed, and nothing else is measured.
    """
    tensor_core_blocks.WGMMA = wgmma
    device.forget()
    device.precision(precision)
    seconds, found = options.part_seconds, {}
    net = UNet(base_channels=options.base_channels, device=device.name)
    optimizer = optimizers.SGD(net.parameters, LEARNING_RATE, MOMENTUM)
    image, labels = (to_device(array, device.name) for array in data(options.tile))
    weights = device.xp.ones(labels.shape, dtype="float32")

    def step(wait):
        training.training_step(net, optimizer, image, labels, weights, clip=1.0, wait=wait)

    if graph:
        recorded = training.recorded_step(net, optimizer, 1.0)
        times = device.times(lambda: recorded(image, labels, weights), seconds)
        found["train_ms"], found["train_times_ms"] = statistics.median(times), times
        found |= dict(steps_a_second=1e3 / found["train_ms"], peak_bytes=device.peak())
        found["train_without_waiting_ms"] = device.enqueued(lambda: recorded(image, labels, weights))
        device.precision("float32")
        return found
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
    device.precision("float32")
    return found


def profile(device, options):
    """Where the time of a full training step goes, in each precision."""
    found = {}
    for name, precision in (("TF32", "tf32"), ("bf16", "bf16"), ("float32", "float32")):
        device.forget()
        device.precision(precision)
        net = UNet(base_channels=options.base_channels, device=device.name)
        optimizer = optimizers.SGD(net.parameters, LEARNING_RATE, MOMENTUM)
        image, labels = (to_device(array, device.name) for array in data(options.tile))
        weights = device.xp.ones(labels.shape, dtype="float32")
        found[name] = where_time_goes(
            device, net, lambda: training.training_step(net, optimizer, image, labels, weights, clip=1.0, wait=False)
        )
        options.keep(found)
    device.precision("float32")
    return found


def torch_peer(mode, task, tile, base_channels, seconds, timeout):
    """What benchmarks/gpu_torch.py printed last, in a process of its own:
    all of it, or what it had so far when it was late.
    """
    if timeout < 1:
        return dict(error="skipped, out of time")
    command = [sys.executable, "-m", "benchmarks.gpu_torch", mode, task, str(tile), str(base_channels), str(seconds)]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
        said = ended.stderr.strip().splitlines()[-1:]
        printed, otherwise = ended.stdout, ": ".join(["ended without an answer", *said])
    except subprocess.TimeoutExpired as late:
        printed, otherwise = (late.stdout or b"").decode(), f"no answer within {timeout:.0f} s"
    try:
        return json.loads(printed.strip().splitlines()[-1])
    except (IndexError, ValueError):
        return dict(error=otherwise)


def tiles(device, options):
    """Steps a second in TF32 with tiles drawn on the device, with and without the border term of Eq. 2."""
    found = {}
    device.precision("tf32")
    samples = training.placed(datasets.synthetic(n_sections=4, size=options.section, seed=2).samples, device.name)
    for w0 in (0.0, 10.0):
        device.forget()
        net = UNet(base_channels=options.base_channels, device=device.name)
        recipe = training.Recipe(steps=options.steps, tile=options.tile)
        optimizer, reports, start = training.make_optimizer(recipe, net.parameters), [], None
        settings = training.augmentation.Settings(w0=w0)
        for step, batch in enumerate(training.batches(samples, recipe, net.output_size(recipe.tile), 0, settings)):
            reports.append(training.training_step(net, optimizer, *batch, clip=1.0, wait=False))
            if step == 9:  # all is compiled
                training.read_back(reports)
                start = time.perf_counter()
        training.read_back(reports)
        found[f"steps a second, w0 = {w0:g}"] = (options.steps - 10) / (time.perf_counter() - start)
        options.keep(found)
    device.precision("float32")
    return found


def layer_by_layer(device, options):
    """Every convolution of the network, forward, and forward with both gradients: each algorithm, and cuDNN."""
    shapes = list(dict.fromkeys(layers(options.tile)))
    shapes = shapes[::2] + shapes[1::2]  # wide and deep ones early, should time run out
    end, rows = time.perf_counter() + options.time_left() - options.reserved - 40, []  # the rest is PyTorch's
    for shape in shapes:
        late = time.perf_counter() > end
        rows.append(dict(layer=list(shape), skipped="out of time") if late else one_layer(device, VARIANTS, *shape))
        options.keep(dict(rows=rows, notes={}))
        device.forget()
    device.precision("float32")
    peers = {}
    for mode in ("tf32", "float32", "bf16"):
        left = min(40, options.time_left() - options.reserved)
        peers[mode] = torch_peer(mode, "layers", options.tile, options.base_channels, 4, left)
        add_peer(rows, mode, peers[mode])
        options.keep(dict(rows=rows, notes={}))
    notes = {mode: peer["error"] for mode, peer in peers.items() if "error" in peer}
    notes |= {"WINOGRAD_WINS should be": str(winograd_wins(rows))}
    notes |= {
        f"gpu/tensor_core_blocks.py for {precision}": best_settings(rows, precision) for precision in ("tf32", "bf16")
    }
    for row in rows:
        if "ms" in row and options.time_left() > options.reserved + 2:
            row["ms"] |= one_layer(device, BY_WARPGROUPS, *row["layer"])["ms"]
            options.keep(dict(rows=rows, notes=notes))
            device.forget()
    device.precision("float32")
    return dict(rows=rows, notes=notes | {"WGMMA should be": str(wgmma_wins(rows))})


def one_layer(device, variants, size, channels, outputs, kernel):
    """One row: {"layer": ..., "gflop": ..., "ms": {variant: [forward, forward and backward] or an error}}."""
    x_float, weight, bias, dy_float = (device.xp.asarray(array) for array in arrays(size, channels, outputs, kernel))
    gflop = 2e-9 * (size - kernel + 1) ** 2 * kernel**2 * channels * outputs
    row = dict(layer=[size, channels, outputs, kernel], gflop=gflop, ms={})
    for title, (name, precision, settings) in variants.items():
        if not can_do(name, kernel, channels, outputs):
            continue
        before = {setting: getattr(tensor_core_blocks, setting) for setting in settings}
        vars(tensor_core_blocks).update(settings)
        device.precision(precision)
        x, dy = feature_map(x_float), feature_map(dy_float)

        def forward():
            return ops.conv2d(x, weight, bias, relu=True, algorithm=name)

        def both():
            ops.conv2d_backward(dy, forward()[1], channels > 1)

        try:
            row["ms"][title] = [statistics.median(device.times(run, 0.06, 3, 10)) for run in (forward, both)]
        except Exception as error:  # this algorithm, at this size: the others go on
            row["ms"][title] = f"{type(error).__name__}: {error}"
        vars(tensor_core_blocks).update(before)
    return row


def add_peer(rows, mode, peer):
    """PyTorch's times to the rows of the same layers."""
    for one in peer.get("layers", []):
        row = next((row for row in rows if row["layer"] == one["layer"] and "ms" in row), None)
        if row is not None:
            row["ms"][f"PyTorch {mode}"] = [one["forward_ms"], one["both_ms"]]


def winograd_wins(rows):
    """What gpu/convolution.py's WINOGRAD_WINS should be: {(C, K): most pixels} where float32 beats TF32 by 5 %."""
    wins = {}
    for row in rows:
        size, channels, outputs, kernel = row["layer"]
        names = "winograd_cuda float32", "tensor_cores tf32"
        if timed(row, *names) and row["ms"][names[0]][1] < 0.95 * row["ms"][names[1]][1]:
            pixels = (size - kernel + 1) ** 2
            wins[channels, outputs] = max(pixels, wins.get((channels, outputs), 0))
    return wins


def best_settings(rows, precision):
    """Which settings of gpu/tensor_core_blocks.py take the least, over the layers that were timed with all of them."""
    usual = f"tensor_cores {precision}"
    titles = [title for title in VARIANTS if title.startswith(usual)]
    rows = [row["ms"] for row in rows if titles and timed(row, *titles)]
    if not rows:
        return "not measured"
    both = {title: sum(ms[title][1] for ms in rows) for title in titles}
    best = min(both, key=both.get)
    should = ", ".join(f"{name} = {value}" for name, value in VARIANTS[best][2].items()) or "as it is"
    listed = ", ".join(f"{title.removeprefix(usual).strip() or 'as it is'} {ms:.2f} ms" for title, ms in both.items())
    return f"{should} ({listed}; {len(rows)} layers)"


def wgmma_wins(rows):
    """WGMMA of gpu/tensor_core_blocks.py should be: True if the layers with both times take 3 % less with it."""
    names = "tensor_cores bf16 wgmma", "tensor_cores bf16"
    both = [[row["ms"][name][1] for name in names] for row in rows if timed(row, *names)]
    return bool(both) and sum(mine for mine, _ in both) < 0.97 * sum(other for _, other in both)


def timed(row, *names):
    """True if a row has times, and no error, of all these variants."""
    return all(isinstance(row.get("ms", {}).get(name), list) for name in names)
