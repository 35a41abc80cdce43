"""Runs the package's .cu files on a CPU: `EmulatedModule` stands where `npunet.gpu.cuda.compiled` gives a compiled one.

With the `cuda_on_cpu` fixture (tests/conftest.py has it through `install`) arrays of the strict stand-in count as CuPy
arrays, so that operations, layers and whole training steps take their GPU path, launch for launch, and only the machine
differs.
"""

import ctypes
import functools
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import strict_array

from npunet.gpu import cublas, cuda, kernels
from npunet.machine import backend

INSTRUCTIONS = [cuda.SHARED[0].read_text(), cuda.WARPGROUP.read_text()]
COMPILER = shutil.which("g++")
HEADER = Path(__file__).with_name("cuda_on_cpu.h")
OPTIONS = (
    "-O1 -std=c++17 -fPIC -Wall -Wno-unknown-pragmas -Wno-unused-function -Wno-unused-variable "
    "-fno-gnu-unique"  # or a template's __shared__ variables would be one for all files
).split()
SIGNATURE = re.compile(r'extern "C" __global__ void\s+(?:__launch_bounds__\([^)]*\)\s+)?(\w+)\(([^)]*)\)\s*\{')
BOUNDS = re.compile(r"__launch_bounds__\((?:(\d+) \* )?(\d+)[^)]*\)\s+(\w+)\(")
NM_ROW = re.compile(r"^([0-9a-f]+) ([0-9a-f]+) (\w) (\w+)$", re.MULTILINE)  # address, bytes, kind, name
WAITS = (
    "__syncthreads",
    "__shfl",
    "__syncwarp",
    "mma_",
    "wgmma",
    "load_four",
    "block_sum",
    "multiply<",
    "tap_gradients<",
)
MAY_BE_SLOW = ("ladder_overlap",)  # it is there to be read
MOST_SHARED = 227 << 10  # bytes that a block can have on compute capability 9.0
_folder = tempfile.TemporaryDirectory(prefix="npunet-cuda-on-cpu-")
folder = Path(_folder.name)  # of compiled kernels; pytest -n has one for all its processes (conftest.py)


def signatures(source):
    """{kernel: [(type, name), ...]} of a CUDA source text; a type is "REAL *", "const int *", "int", ..."""
    found = {}
    for name, parameters in SIGNATURE.findall(source):
        parts = [re.sub(r"__restrict__\s*", "", " ".join(part.split())) for part in parameters.split(",")]
        found[name] = [re.fullmatch(r"(.*?[\s*])(\w+)", part).groups() for part in parts]
    return found


def preprocessed(source, defined):
    """The text with its macros put in, so that kernels made by a macro are seen."""
    command = [COMPILER, "-E", "-P", "-x", "c++", *(f"-D{name}={value}" for name, value in defined.items()), "-"]
    return subprocess.run(command, input=source, capture_output=True, text=True, check=True).stdout


def body(source, name):
    """The text of a kernel, from its brace on to the matching one."""
    start = next(match.end() for match in SIGNATURE.finditer(source) if match.group(1) == name)
    depth, end = 1, start
    while depth:
        depth += {"{": 1, "}": -1}.get(source[end], 0)
        end += 1
    return source[start:end]


def shared_memory(path, library):
    """[(address, bytes)] of the __shared__ variables of a compiled file: the static data of its functions."""
    listed = subprocess.run(["nm", "-S", "--defined-only", path], capture_output=True, text=True, check=True).stdout
    rows = [(int(at, 16), int(size, 16), kind, name) for at, size, kind, name in re.findall(NM_ROW, listed)]
    off = next(at for at, _, _, name in rows if name == "shared_is_at")
    off = ctypes.cast(library.shared_is_at, ctypes.c_void_p).value - off
    return [(off + at, size) for at, size, kind, name in rows if kind in "bdV" and name.startswith("_ZZ")]


