"""What every command shares: options that several of them have, and how bad input and Ctrl-C end."""

import argparse
import signal
import sys
import time
import traceback

from tqdm import tqdm

from npunet import commands, parallel
from npunet.errors import InputError
from npunet.gpu import nccl
from npunet.gpu.cublas import PRECISIONS, use_precision
from npunet.machine import backend, ranks

TF32_HELP = "GPU: matrix products on the tensor cores, with 10 bits of mantissa instead of 23"
PRECISION_HELP = "GPU: how products are rounded; tf32 is --tf32, bf16 keeps feature maps in 16 bits; sums are float32"
VARIANT_HELP = (
    "which U-Net: paper, that of Fig. 1; release, the authors' Caffe network; padded, the paper's with zeros around "
    "each convolution; pytorch-unet, milesial's; style and painter, for npunet.stylize"
)
LET_RANK_0_SPEAK = 2.0  # seconds
LOG_EVERY = 30  # seconds between lines of progress in a log
MODEL_HELP = "a .npz file that training wrote, such as runs/isbi/best.npz, or a .pth of milesial/Pytorch-UNet"


def run(main):
    """Call `main()` and leave the process: 0, 2 for bad input (one line on stderr), 130 after Ctrl-C."""
    signal_of_imports_ends()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # names of files may be no UTF-8
            stream.reconfigure(errors="backslashreplace")
    try:
        main()
    except InputError as error:
        _end(f"error: {error}", 2)
    except OSError as error:  # a name that is too long, links in a circle, a disk that fails
        named = f"{error.filename}: " if error.filename else ""
        _end(f"error: {named}{error.strerror or error}", 2)
    except KeyboardInterrupt:
        _end("interrupted", 130)
    except Exception:
        if ranks.size() > 1:  # or the others would wait for this one for ever
            _end(traceback.format_exc(), 1)
        raise


def program(name: str) -> str:
    """The name of a command for its usage line, as it was started: python -m npunet.train, or npunet train."""
    return commands.started_as + name


def join(device: str) -> None:
    """Become one of several processes, if several were started, with the engine that suits --device.

    MPI's launcher: MPI, and NCCL between GPUs. Variables alone, as torchrun sets them: NCCL. Raises InputError if
    several were started and no engine can join them.
    """
    parallel.join()
    alone = ranks.size() == 1
    if device == "cpu" or (device == "auto" and backend.gpu_problem()):
        if alone and nccl.processes() > 1:
            raise InputError(
                f"WORLD_SIZE says that {nccl.processes()} processes were started, but without MPI only GPUs can be "
                f"joined; give --device gpu, or start them with mpiexec"
            )
    elif nccl.join() and alone:
        parallel.settle()


def signal_of_imports_ends():
    """From here on Ctrl-C raises KeyboardInterrupt again; while modules were imported it ended the process at once.

    See npunet/__init__.py.
    """
    if getattr(signal.getsignal(signal.SIGINT), "of_imports", False):
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(line, status):
    """Print ``line`` and end this process; of several ranks one prints, and all end."""
    if ranks.rank() > 0:
        time.sleep(LET_RANK_0_SPEAK)  # it has met the same error, as a rule, and ends all with one line
    print(line, file=sys.stderr, flush=True)
    ranks.abort(status)


def progress_bar(**options):
    """A tqdm bar that goes away at its end, unless told leave=True.

    In a log file it is a line every LOG_EVERY seconds instead of a bar drawn over and over.
    """
    options = {"leave": False} | options
    if sys.stderr.isatty():
        return tqdm(dynamic_ncols=True, **options)
    often = options | {"mininterval": LOG_EVERY, "maxinterval": LOG_EVERY, "delay": LOG_EVERY}
    return tqdm(file=_Lines(), ncols=100, **often)


class _Lines:
    """Where tqdm goes back to the beginning of the line, this begins a new one."""

    def write(self, text):
        if text.strip():
            sys.stderr.write(text.strip("\r\n") + "\n")

    def flush(self):
        sys.stderr.flush()


def add_device(parse):
    """The options --device, --tf32 and --precision."""
    parse.add_argument("--device", choices=["cpu", "gpu", "auto"], default="cpu", help="where to compute (default cpu)")
    parse.add_argument("--tf32", action="store_true", help=TF32_HELP)
    parse.add_argument("--precision", choices=PRECISIONS, help=PRECISION_HELP)


def add_tile_and_scale(parse):
    """The options --tile and --scale of commands that apply a network."""
    parse.add_argument(
        "--tile",
        type=tile_size,
        metavar="TILE|auto",
        help="largest side of an input tile in pixels (default 572, or the nearest that is valid; 1024 for padded "
        "networks, which take smaller images whole); auto: as large as the images need and memory allows",
    )
    parse.add_argument(
        "--scale",
        type=float,
        help="let the network see the images smaller by this factor, and enlarge what it finds (default: as it was "
        "trained, by the config.json beside it; else 1)",
    )


def tile_size(text):
    """The value of --tile: "auto", or a number of pixels."""
    if text != "auto" and not text.removeprefix("-").isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r}; expected a number of pixels, or auto")
    return text if text == "auto" else int(text)


def add_augment(parse):
    """The option --augment of commands that apply a network."""
    parse.add_argument(
        "--augment", action="store_true", help="mean over all rotated and mirrored versions (§4); eight times the work"
    )


def set_tf32(on, asked, device, precision=None):
    """What --tf32, short for --precision tf32, and --precision ask for, before anything is computed on `device`.

    Raises InputError if --device, `asked`, is "cpu"; "auto" may become "cpu".
    """
    name, option = precision or "float32", f"--precision {precision}"
    if name == "float32" and on:
        name, option = "tf32", "--tf32"
    if name != "float32" and asked == "cpu":
        raise InputError(f"{option} needs the tensor cores of a GPU; give --device gpu or auto with it")
    if device == "gpu":
        use_precision(name)
