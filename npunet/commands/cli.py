"""What every command shares: options that several of them have, and how bad input and Ctrl-C end."""

import argparse
import signal
import sys

from tqdm import tqdm

from npunet.errors import InputError
from npunet.gpu.cublas import use_tf32

TF32_HELP = "GPU: matrix products on the tensor cores, with 10 bits of mantissa instead of 23"
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
        sys.exit(_fail(f"error: {error}", 2))
    except OSError as error:  # a name that is too long, links in a circle, a disk that fails
        named = f"{error.filename}: " if error.filename else ""
        sys.exit(_fail(f"error: {named}{error.strerror or error}", 2))
    except KeyboardInterrupt:
        sys.exit(_fail("interrupted", 130))


def signal_of_imports_ends():
    """From here on Ctrl-C raises KeyboardInterrupt again; while modules were imported it ended the process at once.

    See npunet/__init__.py.
    """
    if getattr(signal.getsignal(signal.SIGINT), "of_imports", False):
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _fail(line, status):
    print(line, file=sys.stderr, flush=True)
    return status


def progress_bar(**options):
    """A tqdm bar. In a log file it is a line every LOG_EVERY seconds instead of a bar drawn over and over."""
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
    """The options --device and --tf32."""
    parse.add_argument("--device", choices=["cpu", "gpu", "auto"], default="cpu", help="where to compute (default cpu)")
    parse.add_argument("--tf32", action="store_true", help=TF32_HELP)


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


def set_tf32(on, asked, device):
    """What --tf32 asks for, before anything is computed on `device`.

    Raises InputError if --device, `asked`, is "cpu"; "auto" may become "cpu".
    """
    if on and asked == "cpu":
        raise InputError("--tf32 needs the tensor cores of a GPU; give --device gpu or auto with it")
    if device == "gpu":
        use_tf32(on)