class Fenced:
    """The arrays of one launch, each copied to a place of its own between fences: bytes that are NaN to whoever reads
    them, and must be as they were afterwards. So a kernel that reads or writes beyond an array is found out.
    """

    FENCE = 4096  # bytes on either side
    ALIGNED = 256  # bytes: as CuPy's arrays are, and a view as far off as it is in its array

    def __init__(self):
        self.places = {}  # address of an array -> it, and the bytes around and of its copy
        self.structs = []  # arguments by value, for as long as the kernel runs

    def place(self, array):
        key = array.ctypes.data, array.nbytes
        if key not in self.places:
            whole = np.full(2 * (self.FENCE + self.ALIGNED) + array.nbytes, 0xFF, np.uint8)
            owner = array if array.base is None or not isinstance(array.base, np.ndarray) else array.base
            off = array.ctypes.data - owner.ctypes.data
            start = self.FENCE + (off - whole.ctypes.data - self.FENCE) % self.ALIGNED
            whole[start : start + array.nbytes] = np.frombuffer(array.tobytes(), np.uint8)
            self.places[key] = array, whole, start
        _, whole, start = self.places[key]
        return whole.ctypes.data + start

    def bring_back(self, name):
        for array, whole, start in self.places.values():
            stop = start + array.nbytes
            assert (whole[:start] == 0xFF).all() and (whole[stop:] == 0xFF).all(), f"{name} wrote beyond an array"
            if array.flags.writeable:
                array[...] = whole[start:stop].view(array.dtype).reshape(array.shape)


