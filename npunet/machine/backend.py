"""Devices: where arrays live, and which array module works on them.

This is the only file that imports CuPy. Everywhere else the arrays decide: an operation asks
``xp = array_module(x)`` where it has to allocate, and otherwise just computes.
"""

import sys

import numpy as np

from npunet.errors import InputError

Array = np.ndarray  # in signatures: a NumPy array or CuPy's, which has the same interface

GPU_INSTALL = 'pip install "cupy-cuda12x[ctk]" (CUDA 12 driver) or "cupy-cuda13x[ctk]" (CUDA 13 driver)'


def array_module(x):
    """The module whose functions work on ``x``: numpy for a NumPy array, cupy for a CuPy array."""
    if isinstance(x, np.ndarray):
        return np
    return sys.modules[type(x).__module__.partition(".")[0]]


def to_device(x, device):
    """``x`` as an array on ``device`` ("cpu" or "gpu"); no copy if it is there already.

    CuPy copies to the GPU through page-locked memory of its own pool, and the host goes on before the copy has been
    made. It has its turn in the order of the GPU's work: 3 MB for a tile of 572 with labels and weights, 60 us at 50
    GB/s, too little for a stream of its own.
    """
    if device == "cpu":
        return to_cpu(x)
    import cupy

    return cupy.asarray(x)


def to_cpu(x):
    """``x`` as a NumPy array; the one place where results come back from a GPU."""
    return x.get() if hasattr(x, "get") else np.asarray(x)


def device_of(x):
    """Where the array ``x`` lives: "cpu" or "gpu"."""
    return "cpu" if isinstance(x, np.ndarray) else "gpu"


def gpu_problem():
    """None if a GPU can be used, otherwise one line that says why not and what to install."""
    try:
        import cupy
    except ModuleNotFoundError:
        return f"CuPy is not installed; install it with {GPU_INSTALL}"
    except Exception as error:  # installed, but its libraries are missing or do not fit
        return f"CuPy is installed but cannot be imported ({_one_line(error)}); for a matching one: {GPU_INSTALL}"
    try:
        if cupy.cuda.runtime.getDeviceCount() == 0:
            return "CuPy finds no NVIDIA GPU on this machine"
        cupy.arange(4).sum().get()  # compiles and runs one kernel: usable, not merely present
    except Exception as error:  # CuPy raises many kinds here: driver, NVRTC, libraries
        return f"CuPy is installed but cannot use a GPU ({_one_line(error)}); for a matching one: {GPU_INSTALL}"
    return None


def _one_line(error):
    """Kind and first line of an error; some have no message at all."""
    return ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])


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

    return cupy.cuda.runtime.memGetInfo()[0] + cupy.get_default_memory_pool().total_bytes()


def resolve_device(name):
    """The device for ``name``, one of cpu, gpu, auto: "cpu" or "gpu".

    "auto" falls back to the CPU and says so on stderr.

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


def is_cupy(x):
    """True for a CuPy array, on which CUDA kernels can work."""
    return type(x).__module__.partition(".")[0] == "cupy"


def cuda_module(source, options):
    """The compiled kernels of a CUDA source text:
    an object whose get_function(name)(grid, block, arguments) runs one.
    """
    import cupy

    return cupy.RawModule(code=source, options=options)


_CUBLAS_N, _CUBLAS_T, _DEFAULT_MATH, _TF32_MATH = 0, 1, 0, 3  # as in cublas_api.h
_tf32 = False


def use_tf32(on):
    """Whether float32 matrix products on the GPU may use tensor cores in TF32:
    8 bits of exponent as before, 10 of mantissa instead of 23.

    CuPy reads CUPY_TF32 only for products of two matrices, and once; here it is said to CuPy and, in `batched_matmul`,
    to cuBLAS. Raises InputError on a GPU older than compute capability 8.0, which has no such units.
    """
    global _tf32
    import cupy

    if on and int(cupy.cuda.Device().compute_capability) < 80:
        raise InputError(
            f"TF32 needs a GPU of compute capability 8.0 or higher; this one has "
            f"{cupy.cuda.Device().compute_capability}; "
            "leave out --tf32"
        )
    from cupy._core import _routines_linalg as linalg

    linalg.set_compute_type(np.float32, linalg.COMPUTE_TYPE_TF32 if on else linalg.COMPUTE_TYPE_DEFAULT)
    _tf32 = bool(on)


def tf32():
    """True after use_tf32(True)."""
    return _tf32


def batched_matmul(a, b, out, transpose_a=False):
    """out = a @ b for stacks of matrices (batch, rows, columns); with transpose_a each a is turned first.

    CuPy's own matmul makes a copy of a turned stack, and knows nothing of TF32 for stacks; cuBLAS itself needs neither.
    All arrays C-contiguous, float32 or float64.
    """
    if not is_cupy(a):
        array_module(a).matmul(a.swapaxes(1, 2) if transpose_a else a, b, out=out)
        return
    from cupy.cuda import device
    from cupy_backends.cuda.libs import cublas

    batch, rows, columns = out.shape
    depth = b.shape[1]
    one, zero = np.ones((), a.dtype), np.zeros((), a.dtype)
    gemm = cublas.sgemmStridedBatched if a.dtype == np.float32 else cublas.dgemmStridedBatched
    handle = device.get_cublas_handle()
    cublas.setMathMode(handle, _TF32_MATH if _tf32 and a.dtype == np.float32 else _DEFAULT_MATH)
    # cuBLAS takes columns where NumPy has rows, so it sees every matrix turned: out^T = b^T a^T
    gemm(
        handle,
        _CUBLAS_N,
        _CUBLAS_T if transpose_a else _CUBLAS_N,
        columns,
        rows,
        depth,
        one.ctypes.data,
        b.data.ptr,
        columns,
        depth * columns,
        a.data.ptr,
        rows if transpose_a else depth,
        rows * depth,
        zero.ctypes.data,
        out.data.ptr,
        columns,
        rows * columns,
        batch,
    )
    cublas.setMathMode(handle, _DEFAULT_MATH)


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
    """Bytes that CuPy's pool has taken from the GPU, which is the most that was in use at one time and a little more;
    None for "cpu".
    """
    if device == "cpu":
        return None
    import cupy

    return cupy.get_default_memory_pool().total_bytes()
