"""The machine that a result was measured on, in one line."""

import datetime
import platform

import numpy as np

from npunet.machine import kernels, threads


def processor():
    """The CPU's name, with AMD's and Intel's family and model, since a name may be as short as "AMD EPYC"."""
    try:
        with open("/proc/cpuinfo") as lines:
            said = dict(line.rstrip().partition(":")[::2] for line in list(lines)[:30])
        said = {name.strip(): value.strip() for name, value in said.items()}
        return f"{said['model name']} (family {said['cpu family']}, model {said['model']})"
    except (OSError, KeyError):
        return platform.processor() or platform.machine()


def described():
    """Date, CPU, threads, system, versions, and which kernels BLAS uses; a line more if these are the slow ones."""
    lines = [
        f"{datetime.date.today()}, {processor()}, {threads.get_num_threads()} threads, {platform.system()}, Python "
        f"{platform.python_version()}, NumPy {np.__version__}, {kernels.found()}"
    ]
    return "\n".join(lines + [line for line in [kernels.too_late()] if line])
