"""Hand-written CUDA for the GPU: compiles the .cu files of this folder and launches their kernels.

    kernels = CudaFile("loss")                         # npunet/gpu/loss.cu
    kernels.launch("cross_entropy", pixels, logits, labels, ...)

A file is compiled when one of its kernels is first launched, once for each kind of numbers: in the .cu files REAL,
float or double, is what they compute with, and MAP what feature maps are stored in, REAL or 16 bits (sixteen_bits.py).
Some files want other numbers too that the compiler must know, so that it can unroll loops. The compiler is NVRTC, which
comes with CuPy; CuPy keeps what it compiled on disk.

Kernels are an addition, not a second implementation of the program: every operation also has its array expression, and
tests/cuda_on_cpu.py runs the very same .cu files on a CPU and compares the two.
"""

import contextlib
import functools
import hashlib
import os
from pathlib import Path

import numpy as np

from npunet.errors import InputError
from npunet.machine import backend

SHARED = [Path(__file__).with_name(f"{name}.cuh") for name in ("instructions", "common")]
WARPGROUP = Path(__file__).with_name("warpgroup.cuh")  # for wgmma.cu alone, and compute capability 9.0
THREADS = 256  # of a block, unless a kernel asks for another number
SHARED_UNASKED = 48 << 10  # bytes of shared memory that a block may have; for more the driver must be asked
LARGEST = 2**31 - 1  # kernels count elements in 32-bit integers
REAL = {np.dtype("float32"): "float", np.dtype("float64"): "double"}
MAP_16 = np.dtype("uint16")  # of a feature map in 16 bits, see sixteen_bits.py


def on_gpu(x):
    """True if kernels can work on x, or on a copy of it in C order. The one question about devices in the package.

    Yes for CuPy arrays of float32 or float64 with no more elements than an int can count.
    """
    return backend.is_cupy(x) and x.dtype in REAL and x.size <= LARGEST


def is_map(x):
    """True if x is a feature map in 16 bits (sixteen_bits.py)."""
    return backend.is_cupy(x) and x.dtype == MAP_16 and x.size <= LARGEST


def real(dtype):
    """The dtype of sums over such arrays: float32 for feature maps in 16 bits."""
    return np.dtype("float32") if dtype == MAP_16 else dtype


def check_on_gpu(x, algorithm):
    """Raises InputError if a convolution's algorithm for CuPy arrays has got another array."""
    if not on_gpu(x):
        raise InputError(f"conv2d: algorithm {algorithm!r} works on CuPy arrays; take algorithm='auto'")


@functools.cache
def compute_capability():
    """That of the GPU, as a whole number: 75 for a T4, 80 for an A100, 90 for an H100."""
    import cupy

    return int(cupy.cuda.Device().compute_capability)


def nccl():
    """CuPy, and its bindings of NCCL. Raises ImportError without them."""
    import cupy
    from cupy.cuda import nccl

    return cupy, nccl


@functools.cache
def options(dtype, **numbers):
    """What the compiler is told besides the architecture: what REAL and MAP are, and some numbers by name."""
    kind = REAL[np.dtype(real(dtype))]
    numbers = dict(REAL=kind, MAP="bf16" if dtype == MAP_16 else kind) | numbers
    return "--std=c++17", *(f"-D{name}={number}" for name, number in numbers.items())


