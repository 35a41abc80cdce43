"""Where the time of a training step goes on a GPU, by events on the device: layer by layer, and kernel by kernel.

For benchmarks/gpu.py.

Each layer's forward and backward, or each launch of a kernel, is put between two events. What the step takes besides,
is the time between them: array expressions, products by cuBLAS, and waiting for the host, of which a number close to
the step's would be a sign.
"""

import statistics
from collections import defaultdict
from contextlib import contextmanager

from npunet.gpu import cublas, cuda


def where_time_goes(device, net, step, runs=5):
    """dict(step_ms, layers={name: [forward, backward]}, kernels={name:
    [launches a step, ms a step]}), medians over runs of `step()`.
    """
    step()
    layers = measured(device, step, runs, lambda timed: timed_layers(net, timed))
    kernels = measured(device, step, runs, timed_kernels)
    return dict(
        step_ms=statistics.median(kernels.pop("step")),
        layers={
            name: [statistics.median(layers.get((name, way), [0.0])) for way in ("forward", "backward")]
            for name in net.layers
        },
        kernels={name: [len(times) // runs, sum(times) / runs] for name, times in kernels.items()},
    )


def measured(device, step, runs, instrument):
    """{label: [ms, ...]} of everything that `instrument` wraps with the function it is given, and "step" itself."""
    marks, found = [], defaultdict(list)

    def timed(label, call):
        def run(*arguments, **keywords):
            start = device.mark()
            result = call(*arguments, **keywords)
            marks.append((label(*arguments) if callable(label) else label, start, device.mark()))
            return result

        return run

    with instrument(timed):
        for _ in range(runs):
            timed("step", step)()
    for label, start, stop in marks:
        found[label].append(device.between(start, stop))
    return found


@contextmanager
def timed_layers(net, timed):
    layers = net.layers
    for name, layer in layers.items():
        for way in ("forward", "backward"):
            setattr(layer, way, timed((name, way), getattr(layer, way)))
    try:
        yield
    finally:
        for layer in layers.values():
            del layer.forward, layer.backward  # the methods of the class are seen again


@contextmanager
def timed_kernels(timed):
    launch, product = cuda.CudaFile.launch, cublas.batched_matmul
    cuda.CudaFile.launch = timed(lambda file, name, *_: name, launch)
    cublas.batched_matmul = timed("batched_matmul", product)
    try:
        yield
    finally:
        cuda.CudaFile.launch, cublas.batched_matmul = launch, product
