"""Every .cu file compiles for the GPUs that npunet supports, where a compiler is there; no GPU is needed.

CUDA 12's compilers know compute capability 7.0 to 9.0; CUDA 13's begin at 7.5, so 7.0 is compiled only where a CUDA 12
compiler is found. wgmma.cu is compiled for 9.0 with all that only 9.0 has, "90a".
"""

import functools
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import npunet
from npunet.gpu import cuda, optimizers, tensor_core_blocks, tensor_cores

PACKAGE = Path(npunet.__file__).parent
FILES = sorted(PACKAGE.rglob("*.cu"))
NARROW = [dict(FEW=few, SIDE=side) for few, side in ((1, 3), (3, 3), (2, 1))]  # grey images, RGB, two classes
ARRANGEMENTS = [dict(WARPS=warps, SLABS=slabs) for warps, slabs in ((4, 3), (4, 2), (4, 4), (8, 2))]
NUMBERS = {
    "few_channels.cu": NARROW,
    "tensor_cores.cu": [dict(NEAR=1) | arranged for arranged in ARRANGEMENTS] + [dict(NEAR=0) | ARRANGEMENTS[0]],
    "tap_gradients.cu": ARRANGEMENTS,
    "optimizers.cu": [dict(MOST=optimizers.MOST, PIECE=optimizers.PIECE)],
}
FLOATS = ("float32", "float64")
KINDS = {
    "tensor_cores.cu": ("float32",),
    "tap_gradients.cu": ("float32",),
    "wgmma.cu": (),
}  # 16 bits where there is a MAP
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
WARPGROUPS = tensor_cores.BY_WARPGROUPS


def source_of(path):
    """What the compiler is given of a .cu file."""
    return (WARPGROUPS if path == WARPGROUPS.path else cuda.CudaFile(path.stem)).source


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
    if "wgmma_fence" in text:
        return ["-gencode=arch=compute_90a,code=sm_90a"]
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
    source.write_text(source_of(path))
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
    expected = ["90a"] if path == WARPGROUPS.path else nvcc_knows()
    assert all(f"for 'sm_{capability}'" in result.stderr for capability in expected)
    assert "(C75" not in result.stderr, result.stderr
    spilled = [line for line in result.stderr.splitlines() if "spill" in line and "0 bytes spill stores" not in line]
    assert not spilled, f"registers spill to memory in {path.name}: {spilled}"


AS_CUPY = ("-ftz=true", "--device-as-default-execution-space")  # what CuPy adds to the options of a RawModule
REPORT = re.compile(r"entry function '(\w+)'.*?(\d+) bytes spill stores.*?Used (\d+) registers([^\n]*)", re.DOTALL)
TENSOR_CORES = r"(convolve|flipped|up|down|tap_gradient|up_gradient|three_taps)_(64|128)"


def check_resources(log, where, numbers):
    """What ptxas reports of each kernel: no registers spill, static shared memory fits (48 KB), and on a
    multiprocessor of 65,536 registers there are enough of them for as many blocks as are planned.
    """
    kernels = REPORT.findall(log)
    assert kernels, log
    for name, spilled, registers, rest in kernels:
        shared = re.search(r"(\d+) bytes smem", rest)
        assert spilled == "0", f"{where}: {name} spills {spilled} bytes"
        assert shared is None or int(shared[1]) <= 48 << 10, f"{where}: {name} has {shared[1]} bytes of shared memory"
        if found := re.fullmatch(TENSOR_CORES, name):
            warps, planned = numbers.get("WARPS", 16), 2  # 16 of wgmma.cu
            if "gradient" not in name and "taps" not in name:
                planned = tensor_core_blocks.BLOCKS[warps, int(found[2])].at_once // 132
            most = 65536 // (32 * warps * planned) // 8 * 8  # they are dealt out in eights
            assert int(registers) <= most, f"{where}: {name} needs {registers} registers, too many for {planned} blocks"
    assert "(C75" not in log, f"{where}: the compiler lets products of warpgroups wait for each other: {log}"


