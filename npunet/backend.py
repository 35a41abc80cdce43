"""Devices: where arrays live, and which array module works on them.

This is the only file that imports CuPy. Everywhere else the arrays decide: an operation asks
``xp = array_module(x)`` where it has to allocate, and otherwise just computes.
"""

import sys

import numpy as np

from npunet.errors import InputError

GPU_INSTALL = 'pip install "cupy-cuda12x[ctk]" (CUDA 12 driver) or "cupy-cuda13x[ctk]" (CUDA 13 driver)'


def array_module(x):
    """The module whose functions work on ``x``: numpy for a NumPy array, cupy for a CuPy array."""
    if isinstance(x, np.ndarray):
        return np
    return sys.modules[type(x).__module__.partition(".")[0]]


def to_device(x, device):
    """``x`` as an array on ``device`` ("cpu" or "gpu"); no copy if it is there already."""
    if device == "cpu":
        return to_cpu(x)
    import cupy
    return cupy.asarray(x)


def to_cpu(x):
    """``x`` as a NumPy array; the one place where results come back from a GPU."""
    return x.get() if hasattr(x, "get") else np.asarray(x)


def device_of(x):
    """"cpu" or "gpu": where the array ``x`` lives."""
    return "cpu" if isinstance(x, np.ndarray) else "gpu"


def gpu_problem():
    """None if a GPU can be used, otherwise one line that says why not and what to install."""
    try:
        import cupy
    except ModuleNotFoundError:
        return f"CuPy is not installed; install it with {GPU_INSTALL}"
    except Exception as error:                           # installed, but its libraries are missing or do not fit
        return f"CuPy is installed but cannot be imported ({_one_line(error)}); for a matching one: {GPU_INSTALL}"
    try:
        if cupy.cuda.runtime.getDeviceCount() == 0:
            return "CuPy finds no NVIDIA GPU on this machine"
        cupy.arange(4).sum().get()                       # compiles and runs one kernel: usable, not merely present
    except Exception as error:                           # CuPy raises many kinds here: driver, NVRTC, libraries
        return f"CuPy is installed but cannot use a GPU ({_one_line(error)}); for a matching one: {GPU_INSTALL}"
    return None


def _one_line(error):
    """Kind and first line of an error; some have no message at all."""
    return ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])


def free_memory(device):
    """Bytes that can still be allocated on "cpu" or "gpu"; None where the system does not tell."""
    if device == "gpu":
        import cupy
        return cupy.cuda.runtime.memGetInfo()[0]
    try:
        with open("/proc/meminfo") as file:
            fields = dict(line.split(":") for line in file)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None


def resolve_device(name):
    """"cpu" or "gpu" for ``name`` in cpu, gpu, auto; "auto" falls back to the CPU and says so on stderr.

    Raises InputError if ``name`` is "gpu" and no GPU can be used.
    """
    if name not in ("cpu", "gpu", "auto"):
        raise InputError(f"device {name!r} is not known; expected cpu, gpu or auto")
    if name == "cpu":
        return "cpu"
    problem = gpu_problem()
    if problem is None:
        return "gpu"
    if name == "gpu":
        raise InputError(f"--device gpu: {problem}")
    print(f"device auto: using the CPU. {problem}", file=sys.stderr)
    return "cpu"