class CudaFile:
    """The kernels of npunet/gpu/NAME.cu. architecture: "sm_90a" for instructions that only this one has; `headers` has
    them.
    """

    def __init__(self, name, architecture=None, headers=()):
        self.path, self.architecture, self.headers = Path(__file__).with_name(f"{name}.cu"), architecture, headers

    @functools.cached_property
    def source(self):
        """The text for the compiler: what all files share, and the file itself."""
        return "".join(path.read_text(encoding="utf-8") for path in [*SHARED, *self.headers, self.path])

    def launch(self, name, count, *arguments, dtype=None, grid=None, threads=THREADS, shared=0, **numbers):
        """Runs kernel `name` on at least `count` threads in blocks of `threads` (or on a `grid` of blocks),
        asynchronously.

        Arrays must be C-contiguous. Python ints become int, floats double, NumPy scalars what they are. `dtype`
        decides what REAL and MAP are, by default the dtype of the first array; `shared` how many bytes of shared
        memory SHARED_OF_LAUNCH has in each block; other keywords are `numbers` for the compiler.
        """
        dtype = np.dtype(dtype or next(argument.dtype for argument in arguments if hasattr(argument, "dtype")))
        grid = grid or (-(-count // threads),)
        if 0 in grid:
            return
        function = _function(self, name, options(dtype, **numbers), shared)
        function((*grid, 1, 1)[:3], (threads, 1, 1), tuple(map(_argument, arguments)), shared_mem=shared)


class ByValue:
    """A struct of the .cu file as one argument: numbers, and the addresses of arrays.

    kind: its name there. numbers: a NumPy array () with its fields. places: {(field, *index): the array whose address
    belongs there}.
    """

    def __init__(self, kind, numbers, places):
        for array in places.values():
            _argument(array)
        self.kind, self.numbers, self.places = kind, numbers, places

    def filled(self, address):
        """The struct with address(array) in every place. CuPy hands a NumPy array of one element over by value."""
        filled = self.numbers.copy()
        for (field, *index), array in self.places.items():
            filled[field][tuple(index)] = address(array)
        return filled


def by_value(struct):
    """What CuPy is to hand to a kernel for a `ByValue`."""
    return struct.filled(lambda array: array.data.ptr)


def _argument(value):
    """What CuPy is to hand to the kernel:
    without a dtype of its own a number would arrive as 64 bits where the kernel expects 32.
    """
    if isinstance(value, ByValue):
        return by_value(value)
    if isinstance(value, (bool, int)):
        _check_count(value)
        return np.int32(value)
    if isinstance(value, float):
        return np.float64(value)
    if isinstance(value, np.generic):
        return value
    if not value.flags.c_contiguous:
        raise ValueError("a CUDA kernel got an array that is not C-contiguous")
    _check_count(value.size)
    return value


def _check_count(count):
    if count > LARGEST:
        raise InputError(
            f"a feature map or sum of {count} numbers is more than a CUDA kernel counts, {LARGEST}; give a smaller "
            f"tile or batch"
        )


def compiled(source, options, architecture=None):
    """The kernels of a CUDA source text: get_function(name) of it gives one to call, (grid, block, arguments).

    RawModule compiles for the GPU that is there, "sm_90", and keeps the result on disk; another `architecture` it does
    not take, but it loads what is compiled.
    """
    import cupy

    if architecture is None:
        return cupy.RawModule(code=source, options=options)
    key = hashlib.sha256(repr((source, options, architecture, cupy.cuda.nvrtc.getVersion())).encode()).hexdigest()
    folder = Path(os.environ.get("CUPY_CACHE_DIR", "~/.cupy/kernel_cache")).expanduser()  # CuPy's own
    path = folder / f"npunet-{key[:32]}.cubin"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        mine = path.with_suffix(f".{os.getpid()}")  # until it is whole, should another process look for it just now
        mine.write_bytes(cubin(source, options, architecture)[0])
        mine.replace(path)
    return cupy.RawModule(path=str(path))


def cubin(source, options, architecture):
    """Machine code for an architecture by NVRTC, and what the compiler said; options as CuPy gives them."""
    from cupy.cuda import nvrtc

    program = nvrtc.createProgram(source, "npunet.cu", (), ())
    asked = [*options, f"--gpu-architecture={architecture}", "-ftz=true", "--device-as-default-execution-space"]
    try:
        nvrtc.compileProgram(program, asked)
        code = nvrtc.getCUBIN(program) + b"\0"  # CuPy cuts the last byte off, a zero; a file wants it
        return code, nvrtc.getProgramLog(program)
    except nvrtc.NVRTCError as error:
        raise RuntimeError(f"NVRTC, {architecture}: {nvrtc.getProgramLog(program)}") from error
    finally:
        nvrtc.destroyProgram(program)


_modules = {}  # (file, options) -> compiled module; (file, options, kernel, bytes of shared memory) -> function


def _function(file, name, options, shared):
    if (file.path, options, name, shared) not in _modules:
        if (file.path, options) not in _modules:
            _modules[file.path, options] = compiled(file.source, options, file.architecture)
        function = _modules[file.path, options, name, shared] = _modules[file.path, options].get_function(name)
        if shared > SHARED_UNASKED:
            function.max_dynamic_shared_size_bytes = shared
    return _modules[file.path, options, name, shared]


class Captured:
    """A recorded piece of work, and the pool in which its arrays lie."""

    def __init__(self, graph, pool):
        self.graph, self.pool = graph, pool
        backend.recorded.add(self)  # whose memory counts too

    def launch(self):
        """Do it once more, in the order of the current stream."""
        self.graph.launch()


def capture(body):
    """Records what body() launches, without running it; returns it and what body returned."""
    import cupy

    cupy.cuda.Device().synchronize()
    cupy.get_default_memory_pool().free_all_blocks()  # what the warm-up needed is needed a second time
    stream, pool = cupy.cuda.Stream(non_blocking=True), cupy.cuda.MemoryPool()
    with cupy.cuda.using_allocator(pool.malloc), stream:
        stream.begin_capture()  # in the relaxed mode: the new pool may ask for memory
        try:
            result = body()
        except BaseException:
            with contextlib.suppress(Exception):
                stream.end_capture()
            raise
        graph = stream.end_capture()
    return Captured(graph, pool), result
