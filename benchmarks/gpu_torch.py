"""PyTorch with cuDNN, for benchmarks/gpu.py:
one process for each mode, which prints what it measured as one line of JSON.

    python -m benchmarks.gpu_torch MODE TASK TILE BASE_CHANNELS SECONDS

MODE: float32, tf32 or bf16 (autocast), with "+channels_last" or "+compile" where wanted; cudnn.benchmark is on always.
TASK: steps (training steps, and when they are printed forward passes as well) or layers.
"""

import json
import statistics
import sys
import time

import numpy as np

from benchmarks.networks import data, torch_unet


def setup(mode):
    import torch

    if not torch.cuda.is_available():
        raise RuntimeError("PyTorch finds no GPU")
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = mode.startswith("tf32")
    return torch


def autocast(torch, mode):
    """bfloat16 where PyTorch thinks it safe, weights in float32; nothing in other modes."""
    return torch.autocast("cuda", torch.bfloat16, enabled=mode.startswith("bf16"))


def timed(torch, step, seconds, least=5, most=50):
    """Milliseconds of each of up to `most` runs, by events on the device, after warming up."""
    for _ in range(3):
        step()
    torch.cuda.synchronize()
    times, end = [], time.perf_counter() + seconds
    while len(times) < least or (len(times) < most and time.perf_counter() < end):
        start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        step()
        stop.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(stop))
    return times


def network(mode, tile, base_channels, seconds):
    """The full training step, printed at once for it may be all there is time for, and the forward pass."""
    torch = setup(mode)
    layout = torch.channels_last if "channels_last" in mode else torch.contiguous_format
    net = torch_unet(base_channels).cuda().to(memory_format=layout)
    image, labels = data(tile)
    x = torch.from_numpy(np.ascontiguousarray(image.transpose(0, 3, 1, 2))).cuda().to(memory_format=layout)
    labels = torch.from_numpy(labels).cuda()
    forward = torch.compile(net) if "compile" in mode else net
    optimizer = torch.optim.SGD(net.parameters(), 1e-6, momentum=0.99)

    def train():
        optimizer.zero_grad(set_to_none=True)
        with autocast(torch, mode):
            energy = torch.nn.functional.cross_entropy(forward(x), labels)
        energy.backward()
        optimizer.step()

    def infer():
        with torch.no_grad(), autocast(torch, mode):
            forward(x)

    times = timed(torch, train, seconds)
    found = dict(
        train_ms=statistics.median(times),
        train_times_ms=times,
        peak_bytes=torch.cuda.max_memory_allocated(),
        version=torch.__version__,
    )
    print(json.dumps(found), flush=True)
    net.eval()
    return found | dict(infer_ms=statistics.median(timed(torch, infer, seconds)))


def layers(mode, tile, seconds):
    """Forward, and forward with both gradients, of every convolution with its bias and ReLU."""
    from benchmarks.convolution import layers as all_layers

    torch = setup(mode)
    layout = torch.channels_last if "channels_last" in mode else torch.contiguous_format
    found, shapes = [], list(dict.fromkeys(all_layers(tile)))
    for size, channels, outputs, kernel in shapes:
        x = torch.randn(1, channels, size, size, device="cuda").to(memory_format=layout).requires_grad_(channels > 1)
        layer = torch.nn.Conv2d(channels, outputs, kernel).cuda().to(memory_format=layout)
        dy = torch.randn_like(layer(x))

        def both():
            with autocast(torch, mode):
                y = torch.relu_(layer(x))
            y.backward(dy.to(y.dtype))
            x.grad = None
            layer.zero_grad(set_to_none=True)

        def forward():
            with torch.no_grad(), autocast(torch, mode):
                torch.relu_(layer(x))

        share = seconds / len(shapes) / 2
        found.append(
            dict(
                layer=[size, channels, outputs, kernel],
                forward_ms=statistics.median(timed(torch, forward, share)),
                both_ms=statistics.median(timed(torch, both, share)),
            )
        )
    return dict(layers=found)


def main(mode, task, tile, base_channels, seconds):
    try:
        result = (
            layers(mode, int(tile), float(seconds))
            if task == "layers"
            else network(mode, int(tile), int(base_channels), float(seconds))
        )
    except Exception as error:  # whatever it is, it goes into the report
        result = dict(
            error=f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
        )
    print(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
