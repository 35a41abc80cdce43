"""Which of the layouts that npunet reads a folder has (§4: the two challenges, and everybody else's data)."""

from pathlib import Path

from npunet.datasets.cell_tracking import is_cell_tracking, load_cell_tracking
from npunet.datasets.folders import (
    is_folder_of_pairs,
    is_isbi_pair,
    is_object_files,
    load_folder,
    load_isbi_pair,
    load_object_files,
)

LAYOUTS = (
    (is_isbi_pair, load_isbi_pair),  # train-volume.tif, train-labels.tif
    (is_cell_tracking, load_cell_tracking),  # 01/, 01_GT/SEG/
    (is_folder_of_pairs, load_folder),  # images/, masks/
    (is_object_files, load_object_files),  # ID/images/, ID/masks/
)


def find_layout(folder):
    """(folder, reader) if the folder has one of the layouts, or its only subfolder has (archives unpack so);
    else None.
    """
    subfolders = [entry for entry in Path(folder).iterdir() if entry.is_dir()]
    for candidate in (Path(folder), *(subfolders if len(subfolders) == 1 else ())):
        for fits, reader in LAYOUTS:
            if fits(candidate):
                return candidate, reader
    return None
