"""The same training step or forward pass of the paper's network in npunet and in other programs: one peer in one process.

    python -m benchmarks.peers NAME TASK TILE BASE_CHANNELS          started by side_by_side.py, not by hand

TASK is "train" (forward, cross-entropy, backward, SGD with momentum 0.99) or "infer" (forward alone). The process builds the network, says
"ready" and then makes one step for each line that it reads, answering with the step's milliseconds and the process's peak memory.
All messages are JSON, one a line.
"""

import importlib
import json
import os
import resource
import sys
import time

import numpy as np

LEARNING_RATE, MOMENTUM = 1e-6, 0.99                     # a step must be a real one; where it leads does not matter here


def data(tile):
    """One tile (1, tile, tile, 1) of centred grey values, and labels (1, tile - 184, tile - 184) of two classes."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((1, tile, tile, 1), dtype=np.float32), rng.integers(0, 2, (1, tile - 184, tile - 184))


def npunet_step(task, tile, base_channels):
    from npunet import UNet
    from npunet.loss import weighted_cross_entropy
    from npunet.optimizers import SGD

    net = UNet(base_channels=base_channels)
    optimizer = SGD(net.parameters, LEARNING_RATE, MOMENTUM) if task == "train" else None
    image, labels = data(tile)

    def train():
        optimizer.forget_gradients()
        loss, dlogits = weighted_cross_entropy(net.forward(image, train=True), labels)
        net.backward(dlogits, need_dx=False)
        optimizer.step()
        return float(loss)

    return train if task == "train" else lambda: float(net.forward(image)[0, 0, 0, 0])


def torch_unet(base_channels, depth=4):
    """Fig. 1 as a torch.nn.Module, as its own users would write it: ReLU in place, dropout at the end of the contracting path."""
    import torch
    from torch import nn

    def double(channels, width):
        return nn.Sequential(nn.Conv2d(channels, width, 3), nn.ReLU(inplace=True), nn.Conv2d(width, width, 3), nn.ReLU(inplace=True))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            widths = [base_channels << level for level in range(depth + 1)]
            self.contracting = nn.ModuleList(double(c, k) for c, k in zip([1, *widths], widths[:-1]))
            self.bottleneck = nn.Sequential(*double(widths[-2], widths[-1]), nn.Dropout(0.5))
            self.ups = nn.ModuleList(nn.ConvTranspose2d(2 * k, k, 2, stride=2) for k in widths[-2::-1])
            self.expansive = nn.ModuleList(double(2 * k, k) for k in widths[-2::-1])
            self.output = nn.Conv2d(base_channels, 2, 1)

        def forward(self, x):
            skips = []
            for block in self.contracting:
                skips.append(block(x))
                x = nn.functional.max_pool2d(skips[-1], 2)
            x = self.bottleneck(x)
            for up, block in zip(self.ups, self.expansive):
                x, skip = up(x), skips.pop()
                border = (skip.shape[2] - x.shape[2]) // 2
                x = block(torch.cat([x, skip[:, :, border:border + x.shape[2], border:border + x.shape[3]]], dim=1))
            return self.output(x)

    return Net()


def torch_step(task, tile, base_channels, layout="nchw", compiled=False):
    import torch
    from npunet.threads import default_num_threads

    torch.set_num_threads(default_num_threads())
    torch.manual_seed(0)
    form = torch.channels_last if layout == "channels-last" else torch.contiguous_format
    net = torch_unet(base_channels).to(memory_format=form)
    net.train(task == "train")
    optimizer = torch.optim.SGD(net.parameters(), LEARNING_RATE, MOMENTUM)
    image, labels = data(tile)
    image = torch.from_numpy(image.transpose(0, 3, 1, 2)).contiguous(memory_format=form)
    labels = torch.from_numpy(labels)
    run = torch.compile(net) if compiled else net

    def train():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(run(image), labels)
        loss.backward()
        optimizer.step()
        return float(loss)

    def infer():
        with torch.inference_mode():
            return float(run(image)[0, 0, 0, 0])

    return train if task == "train" else infer


# name: (module it needs, function or None where nobody has written it yet, its options, C allocator told to keep large blocks)
PEERS = {
    "npunet": ("npunet", npunet_step, {}, False),
    "PyTorch (tuned) NCHW": ("torch", torch_step, dict(layout="nchw"), True),
    "PyTorch (tuned) channels-last": ("torch", torch_step, dict(layout="channels-last"), True),
    "PyTorch NCHW": ("torch", torch_step, dict(layout="nchw"), False),
    "PyTorch channels-last": ("torch", torch_step, dict(layout="channels-last"), False),
    "PyTorch compiled": ("torch", torch_step, dict(compiled=True), False),
    "TensorFlow": ("tensorflow", None, {}, False),
    "ONNX Runtime": ("onnxruntime", None, {}, False),
    "DeZero": ("dezero", None, {}, False),
}


def missing(name):
    """Why a peer cannot run here, in words; None if it can."""
    module, build, _, _ = PEERS[name]
    if importlib.util.find_spec(module) is None:
        return f"absent: {module} is not installed"
    return None if build else f"left out: {module} is installed, but benchmarks/peers.py has no network for it"


def peak_bytes():
    """Largest resident memory of this process so far; of this program alone, not of what started it, where Linux says so."""
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return size if sys.platform == "darwin" else size << 10


def main():
    name, task, tile, base_channels = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)                                        # whatever a library prints must not mix with the answers

    def answer(**message):
        print(json.dumps(message), file=answers, flush=True)

    try:
        module, build, options, _ = PEERS[name]
        version = getattr(importlib.import_module(module), "__version__", "")
        before = peak_bytes()                            # what the libraries take is not the network's
        step = build(task, tile, base_channels, **options)
        answer(ready=True, version=version, before=before)
        for _ in sys.stdin:
            start, cpu = time.perf_counter(), time.process_time()
            value = step()
            answer(ms=(time.perf_counter() - start) * 1e3, cpu_ms=(time.process_time() - cpu) * 1e3, value=value, peak=peak_bytes())
    except Exception as error:                           # the parent prints it as this peer's line
        answer(error=f"{type(error).__name__}: {error}".splitlines()[0][:200])


if __name__ == "__main__":
    main()
