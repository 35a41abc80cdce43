"""Puts the device in software under a CuPy of its own; see README.md.

    python build.py CUPY_SOURCE SITE_PACKAGES LIBRARIES [CUDA_INCLUDE]

CUPY_SOURCE is the unpacked source distribution of the CuPy in SITE_PACKAGES, two of whose modules are replaced:
cupy_backends.cuda.api.runtime and cupy.cuda.thrust. LIBRARIES is the folder for our libcuda.so.1 and the others. Needs
g++, Cython 3.2 and CUDA's headers.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

HERE = Path(__file__).parent
NAMES = "libcuda.so.1 libcudart.so.13 libnvrtc.so.13 libcublasLt.so.13 libcublas.so.13 libcurand.so.10".split()
SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")


def run(*command, **keywords):
    return subprocess.run(list(map(str, command)), check=True, text=True, **keywords)


def symbols(path, which):
    listed = run("nm", "-D", which, path, stdout=subprocess.PIPE).stdout.splitlines()
    return {line.split()[-1].partition("@")[0] for line in listed}


def runtime_as_cpp(source, cpp):
    """CuPy's runtime.pyx as C++: the wheel's has NVIDIA's library in it, this one asks ours."""
    import Cython
    from Cython.Compiler.Main import CompilationOptions, compile

    os.chdir(source)
    versions = dict(CUPY_CUDA_VERSION=13000, CUPY_HIP_VERSION=0, CUPY_CYTHON_VERSION=Cython.__version__)
    options = CompilationOptions(
        cplus=True,
        language_level=3,
        output_file=str(cpp),
        include_path=["."],
        compile_time_env=versions | dict(CUPY_USE_CUDA_PYTHON=False, CUPY_CUFFT_STATIC=False),
        compiler_directives=dict(binding=False, c_api_binop_methods=True),
    )
    compile("cupy_backends/cuda/api/runtime.pyx", options)


def main(source, site, libraries, include="/usr/local/cuda/include"):
    source, site, libraries = (Path(path).resolve() for path in (source, site, libraries))
    libraries.mkdir(exist_ok=True)
    device, module = libraries / NAMES[0], site / f"cupy_backends/cuda/api/runtime{SUFFIX}"
    flags = ["-O2", "-fPIC", "-shared", "-w", f"-I{include}"]
    cpp = libraries / "runtime.cpp"
    if not cpp.exists():
        runtime_as_cpp(source, cpp)
    folders = [sysconfig.get_paths()["include"], source / "cupy_backends/cuda/api"]
    script, stubs = libraries / "versions", libraries / "stubs.cpp"
    script.write_text("libcublas.so.13 { cublas*; }; libcurand.so.10 { curand*; };")
    build = ["g++", *flags, "-O3", "-march=native", "-std=c++20", f"-Wl,--version-script={script}", "-o", device]
    run(*build, HERE / "device.cpp")
    needs = ["-Wl,--no-as-needed", device, "-o", module]
    run("g++", *flags, *(f"-I{folder}" for folder in folders), cpp, *needs)
    libs = site / "cupy_backends/cuda/libs"
    wanted = set().union(
        *(symbols(path, "--undefined-only") for path in [module, *libs.glob("cublas*.so"), *libs.glob("curand*.so")])
    )
    missing = {name for name in wanted if name.startswith(("cuda", "cublas", "curand"))}
    missing -= symbols(device, "--defined-only")
    stub = 'extern "C" int {0}() {{ std::fprintf(stderr, "device in software: {0} is not there\\n"); return 801; }}\n'
    stubs.write_text("#include <cstdio>\n" + "".join(map(stub.format, sorted(missing))))
    run(*build, HERE / "device.cpp", stubs)
    (site / f"cupy/cuda/thrust{SUFFIX}").unlink(missing_ok=True)
    shutil.copy(HERE / "thrust.py", site / "cupy/cuda")
    for name in NAMES[1:]:
        (libraries / name).unlink(missing_ok=True)
        (libraries / name).symlink_to(device.name)
    print(f"{len(missing)} of {len(wanted)} functions are stubs")
    print(f"export LD_LIBRARY_PATH={libraries} NPUNET_DEVICE_COMPILER='{sys.executable} {HERE / 'compile_kernel.py'}'")
    print(f"export CUPY_ACCELERATORS= CUPY_CACHE_DIR={libraries / 'kernels'}")


if __name__ == "__main__":
    main(*sys.argv[1:])
