"""Devices: where arrays live, and which array module works on them.

CuPy is imported here, in gpu/cuda.py and in gpu/cublas.py only. Everywhere else the arrays decide: an operation asks
`xp = array_module(x)` where it has to allocate, and otherwise just computes.
"""

import importlib
import sys
import weakref

import numpy as np

from npunet.errors import InputError, NoDevice
from npunet.machine import gpu_check
from npunet.machine.gpu_check import GPU_INSTALL, one_line

Array = np.ndarray  # in signatures: a NumPy array or CuPy's, which has the same interface

recorded = weakref.WeakSet()  # recorded steps that are still there, each with a `pool`
_noted = False  # whether a user has been told about this machine's GPU


def array_module(x):
    """The module whose functions work on `x`: numpy for a NumPy array, cupy for a CuPy array."""
    if isinstance(x, np.ndarray):
        return np
    return sys.modules[type(x).__module__.partition(".")[0]]


def is_array(x):
    """Whether `x` is an array of NumPy or CuPy: no list, no number of Python, no tensor of another library."""
    return hasattr(x, "shape") and hasattr(array_module(x), "ndarray")


def ndimage_module(xp):
    """scipy.ndimage for numpy, cupyx.scipy.ndimage for cupy: arrays decide the device here too."""
    return importlib.import_module("scipy.ndimage" if xp is np else "cupyx.scipy.ndimage")


def to_device(x, device):
    """`x` as an array on `device` ("cpu" or "gpu"); no copy if it is there already.

    CuPy copies to the GPU through page-locked memory of its own pool, and the host goes on before the copy has been
    made. It has its turn in the order of the GPU's work: 3 MB for a tile of 572 with labels and weights, 60 us at 50
    GB/s, too little for a stream of its own.
    """
    if device == "cpu":
        return to_cpu(x)
    import cupy

    return cupy.asarray(x)


def to_cpu(x):
    """`x` as a NumPy array; the one place where results come back from a GPU."""
    return x.get() if hasattr(x, "get") else np.asarray(x)


def device_of(x):
    """Where the array `x` lives: "cpu" or "gpu"."""
    return "cpu" if isinstance(x, np.ndarray) else "gpu"


def gpu_problem():
    """None if a GPU can be used, otherwise one line that says why not and what to install."""
    try:
        import cupy
    except ModuleNotFoundError:
        return f"CuPy is not installed; install it with {GPU_INSTALL}"
    except Exception as error:  # installed, but its libraries are missing or do not fit
        return f"CuPy is installed but cannot be imported ({one_line(error)}); for a matching one: {GPU_INSTALL}"
    return gpu_check.problem(cupy)


def free_memory(device):
    """Bytes that can still be allocated on "cpu" or "gpu", what lies unused in CuPy's pool included;
    None where the system does not tell.
    """
    if device == "gpu":
        import cupy

        return cupy.cuda.runtime.memGetInfo()[0] + cupy.get_default_memory_pool().free_bytes()
    try:
        with open("/proc/meminfo") as file:
            fields = dict(line.split(":") for line in file)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None


def memory_in_all(device):
    """Bytes that this process could have on "gpu" if it let go of everything: free ones and those it holds;
    None for "cpu", where nobody can tell.
    """
    if device == "cpu":
        return None
    import cupy

    return cupy.cuda.runtime.memGetInfo()[0] + peak_memory(device)


def resolve_device(name):
    """The device for `name`, one of cpu, gpu, auto: "cpu" or "gpu".

    "auto" falls back to the CPU and says so on stderr.

    Raises NoDevice, an InputError, if `name` is "gpu" and no GPU can be used.
    """
    if name not in ("cpu", "gpu", "auto"):
        raise InputError(f"device {name!r} is not known; expected cpu, gpu or auto")
    if name == "cpu":
        return "cpu"
    problem = gpu_problem()
    if problem is None:
        _note_once()
        return "gpu"
    if name == "gpu":
        raise NoDevice(f"--device gpu: {problem}")
    print(f"device auto: using the CPU. {problem}", file=sys.stderr)
    return "cpu"


def _note_once():
    global _noted
    if not _noted:
        import cupy

        for line in gpu_check.notes(cupy):
            print(f"device gpu: {line}", file=sys.stderr)
    _noted = True


def is_cupy(x):
    """True for a CuPy array. (`npunet.gpu.cuda.on_gpu` asks; tests let it say yes to a stand-in.)"""
    return type(x).__module__.partition(".")[0] == "cupy"


def device_name(device):
    """The name of the GPU, such as "NVIDIA H100 80GB HBM3"; None for "cpu"."""
    if device == "cpu":
        return None
    import cupy

    return cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()


def steps_ahead(device):
    """How many training steps a device may be ahead of the host, which reads their losses together."""
    return 10 if device == "gpu" else 1


def peak_memory(device="gpu"):
    """Bytes that CuPy's pools have taken from the GPU, which is the most that was in use at one time and a little more;
    None for "cpu". A recorded step (gpu/cuda.py) has a pool of its own.
    """
    if device == "cpu":
        return None
    import cupy

    pools = [cupy.get_default_memory_pool(), *(captured.pool for captured in recorded)]
    return sum(pool.total_bytes() for pool in pools)
