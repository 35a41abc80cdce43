"""Which files a command reads and writes: pictures among files and folders, and names that would collide."""

from pathlib import Path

from npunet.errors import InputError
from npunet.files import images
from npunet.files.ome_zarr import is_zarr

PROBABILITY = "_probability"  # NAME_probability.tif holds the probabilities of the picture NAME
CELLS, ROIS, OVERLAY = "_cells", "_rois", "_overlay"  # NAME_cells.tif and so on, see `npunet.commands.cell_files`


def stem(path: Path) -> str:
    """The name that the results of a picture begin with: a.png, a.tif and a.ome.tif all give "a"."""
    return path.stem.removesuffix(".ome")


def find_inputs(paths):
    """The image files among files and folders, folders in the order of their names.

    Raises InputError if there is none.
    """
    found = []
    if "" in paths:
        raise InputError("the name of an input is empty; give a file or a folder (. is the current one)")
    for path in map(Path, paths):
        if path.is_dir() and not is_zarr(path):
            inside = sorted(
                entry
                for entry in path.iterdir()
                if not entry.name.startswith(".") and (is_zarr(entry) or _is_picture(entry))
            )
            if not inside:
                raise InputError(f"{path}: no image in this folder; expected {', '.join(images.EXTENSIONS)} or .zarr")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise InputError(f"{path}: no such file or folder")
    return found


def _is_picture(path):
    return path.is_file() and path.suffix.lower() in (*images.EXTENSIONS, *images.HEIF)


def check_outputs(inputs, output):
    """Raises InputError if two inputs would be written to one name, or an output would overwrite an input."""
    sources = {path.resolve() for path in inputs}
    owner = {}
    for path in inputs:
        for name in (stem(path) + what for what in ("", PROBABILITY, CELLS, OVERLAY)):
            other = owner.setdefault(name.lower(), path)  # some file systems do not tell upper from lower case
            if other is not path:
                raise InputError(
                    f"{other} and {path} would both be written to {output / name}.*; rename one, or predict them into "
                    f"two folders"
                )
            for suffix in (".png", ".tif", ".zarr"):
                if (output / (name + suffix)).resolve() in sources:
                    raise InputError(
                        f"--output {output}: {name}{suffix} would overwrite the input of that name; give another folder"
                    )