def shared_library(source, name):
    """The path of a C++ text as a library. It begins with HEADER, which is read once and for all, not for each."""
    path, header = folder / name, folder / f"{HEADER.name}.gch"
    mine = folder / f"{name}.{os.getpid()}"  # until it is whole, should another process look for it just now

    def run(*arguments, text=None):
        command = [COMPILER, *OPTIONS, *map(str, arguments)]
        result = subprocess.run(command, input=text, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr[:4000]

    if not header.exists():
        run("-x", "c++-header", HEADER, "-o", mine)
        mine.rename(header)
    if not path.exists():
        run("-shared", f"-I{folder}", f"-I{HEADER.parent}", "-x", "c++", "-", "-o", mine, text=source)
        mine.rename(path)
    return path


class EmulatedModule:
    """A .cu source compiled by g++ for the CPU; get_function(name) gives what CuPy's RawModule gives."""

    def __init__(self, source, options, architecture=None):
        defined = dict(option[2:].split("=") for option in options if option.startswith("-D"))
        self.real = defined["REAL"]
        self.real_dtype = np.dtype({"float": "float32", "double": "float64"}[self.real])
        for instructions in INSTRUCTIONS:
            source = source.replace(instructions, "")  # the header has them for this machine
        expanded = preprocessed(source, defined)
        self.signatures = signatures(expanded)
        self.most_threads = {name: int(times or 1) * int(most) for times, most, name in BOUNDS.findall(expanded)}
        text = f'#include "{HEADER.name}"\n' + "".join(f"#define {name} {value}\n" for name, value in defined.items())
        text += f'#line 1 "kernels.cu"\n{source}\n'
        for name, parameters in self.signatures.items():
            structs = re.findall(r"^struct (\w+) {", expanded, re.MULTILINE)
            declared = ", ".join(
                f"const {kind}*{parameter}" if kind.strip() in structs else f"{kind} {parameter}"
                for kind, parameter in parameters
            )
            passed = ", ".join(f"*{name}" if kind.strip() in structs else name for kind, name in parameters)
            alone = "false" if any(word in body(expanded, name) for word in WAITS) else "true"
            text += (
                f'extern "C" void run_{name}(int gx, int gy, int gz, int threads, int shared, {declared}) '
                f"{{ on_cpu::run(gx, gy, gz, threads, shared, {alone}, [&] {{ {name}({passed}); }}); }}\n"
            )
        path = shared_library(text, hashlib.sha256(text.encode()).hexdigest())
        self.library = ctypes.CDLL(str(path))
        self.library.what_was_refused.restype = ctypes.c_char_p
        self.library.met_in_a_bank.restype = ctypes.c_bool
        for place, size in shared_memory(path, self.library):
            self.library.shared_is_at(ctypes.c_void_p(place), ctypes.c_ulong(size))

    def get_function(self, name):
        parameters = self.signatures[name]
        function = getattr(self.library, f"run_{name}")
        function.restype = None

        def launch(grid, block, arguments, shared_mem=0):
            if strict_array._tape is not None:
                return strict_array._tape.append(lambda: launch(grid, block, arguments, shared_mem))
            assert len(arguments) == len(parameters), f"{name} takes {len(parameters)} arguments, got {len(arguments)}"
            assert (
                len(grid) == len(block) == 3
                and block[1:] == (1, 1)
                and 0 < block[0] <= 1024
                and grid[1] <= 65535
                and grid[2] <= 65535
            )
            assert block[0] % 32 == 0, "blocks are whole warps"
            most = self.most_threads.get(name, block[0])
            assert block[0] <= most, f"{name} has blocks of at most {most} threads, got {block[0]}"
            asked = launch.max_dynamic_shared_size_bytes
            assert shared_mem <= asked <= MOST_SHARED, (
                f"{name} has {shared_mem} bytes of shared memory, asked for {asked}"
            )
            fenced = Fenced()
            function(
                *map(ctypes.c_int, (*grid, block[0], shared_mem)),
                *(self._passed(name, kind, value, fenced) for (kind, _), value in zip(parameters, arguments)),
            )
            fenced.bring_back(name)
            refused = self.library.what_was_refused()
            assert not refused, f"{name}: {refused.decode()}"
            slow = self.library.met_in_a_bank() and name not in MAY_BE_SLOW
            assert not slow, f"{name}: 16 bytes each for eight lanes, and two of them in one bank"

        launch.max_dynamic_shared_size_bytes = cuda.SHARED_UNASKED
        return launch

    def _passed(self, name, kind, value, fenced):
        if isinstance(value, cuda.ByValue):
            assert value.kind == kind.strip(), f"{name}: {kind} got {value.kind}"
            assert all(array.dtype == self.real_dtype for array in value.places.values())
            fenced.structs.append(value.filled(lambda array: fenced.place(array._data)))
            return fenced.structs[-1].ctypes.data_as(ctypes.c_void_p)
        kind = kind.replace("const", "").replace("REAL", self.real).strip()
        dtypes = {
            "float": np.float32,
            "double": np.float64,
            "bf16": cuda.MAP_16,  # feature maps in 16 bits
            "int": np.int32,
            "unsigned char": np.uint8,
            "long long": np.int64,
            "unsigned int": np.uint32,
            "unsigned long long": np.uint64,
        }
        expected = np.dtype(dtypes[kind.rstrip("* ")])
        if kind.endswith("*"):
            assert isinstance(value, strict_array.ndarray), f"{name}: {kind} got {value!r}"
            assert value.dtype == expected and value.flags.c_contiguous, f"{name}: {kind} got {value.dtype}"
            return ctypes.c_void_p(fenced.place(value._data))
        assert isinstance(value, np.generic) and value.dtype == expected, f"{name}: {kind} got {value!r}"
        return {
            "float": ctypes.c_float,
            "double": ctypes.c_double,
            "int": ctypes.c_int,
            "unsigned int": ctypes.c_uint,
            "unsigned long long": ctypes.c_ulonglong,
        }[kind](value.item())


compiled = functools.cache(EmulatedModule)  # all tests of a process: reading a source costs as much as a small test


def batched_matmul(a, b, out, transpose_a=False):
    """What `npunet.gpu.cublas` leaves to cuBLAS."""
    strict_array.matmul(a.swapaxes(1, 2) if transpose_a else a, b, out=out)


class Tape:
    """What `npunet.gpu.cuda.Captured` is on a GPU."""

    def __init__(self, tape):
        self.tape = tape

    def launch(self):
        for do in self.tape:
            do()


def capture(body):
    """What `npunet.gpu.cuda.capture` does, with the tape of the strict stand-in."""
    tape, result = strict_array.record(body)
    return Tape(tape), result


def networks_live_on(xp, monkeypatch, *modules):
    """Networks with device="gpu", and what these modules place there, live on the stand-in. CuPy is left as it is."""
    if xp is not strict_array:
        return
    for module in ("npunet.unet", *modules):
        monkeypatch.setattr(f"{module}.to_device", lambda x, device: xp.asarray(x) if device == "gpu" else x)
    monkeypatch.setattr("npunet.unet.resolve_device", lambda name: name)


def install(monkeypatch):
    """Arrays of the strict stand-in count as CuPy arrays whose kernels run on the CPU; returns that array module."""
    monkeypatch.setattr(cuda, "_modules", {})
    monkeypatch.setattr(backend, "is_cupy", lambda x: isinstance(x, strict_array.ndarray))
    monkeypatch.setattr(cuda, "compiled", compiled)
    monkeypatch.setattr(cuda, "by_value", lambda struct: struct)  # EmulatedModule fills it with its own addresses
    monkeypatch.setattr(cuda, "compute_capability", lambda: 90)
    monkeypatch.setattr(cublas, "batched_matmul", batched_matmul)
    monkeypatch.setattr(cuda, "capture", capture)
    # a small GPU: what costs time here are blocks whose threads wait for each other
    monkeypatch.setattr(kernels, "BLOCKS", 24)
    return strict_array
