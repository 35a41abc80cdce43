"""The right matrix products by themselves: AVX-512 on CPUs that OpenBLAS does not know.

OpenBLAS holds its products in several forms ("kernels") and takes one when NumPy is loaded. On AMD's Zen 5 (CPU family
26) it takes those of Intel's Haswell, without AVX-512, which is half of what this CPU can do: sgemm 138 GFLOP/s a
thread instead of 251 (EPYC, NumPy 2.0.2 to 2.4.6). Family 26 is missing from its table of CPUs: OpenBLAS issue 6029,
mended by pull request 6033 of September 2026, which no NumPy contains yet. Zen 4 (family 25) is in the table and has
AVX-512 kernels: Cooperlake with NumPy 2.0.2, SkylakeX with 2.4.6 (measured).

Among its AVX-512 kernels are some for small products, which read the matrices as they lie. Larger products, and all
products with other kernels, first copy both matrices into another order ("packing"), which is half of the time where
one of the matrices has few rows. `small_products` says whether there are such kernels.

The environment variable OPENBLAS_CORETYPE chooses the kernels, but only while NumPy is being loaded. So `npunet` calls
`load_numpy` before anything else.
"""

import os
import sys
from functools import cache

VARIABLE, KERNELS = "OPENBLAS_CORETYPE", "SkylakeX"
CPUINFO = "/proc/cpuinfo"  # Linux only; elsewhere nothing is done
FIRST_UNKNOWN_FAMILY = 26  # of AMD: Zen 5 and later
SMALL_PRODUCT = 1_000_000  # multiplications: up to so many are a small product
AVX512 = ("SkylakeX", "Cooperlake", "SapphireRapids")  # OpenBLAS's names for kernels with AVX-512
NEEDED = {"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"}  # what SkylakeX kernels use


def load_numpy() -> None:
    """Imports NumPy, so that OpenBLAS takes its AVX-512 kernels on a CPU that has AVX-512 but that it does not know.

    A choice of the user's own is respected, the environment is left as it was found, and nothing is done if NumPy is
    loaded already or the CPU is another one.
    """
    if "numpy" not in sys.modules and VARIABLE not in os.environ and concerned():
        os.environ[VARIABLE] = KERNELS
        try:
            import numpy  # noqa: F401
        finally:
            del os.environ[VARIABLE]


def concerned() -> bool:
    """True if this CPU has AVX-512 and OpenBLAS would not use it."""
    try:
        with open(CPUINFO) as file:
            first = file.read(1 << 14).split("\n\n")[0]  # of the CPU's cores
    except OSError:
        return False
    said = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in first.splitlines())}
    family, flags = said.get("cpu family", ""), set(said.get("flags", "").split())
    known = said.get("vendor_id") != "AuthenticAMD" or not family.isdigit() or int(family) < FIRST_UNKNOWN_FAMILY
    return not known and NEEDED <= flags


def found() -> str:
    """The BLAS that NumPy uses and its kernels, such as "openblas 0.3.31 SkylakeX"."""
    from threadpoolctl import threadpool_info

    libraries = [library for library in threadpool_info() if library["user_api"] == "blas"]
    libraries.sort(key=lambda library: "numpy" not in library["filepath"])  # others have brought theirs
    names = [library.get(key) for library in libraries[:1] for key in ("internal_api", "version", "architecture")]
    return " ".join(name for name in names if name) or "unknown BLAS"


@cache
def small_products() -> bool:
    """True if the BLAS that NumPy uses multiplies small matrices without packing them."""
    return found().split()[-1] in AVX512


def too_late() -> str | None:
    """One line if slow kernels were taken because NumPy had been loaded before npunet; None if all is well."""
    if not concerned() or VARIABLE in os.environ or not any(slow in found() for slow in ("Haswell", "Zen")):
        return None
    return (
        f"OpenBLAS works without AVX-512 here ({found()}): NumPy was loaded before npunet; import npunet first, or set "
        f"{VARIABLE}={KERNELS} in the environment"
    )
