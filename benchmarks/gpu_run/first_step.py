"""The first contact: some training steps of the full network on a small tile, with seconds and losses.

    python -m benchmarks.gpu_run.first_step PRECISION [graph] [dry]

What fails here fails everywhere, and the traceback says where. The first step compiles; the losses of later ones fall.
"""

import faulthandler
import sys
import time


def main(precision, *how):
    began = time.perf_counter()

    def say(text):
        print(f"{time.perf_counter() - began:6.2f} s  {text}", flush=True)

    faulthandler.dump_traceback_later(30)  # where it stands, should it hang
    import numpy as np

    from npunet import UNet, optimizers, training
    from npunet.gpu import cublas
    from npunet.machine import backend

    if "dry" in how:
        return say(f"{precision} {' '.join(how)}: {backend.gpu_problem() or 'a GPU is here'}")
    problem = backend.gpu_problem()
    if problem:
        return say(problem)
    say(f"CuPy works: {backend.device_name('gpu')}")
    cublas.use_precision(precision)
    net = UNet(device="gpu")
    optimizer = optimizers.Adam(net.parameters, 1e-4)
    image = backend.to_device(np.random.default_rng(0).standard_normal((1, 188, 188, 1)).astype("float32"), "gpu")
    labels = backend.to_device(np.array([[[0, 1, 1, 0]] * 4]), "gpu")
    weights = backend.to_device(np.ones((1, 4, 4), "float32"), "gpu")
    step = lambda *batch: training.training_step(net, optimizer, *batch, clip=1.0, wait=False)
    if "graph" in how:
        step = training.recorded_step(net, optimizer, 1.0)
    for number in range(6):
        (loss, norm), *_ = training.read_back([step(image, labels, weights)])
        say(f"step {number + 1}: loss {loss:.4f}, norm of the gradient {norm:.4g}")
    say(f"{net.forward(image).shape} predicted; peak of memory {backend.peak_memory() / 1e9:.2f} GB")


if __name__ == "__main__":
    main(*sys.argv[1:])
