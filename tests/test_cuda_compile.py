"""Every .cu file compiles for the GPUs that npunet supports, where a compiler is there; no GPU is needed.

CUDA 12's compilers know compute capability 7.0 to 9.0; CUDA 13's begin at 7.5, so 7.0 is compiled only where a CUDA 12
compiler is found.
"""

import functools
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import npunet
from npunet.gpu import cuda, optimizers

PACKAGE = Path(npunet.__file__).parent
FILES = sorted(PACKAGE.rglob("*.cu"))
NARROW = [dict(FEW=few, SIDE=side) for few, side in ((1, 3), (3, 3), (2, 1))]  # grey images, RGB, two classes
NUMBERS = {
    "few_channels.cu": NARROW,
    "tensor_cores.cu": [dict(NEAR=near) for near in (0, 1)],
    "optimizers.cu": [dict(MOST=optimizers.MOST, PIECE=optimizers.PIECE)],
}
FLOATS = ("float32", "float64")
KINDS = {"tensor_cores.cu": ("float32",), "tap_gradients.cu": ("float32",)}  # 16 bits wherever there is a MAP
SOURCES = [
    (path, numbers, dtype)
    for path in FILES
    for numbers in NUMBERS.get(path.name, [{}])
    for dtype in KINDS.get(path.name, FLOATS) + (("uint16",) if "MAP" in path.read_text() else ())
]
each_source = pytest.mark.parametrize(
    "path, numbers, dtype",
    SOURCES,
    ids=lambda part: getattr(part, "name", part) if not isinstance(part, dict) else "-".join(map(str, part.values())),
)
NVCC = shutil.which("nvcc")
CAPABILITIES = (70, 75, 80, 86, 89, 90)


@functools.cache
def nvcc_knows():
    """The first and the last capability, and 8.0, where tensor cores learned TF32; NVRTC below does them all."""
    listed = subprocess.run([NVCC, "--list-gpu-arch"], capture_output=True, text=True).stdout.split()
    known = [capability for capability in CAPABILITIES if f"compute_{capability}" in listed]
    return sorted({known[0], 80, known[-1]})


@functools.cache
def functions_that_ask_for_the_capability():
    """Their names: those of instructions.cuh, and those of common.cuh that call them."""
    definitions = [
        text for path in cuda.SHARED for text in re.split(r"^(?=__device__|template)", path.read_text(), flags=re.M)
    ]
    names = ["__CUDA_ARCH__"]
    for text in definitions:  # C++ has what is called before what calls it
        if asks(text, names) and (found := re.search(r"__forceinline__ \w+ (\w+)\(", text)):
            names.append(found[1])
    return names


def asks(text, names):
    return re.search(rf"\b({'|'.join(names)})\b", text) is not None


def architectures(text):
    """nvcc's options for a .cu file: machine code for each capability. Reading its C++ is what takes the time: once,
    unless the capability decides what it says.
    """
    known = nvcc_knows()
    if asks(text, functions_that_ask_for_the_capability()):
        return [f"-gencode=arch=compute_{capability},code=sm_{capability}" for capability in known]
    codes = ",".join(f"sm_{capability}" for capability in known)
    return [f"-gencode=arch=compute_{known[0]},code=[{codes}]"]


def test_the_files_of_tensor_cores_are_read_for_each_capability():
    names = functions_that_ask_for_the_capability()
    assert {"mma_tf32", "mma_bf16", "two_bf16", "load_four", "copy_16_bytes", "end_of_group"} <= set(names)
    apart = {path.name for path in FILES if asks(path.read_text(), names)}
    assert {"tensor_cores.cu", "tap_gradients.cu"} <= apart and "loss.cu" not in apart, apart


def nvrtc():
    """CuPy's binding to NVRTC, or None: it is there with CuPy and its toolkit parts, GPU or not."""
    try:
        from cupy.cuda import nvrtc

        nvrtc.getVersion()
        return nvrtc
    except Exception:
        return None


def test_there_are_kernels():
    assert FILES and all('extern "C" __global__ void' in path.read_text() for path in FILES)


@each_source
def test_nvcc_compiles(path, numbers, dtype, tmp_path):
    if NVCC is None:
        pytest.skip("nvcc is not on the PATH; install the CUDA toolkit to compile the kernels here")
    source = tmp_path / path.name
    source.write_text(cuda.CudaFile(path.stem).source)
    command = [
        NVCC,
        "-fatbin",
        *cuda.options(dtype, **numbers),
        *architectures(path.read_text()),
        "--Werror",
        "all-warnings",
        "-Xptxas",
        "-v",
        str(source),
        "-o",
        str(tmp_path / "kernels.bin"),
    ]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert all(f"for 'sm_{capability}'" in result.stderr for capability in nvcc_knows())
    spilled = [line for line in result.stderr.splitlines() if "spill" in line and "0 bytes spill stores" not in line]
    assert not spilled, f"registers spill to memory in {path.name}: {spilled}"


AS_CUPY = ("-ftz=true", "--device-as-default-execution-space")  # what CuPy adds to the options of a RawModule
REPORT = re.compile(r"entry function '(\w+)'.*?(\d+) bytes spill stores.*?Used (\d+) registers([^\n]*)", re.DOTALL)
TWO_BLOCKS = (
    r"(convolve|flipped|up|down)_(64|128)|(tap|up)_gradient_\w+|three_taps_64"  # planned for two on a multiprocessor
)


def check_resources(log, where):
    """What ptxas reports of each kernel: no registers spill, static shared memory fits (48 KB), and where the plan is
    two blocks of 256 threads on a multiprocessor of 65,536 registers, there are enough of them.
    """
    kernels = REPORT.findall(log)
    assert kernels, log
    for name, spilled, registers, rest in kernels:
        shared = re.search(r"(\d+) bytes smem", rest)
        assert spilled == "0", f"{where}: {name} spills {spilled} bytes"
        assert shared is None or int(shared[1]) <= 48 << 10, f"{where}: {name} has {shared[1]} bytes of shared memory"
        if re.fullmatch(TWO_BLOCKS, name):
            assert int(registers) <= 128, f"{where}: {name} needs {registers} registers, one block instead of two"


@each_source
def test_nvrtc_compiles(path, numbers, dtype):
    """As CuPy will do it, for every capability that this NVRTC supports."""
    compiler = nvrtc()
    if compiler is None:
        pytest.skip('NVRTC is not here; pip install "cupy-cuda12x[ctk]" brings it')
    supported = [capability for capability in CAPABILITIES if capability in compiler.getSupportedArchs()]
    assert supported
    for capability in supported:
        program = compiler.createProgram(cuda.CudaFile(path.stem).source, path.name, [], [])
        try:
            asked = [*cuda.options(dtype, **numbers), f"-arch=sm_{capability}", *AS_CUPY, "--ptxas-options=-v"]
            compiler.compileProgram(program, asked)
            assert compiler.getCUBIN(program)
            check_resources(compiler.getProgramLog(program), f"{path.name}, sm_{capability}")
        except compiler.NVRTCError:
            pytest.fail(f"{path.name}, sm_{capability}: {compiler.getProgramLog(program)}")
        finally:
            compiler.destroyProgram(program)
