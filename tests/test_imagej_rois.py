"""ImageJ's ROI files: the bytes by hand, and roifile, which others wrote, reads them back."""

import struct
import zipfile

import numpy as np
import pytest

from npunet.errors import InputError
from npunet.files import imagej_rois
from npunet.instances.outlines import outline

MASK = np.array([[0, 1, 1], [1, 1, 0]], bool)


def test_bytes_by_hand():
    data = imagej_rois.roi_bytes(outline(MASK) + [10, 300], "0007", page=2)
    assert data[:4] == b"Iout" and data[6] == 8
    assert struct.unpack(">4hH", data[8:18]) == (10, 300, 12, 303, 8)
    assert struct.unpack(">8h", data[64:80]) == (1, 3, 3, 2, 2, 0, 0, 1)  # x, from the left of the box
    assert struct.unpack(">8h", data[80:96]) == (0, 0, 1, 1, 2, 2, 1, 1)
    assert struct.unpack(">ii", data[56:64]) == (2, 96) and data.endswith("0007".encode("utf-16-be"))


def test_roifile_reads_them(tmp_path):
    roifile = pytest.importorskip("roifile", reason="roifile is not installed (pip install roifile)")
    corners = {"0001": outline(MASK) + [10, 300], "0002": outline(MASK.T) + [30000, 4]}
    path = tmp_path / "cells.zip"
    assert imagej_rois.write_rois(path, [(name, c, 3) for name, c in corners.items()]) == 2
    read = roifile.roiread(path)
    assert [roi.name for roi in read] == list(corners)
    for roi, expected in zip(read, corners.values(), strict=True):
        assert roi.roitype == roifile.ROI_TYPE.TRACED and roi.position == 3
        np.testing.assert_array_equal(roi.coordinates(), expected[:, ::-1])


def test_the_same_outlines_make_the_same_file(tmp_path):
    for name in "ab":
        imagej_rois.write_rois(tmp_path / f"{name}.zip", [("1", outline(MASK), 0)])
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    (entry,) = zipfile.ZipFile(tmp_path / "a.zip").infolist()
    assert (entry.filename, entry.date_time) == ("1.roi", (1980, 1, 1, 0, 0, 0))  # not the time of writing


def test_what_the_format_cannot_hold_is_refused(tmp_path):
    with pytest.raises(InputError, match="32767") as error:
        imagej_rois.write_rois(tmp_path / "far.zip", [("1", outline(MASK) + [0, 40000], 0)])
    assert "\n" not in str(error.value) and not (tmp_path / "far.zip").exists()
