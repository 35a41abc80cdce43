"""Whether a GPU can be used, and what a user should know about it: one line each.

Every function takes CuPy as its argument; machine/backend.py imports it.
"""

import contextlib

LEAST, LEAST_CUDA_13 = 70, 75  # compute capability: of npunet's kernels, and of CUDA 13's compilers
OTHERS = 2e9  # bytes in use that are worth a word: a GPU that nobody else uses has about half a GB in use
FULL = "MemoryAllocation", "OUT_OF_MEMORY", "ALLOC_FAILED"  # CUDA's, its driver's and cuBLAS's words for it
GPU_INSTALL = 'pip install "cupy-cuda12x[ctk]" (CUDA 12 driver) or "cupy-cuda13x[ctk]" (CUDA 13 driver)'


def problem(cupy):
    """None if the GPU can be used, otherwise one line that says why not and what helps."""
    runtime = cupy.cuda.runtime
    try:
        if runtime.getDeviceCount() == 0:
            return "CuPy finds no NVIDIA GPU on this machine"
        old = too_old(runtime)
        if old:
            return old
        cupy.arange(4).sum().get()  # compiles and runs one kernel: usable, not merely present
    except Exception as error:  # CuPy raises many kinds here: driver, NVRTC, libraries
        return in_words(runtime, error)
    return None


def too_old(runtime):
    """One line if the GPU is older than the kernels or the compilers allow, else None."""
    with contextlib.suppress(Exception):  # nobody could tell
        properties = runtime.getDeviceProperties(0)
        capability, cuda = 10 * properties["major"] + properties["minor"], runtime.runtimeGetVersion() // 1000
        which = f"the GPU ({properties['name'].decode()}, compute capability {capability / 10}) is too old"
        if capability < LEAST:
            return f"{which}: npunet needs {LEAST / 10}; give --device cpu"
        if cuda >= 13 and capability < LEAST_CUDA_13:
            return f'{which} for CUDA {cuda}, which needs {LEAST_CUDA_13 / 10}; pip install "cupy-cuda12x[ctk]" instead'
    return None


def in_words(runtime, error):
    """What an error of CuPy's first steps means, and what helps; one line."""
    text = str(error)
    if "InsufficientDriver" in text:
        with contextlib.suppress(Exception):
            knows, needs = runtime.driverGetVersion(), runtime.runtimeGetVersion()
            if knows == 0:  # what CUDA says where there is no driver
                return "CuPy finds no NVIDIA driver on this machine; install one, or give --device cpu"
            return (
                f"the NVIDIA driver is too old: it knows CUDA {version(knows)}, this CuPy needs {version(needs)}; "
                f"update the driver, or install a matching CuPy: {GPU_INSTALL}"
            )
        return f"the NVIDIA driver is too old for this CuPy; update it, or install a matching CuPy: {GPU_INSTALL}"
    if "NoDevice" in text:
        return "CuPy finds no NVIDIA GPU on this machine"
    if "DevicesUnavailable" in text or "DeviceUnavailable" in text:
        return (
            "another program has the GPU to itself; end it, or choose another GPU with CUDA_VISIBLE_DEVICES=1, or 2 ..."
        )
    if out_of_memory(error):
        return "the GPU's memory is full before anything has begun; end other programs (nvidia-smi lists them)"
    return f"CuPy is installed but cannot use a GPU ({one_line(error)}); for a matching one: {GPU_INSTALL}"


def out_of_memory(error):
    """True if an error says that no memory was left: Python's and CuPy's own, and those that CUDA's parts have."""
    return isinstance(error, MemoryError) or any(word in str(error) for word in FULL)


def version(number):
    """CUDA's 12040 as "12.4"."""
    return f"{number // 1000}.{number % 1000 // 10}"


def one_line(error):
    """Kind and first line of an error; some have no message at all."""
    return ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])


def notes(cupy):
    """Lines for a user whose GPU works: which of several it is, and that others are using it."""
    found, runtime = [], cupy.cuda.runtime
    with contextlib.suppress(Exception):
        count = runtime.getDeviceCount()
        if count > 1:
            name = runtime.getDeviceProperties(0)["name"].decode()
            found.append(f"{count} GPUs are here, and the first is used: {name}. CUDA_VISIBLE_DEVICES=1 takes another")
        free, total = runtime.memGetInfo()
        others = total - free - cupy.get_default_memory_pool().total_bytes()
        if others > OTHERS:
            found.append(
                f"{others / 1e9:.1f} of {total / 1e9:.1f} GB of the GPU's memory are in use by other programs "
                "(nvidia-smi lists them); they may slow it down"
            )
    return found
