"""npunet: the U-Net paper (Ronneberger, Fischer, Brox 2015, arXiv 1505.04597) in NumPy and CuPy, written by hand.

    npunet.UNet                         the network (§2)
    npunet.plain                        the same network on one page: start reading there
    npunet.ops, npunet.loss, ...        every other module, loaded when it is first asked for

A module is loaded only when somebody uses it, so `import npunet.ops` needs no more than NumPy, SciPy and threadpoolctl.
"""

import importlib
import importlib.util
import os
import signal
import sys
import threading

from npunet.machine.kernels import load_numpy

load_numpy()  # before anybody else does: see there

ELSEWHERE = {  # names that are not modules of the top level, and where they are
    "UNet": "npunet.unet",
    "InputError": "npunet.errors",
    "checkpoint": "npunet.files",
    "images": "npunet.files",
    "read_image": "npunet.files.images",
    "write_labels": "npunet.files.images",
}
__all__ = [
    "InputError",
    "UNet",
    "augmentation",
    "checkpoint",
    "datasets",
    "geometry",
    "gradient_check",
    "images",
    "initialization",
    "instances",
    "loss",
    "metrics",
    "ops",
    "optimizers",
    "plain",
    "read_image",
    "style",
    "tiling",
    "training",
    "weight_map",
    "write_labels",
]
__version__ = "0.1.0"


def _end_quietly_at_ctrl_c():
    """For `python -m npunet.NAME` and `npunet NAME`: Ctrl-C while modules are being imported is status 130, one line.

    `npunet.commands.cli.run` gives the signal back when the command begins.
    """
    words = getattr(sys, "orig_argv", [])
    as_module = any(a == "-m" and b.partition(".")[0] == "npunet" for a, b in zip(words, words[1:]))
    as_script = len(words) > 1 and os.path.basename(words[1]) == "npunet"
    in_main = threading.current_thread() is threading.main_thread()
    if (as_module or as_script) and in_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:

        def end(number, frame):
            os.write(2, b"interrupted\n")
            os._exit(130)

        end.of_imports = True
        signal.signal(signal.SIGINT, end)


_end_quietly_at_ctrl_c()


def __getattr__(name):
    """`npunet.NAME`, for a name that has not been used yet (PEP 562)."""
    if name in ELSEWHERE:
        home = importlib.import_module(ELSEWHERE[name])
        return getattr(home, name) if hasattr(home, name) else importlib.import_module(f"{ELSEWHERE[name]}.{name}")
    if not name.startswith("_") and importlib.util.find_spec(f"npunet.{name}"):
        return importlib.import_module(f"npunet.{name}")
    raise AttributeError(f"module 'npunet' has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *__all__})
