"""What NVRTC does on the device in software: makes a library of a CUDA source, with g++ after tests/cuda_on_cpu.h.

    python compile_kernel.py FOLDER      # reads FOLDER/kernels.cu and FOLDER/options, writes FOLDER/image

Errors of the compiler go to the standard output, where device.cpp reads them.
"""

import ast
import hashlib
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
FUNCTIONS, HEADER = HERE / "device_functions.h", HERE.parent / "cuda_on_cpu.h"
GPU = HERE.parents[1] / "npunet" / "gpu"
INSTRUCTIONS = [(GPU / name).read_text() for name in ("instructions.cuh", "warpgroup.cuh")]  # PTX; HEADER has them too
BOUNDS = r"__launch_bounds__\(([^,()]+)[^)]*\)"
KERNEL = re.compile(rf'(?:extern "C"|[;{{}}])\s*__global__\s+(?:void\s+|{BOUNDS}\s+)+(\w+)\s*\(')
# words of kernels whose threads wait for each other
WAITS = ast.literal_eval(re.search(r"^WAITS = (\(.*?\))$", HEADER.with_suffix(".py").read_text(), re.M | re.S)[1])
TYPES = re.compile(r"^([0-9a-f]+) ([0-9a-f]+) (\w) (\w+)$", re.MULTILINE)  # of nm: address, bytes, kind, name
FLAGS = "-std=c++17 -O2 -mfma -ffp-contract=fast -fno-strict-aliasing -fPIC -w -fno-gnu-unique".split()
TRAMPOLINE = """
extern "C" int most_threads_{name} = {threads};
extern "C" Work* bind_{name}(void** from) {{ return on_cpu::bound({name}, from); }}
extern "C" void run_{name}(const unsigned* grid, unsigned threads, unsigned rows, unsigned shared, const Work* body) {{
    on_cpu::rows = rows;
    on_cpu::run(grid[0], grid[1], grid[2], threads, shared, {alone}, *body);
}}
"""


def run(*command, text):
    result = subprocess.run(command, input=text, capture_output=True, text=True)
    if result.returncode:
        print(result.stderr)
        sys.exit(1)
    return result.stdout


def body(text, start):
    """The text of a kernel whose parameters begin at `start`."""
    start = end = text.index("{", start) + 1
    depth = 1
    while depth:
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        end += 1
    return text[start:end]


def precompiled_header(folder):
    """The folder in which FUNCTIONS lies, as g++ keeps it once it has read it; there is one for each state of it."""
    digest = hashlib.sha256(
        b"".join(path.read_bytes() for path in (FUNCTIONS, *HEADER.parent.glob("*_on_cpu.h")))
    ).hexdigest()[:16]
    place = Path(tempfile.gettempdir()) / f"npunet-device-{digest}"
    place.mkdir(exist_ok=True)
    there, mine = place / f"{FUNCTIONS.name}.gch", folder / "header.gch"
    if not there.exists():
        run("g++", *FLAGS, f"-I{HERE.parent}", "-x", "c++-header", str(FUNCTIONS), "-o", str(mine), text="")
        mine.rename(there)
    return place


def main(folder):
    """Writes the image: a line with two sizes in 64 bytes, the library, and a table of its __shared__ variables."""
    given = (folder / "options").read_text().splitlines()
    source = (folder / "kernels.cu").read_text()
    for instructions in INSTRUCTIONS:
        source = source.replace(instructions, "")
    options = [f"-I{HERE}"]  # has a shorter cupy/complex.cuh
    options += [option for option in given if option.startswith(("-D", "-I")) and "/cuda" not in option]
    expanded = run("g++", "-E", "-P", "-x", "c++", "-std=c++17", "-D__CUDACC_RTC__", *options, "-", text=source)
    precompiled = precompiled_header(folder)
    text = f'#include "{FUNCTIONS.name}"\n#line 1 "kernels.cu"\n{source}\n'
    for found in KERNEL.finditer(expanded):
        alone = "false" if any(word in body(expanded, found.end()) for word in WAITS) else "true"
        text += TRAMPOLINE.format(name=found[2], threads=found[1] or 1024, alone=alone)
    library = folder / "kernels.so"
    run(
        "g++",
        *FLAGS,
        "-shared",
        f"-I{precompiled}",
        *options,
        f"-I{HERE.parent}",
        "-x",
        "c++",
        "-",
        "-o",
        str(library),
        text=text,
    )
    rows = TYPES.findall(run("nm", "-S", "--defined-only", str(library), text=""))
    table = [next(int(at, 16) for at, _, _, name in rows if name == "shared_is_at")]
    for at, size, kind, name in rows:
        if kind in "bdV" and name.startswith("_ZZ") and not name.startswith("_ZZNSt"):  # __shared__ in a function
            table += [int(at, 16), int(size, 16)]
    numbers = " ".join(map(str, table)).encode()
    head = f"kernels {library.stat().st_size} {len(numbers)}\n".encode().ljust(64)
    (folder / "image").write_bytes(head + library.read_bytes() + numbers)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