@pytest.mark.parametrize(
    "capability, slabs, of_multiprocessor, of_block",
    [(80, 3, 164, 163), (86, 3, 100, 99), (89, 3, 100, 99), (90, 3, 228, 227), (90, 4, 228, 227)],
)
@pytest.mark.parametrize("warps", [4, 8])
def test_shared_memory_is_enough(monkeypatch, warps, slabs, capability, of_multiprocessor, of_block):
    """For the planned blocks, of which each has 1 KB besides its own; on 8.6 and 8.9 for one at least."""
    monkeypatch.setattr(cuda, "compute_capability", lambda: capability)
    monkeypatch.setattr(tensor_core_blocks, "WARPS", warps)
    monkeypatch.setattr(tensor_core_blocks, "SLABS", slabs)
    for wide in (128, 64):
        planned = tensor_core_blocks.BLOCKS[warps, wide].at_once // 132
        for kind in (tensor_cores.CONVOLVE, tensor_cores.FLIPPED):
            for dtype in ("float32", "uint16"):
                needed = tensor_core_blocks.shared_bytes(kind, wide, dtype)
                assert needed <= of_block << 10
                if capability % 10 == 0:
                    assert planned * (needed + 1024) <= of_multiprocessor << 10, f"{kind.name}_{wide} {dtype}"


@each_source
def test_nvrtc_compiles(path, numbers, dtype):
    """As CuPy will do it, for every capability that this NVRTC supports."""
    compiler = nvrtc()
    if compiler is None:
        pytest.skip('NVRTC is not here; pip install "cupy-cuda12x[ctk]" brings it')
    supported = [capability for capability in CAPABILITIES if capability in compiler.getSupportedArchs()]
    assert supported
    if path == WARPGROUPS.path:
        supported = ["90a"] if 90 in supported else []
    for capability in supported:
        program = compiler.createProgram(source_of(path), path.name, [], [])
        try:
            asked = [*cuda.options(dtype, **numbers), f"-arch=sm_{capability}", *AS_CUPY, "--ptxas-options=-v"]
            compiler.compileProgram(program, asked)
            assert compiler.getCUBIN(program)
            check_resources(compiler.getProgramLog(program), f"{path.name}, sm_{capability}", numbers)
        except compiler.NVRTCError:
            pytest.fail(f"{path.name}, sm_{capability}: {compiler.getProgramLog(program)}")
        finally:
            compiler.destroyProgram(program)


def for_warpgroups(source):
    """What `cuda.cubin` gives for wgmma.cu; skips without NVRTC."""
    if nvrtc() is None:
        pytest.skip('NVRTC is not here; pip install "cupy-cuda12x[ctk]" brings it')
    return cuda.cubin(source, (*cuda.options(np.dtype("uint16")), "--ptxas-options=-v"), WARPGROUPS.architecture)


def test_machine_code_for_warpgroups():
    """As compiled() does it: a whole ELF file, whose last byte CuPy cuts off."""
    code, log = for_warpgroups(WARPGROUPS.source)
    first, size, count = (int.from_bytes(code[at : at + n], "little") for at, n in ((32, 8), (54, 2), (56, 2)))
    assert code[:4] == b"\x7fELF" and len(code) == first + size * count
    check_resources(log, "wgmma.cu", {})
    assert len(REPORT.findall(log)) == 4


def test_the_compiler_says_if_products_wait_for_each_other():
    """Sums that are touched between two of them: it makes them wait, and says so."""
    right = "wgmma(sum, a + 2 * step, b + 2 * step);"
    assert right in WARPGROUPS.source
    _, log = for_warpgroups(WARPGROUPS.source.replace(right, "{ " + right + " sum[step] += 1; }"))
    assert "(C75" in log and "wgmma.wait_group is injected" in log


def test_machine_code_for_warpgroups_is_kept(monkeypatch, tmp_path):
    """In CuPy's folder, which CuPy itself uses for what it compiles; loading it is left to a GPU."""
    if nvrtc() is None:
        pytest.skip('NVRTC is not here; pip install "cupy-cuda12x[ctk]" brings it')
    monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path / "kernels"))
    compiler, asked = cuda.cubin, []
    monkeypatch.setattr(cuda, "cubin", lambda *how: asked.append(how) or compiler(*how))
    source, options = 'extern "C" __global__ void nothing() {}', cuda.options(np.dtype("uint16"))
    first, again = (cuda.compiled(source, options, "sm_90a") for _ in range(2))
    assert len(asked) == 1 and first.file_path == again.file_path
    (path,) = (tmp_path / "kernels").iterdir()
    assert str(path) == first.file_path and path.read_bytes() == compiler(*asked[0])[0]
    cuda.compiled(source + "\n", options, "sm_90a")
    assert len(asked) == 2
    with pytest.raises(RuntimeError, match="NVRTC, sm_90a: .*error"):
        cuda.compiled("nonsense", options, "sm_90a")
