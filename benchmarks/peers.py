"""The same training step or forward pass of the paper's network in npunet and in other programs:
one peer in one process.

    python -m benchmarks.peers NAME TASK TILE BASE_CHANNELS          started by side_by_side.py, not by hand

TASK is "train" (forward, cross-entropy, backward, SGD with momentum 0.99), "infer" (forward alone), "padded" or "style"
(networks.py). The process
builds the network, says "ready" and then makes one step for each line that it reads, answering with the step's
milliseconds and the process's peak memory. All messages are JSON, one a line.
"""

import importlib
import importlib.util
import json
import os
import resource
import sys
import time

from benchmarks.networks import (
    npunet_step,
    onnx_step,
    openvino_step,
    padded_step,
    style_step,
    tensorflow_step,
    torch_padded_step,
    torch_step,
    torch_style_step,
)

# name: (module it needs, function or why there is none, its options, C allocator told to keep large blocks)
PEERS = {
    "npunet": ("npunet", npunet_step, {}, False),
    "PyTorch (tuned) NCHW": ("torch", torch_step, dict(layout="nchw"), True),
    "PyTorch (tuned) channels-last": ("torch", torch_step, dict(layout="channels-last"), True),
    "PyTorch NCHW": ("torch", torch_step, dict(layout="nchw"), False),
    "PyTorch channels-last": ("torch", torch_step, dict(layout="channels-last"), False),
    "PyTorch compiled": ("torch", torch_step, dict(compiled=True), False),
    "TensorFlow": ("tensorflow", tensorflow_step, {}, False),
    "ONNX Runtime": ("onnxruntime", onnx_step, {}, False),
    "OpenVINO": ("openvino", openvino_step, {}, False),
    "DeZero": (
        "dezero",
        "its last release, 0.0.13, cannot be imported with NumPy 1.24 or newer: it says np.int",
        {},
        False,
    ),
}
# task: npunet's function, PyTorch's; nobody else makes these steps
OTHER_STEPS = {"padded": (padded_step, torch_padded_step), "style": (style_step, torch_style_step)}


def builder(name, task):
    """The function that makes this peer's step of this task. NotImplementedError if it has none."""
    build = PEERS[name][1]
    if task in OTHER_STEPS:
        ours, torchs = OTHER_STEPS[task]
        build = {npunet_step: ours, torch_step: torchs}.get(build)
    if build is None or (build in (onnx_step, openvino_step) and task != "infer"):
        raise NotImplementedError(f"{name} has no such step: {task}")
    return build


def missing(name):
    """Why a peer cannot run here, in words; None if it can."""
    module, build, _, _ = PEERS[name]
    if importlib.util.find_spec(module) is None:
        return f"absent: {module} is not installed"
    return None if callable(build) else f"left out: {build}"


def peak_bytes():
    """Largest resident memory of this process so far;
    of this program alone, not of what started it, where Linux says so.
    """
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return size if sys.platform == "darwin" else size << 10


def main():
    name, task, tile, base_channels = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not mix with the answers

    def answer(**message):
        print(json.dumps(message), file=answers, flush=True)

    try:
        module, _, options, _ = PEERS[name]
        version = getattr(importlib.import_module(module), "__version__", "")
        before = peak_bytes()  # what the libraries take is not the network's
        step = builder(name, task)(task, tile, base_channels, **options)
        answer(ready=True, version=version, before=before)
        for _ in sys.stdin:
            start, cpu = time.perf_counter(), time.process_time()
            value = step()
            answer(
                ms=(time.perf_counter() - start) * 1e3,
                cpu_ms=(time.process_time() - cpu) * 1e3,
                value=value,
                peak=peak_bytes(),
            )
    except Exception as error:  # the parent prints it as this peer's line
        answer(error=f"{type(error).__name__}: {error}".splitlines()[0][:200])


if __name__ == "__main__":
    main()
