"""Slices of DICOM and NIfTI files, written by the libraries that read them."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from PIL import Image

from xlens.cli.inputs import Preprocessing, find_images, read_images
from xlens.cli.read import data_to_fit
from xlens.data import read_slice, slices
from xlens.errors import DataError, OptionError

#: Hounsfield units of two rows and three columns, as stored with an intercept of -1000.
STORED = np.array([[0, 500, 1000], [1100, 1500, 3000]], dtype=np.uint16)


def dicom(path, stored=STORED, frames=None, kind="MONOCHROME2", **facts):
    pydicom = pytest.importorskip("pydicom")
    made = pydicom.Dataset()
    made.file_meta = pydicom.dataset.FileMetaDataset()
    made.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = pydicom.uid.generate_uid()
    bits = stored.dtype.itemsize * 8
    made.SamplesPerPixel, made.PhotometricInterpretation, made.PixelRepresentation = 1, kind, 0
    made.BitsAllocated = made.BitsStored = bits
    made.HighBit = bits - 1
    if kind == "RGB":
        made.SamplesPerPixel, made.PlanarConfiguration = 3, 0
    made.Rows, made.Columns = stored.shape[:2] if frames is None else stored.shape[1:3]
    if frames is not None:
        made.NumberOfFrames = frames
    for name, value in facts.items():
        setattr(made, name, value)
    made.PixelData = stored.tobytes()
    made.save_as(path, enforce_file_format=True)
    return path


def nifti(path, values, affine=None, **header):
    nibabel = pytest.importorskip("nibabel")
    made = nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine)
    for name, value in header.items():
        made.header[name] = value
    nibabel.save(made, path)
    return path


HU = {"RescaleSlope": 2, "RescaleIntercept": -1000}


@pytest.mark.parametrize(
    ("facts", "window", "low", "high"),
    [
        ({}, None, 0, 3000),
        (HU, None, -1000, 5000),
        ({**HU, "WindowCenter": 1000, "WindowWidth": 2000}, None, 0, 2000),
        ({**HU, "WindowCenter": [1000, 50], "WindowWidth": [2000, 10]}, None, 0, 2000),
        ({**HU, "WindowCenter": 1000, "WindowWidth": 2000}, (0, 1000), -500, 500),
        ({"VOILUTFunction": "SIGMOID", "WindowCenter": 1, "WindowWidth": 2}, (500, 1000), 0, 1000),
    ],
)
def test_values_of_a_window_are_shades(tmp_path, facts, window, low, high):
    meant = STORED * 2.0 - 1000 if "RescaleSlope" in facts else STORED * 1.0
    wanted = np.clip((meant - low) / (high - low), 0, 1)
    assert np.allclose(read_slice(dicom(tmp_path / "a.dcm", **facts), window=window), wanted, atol=1e-6)
    turned = read_slice(dicom(tmp_path / "b.dcm", kind="MONOCHROME1", **facts), window=window)
    assert np.allclose(turned, 1 - wanted, atol=1e-6)


def test_colours_are_as_they_are(tmp_path):
    stored = np.random.default_rng(0).integers(0, 255, (4, 5, 3), dtype=np.uint8)
    path = dicom(tmp_path / "a.dcm", stored, kind="RGB")
    assert np.allclose(read_slice(path), stored / 255)
    Image.fromarray(stored).save(tmp_path / "a.png")
    for mode in ("rgb", "grey"):
        ours, pillow = (read_images([tmp_path / name], Preprocessing(mode=mode)) for name in ("a.dcm", "a.png"))
        assert float((ours - pillow).abs().max()) <= 1 / 255


def test_one_of_several_frames_has_to_be_said(tmp_path):
    path = dicom(tmp_path / "a.dcm", np.stack([STORED, STORED // 2, STORED[::-1]]), frames=3)
    with pytest.raises(DataError, match=r"several slices.*3 slices.*--slice middle"):
        read_slice(path)
    assert np.allclose(read_slice(path, slice=2), STORED[::-1] / 3000)
    assert np.array_equal(read_slice(path, slice="middle"), read_slice(path, slice=1))
    for wrong in (3, -1, "last", 1.0):
        with pytest.raises(OptionError, match="no such slice"):
            read_slice(path, slice=wrong)


def test_what_would_be_read_wrongly_is_refused(tmp_path):
    with pytest.raises(DataError, match="a curve or a table"):
        read_slice(dicom(tmp_path / "curve.dcm", VOILUTFunction="SIGMOID", WindowWidth=2, WindowCenter=1))
    with pytest.raises(DataError, match="PALETTE COLOR"):
        read_slice(dicom(tmp_path / "palette.dcm", kind="PALETTE COLOR"))
    content = dicom(tmp_path / "whole.dcm").read_bytes()
    (tmp_path / "cut.dcm").write_bytes(content[:-6])
    (tmp_path / "none.dcm").write_bytes(b"no dicom")
    (tmp_path / "none.nii").write_bytes(b"no nifti")
    for name in ("cut.dcm", "none.dcm", "none.nii", "missing.dcm"):
        with pytest.raises(DataError, match="cannot be read"):
            read_slice(tmp_path / name)


def test_a_slice_may_not_become_larger_than_allowed(tmp_path):
    pydicom = pytest.importorskip("pydicom")
    path = dicom(tmp_path / "a.dcm")
    with pytest.raises(DataError, match="larger than it may"):
        read_slice(dicom(tmp_path / "large.dcm", Rows=60_000, Columns=60_000))
    packed = pydicom.dcmread(path)
    packed.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    packed.save_as(tmp_path / "packed.dcm")
    with pytest.raises(DataError, match="a packed DICOM file"):
        read_slice(tmp_path / "packed.dcm")
    volume = nifti(tmp_path / "a.nii.gz", np.zeros((90, 90, 90), np.int16))
    with pytest.raises(DataError, match="larger than it may"):
        read_slice(volume, slice=0, max_bytes=60_000)
    assert read_slice(volume, slice=0, max_bytes=65_000).shape == (90, 90)


@pytest.mark.parametrize("axis", ["sagittal", "coronal", "axial"])
@pytest.mark.parametrize("sides", [(60, 300, 200), (300, 60, 200), (200, 300, 60)])
def test_a_slice_across_the_file_takes_no_more_memory_than_planes(tmp_path, axis, sides):
    """nibabel alone unpacks all of a volume whose rows are short, and asks value by value where they are long."""
    values = np.arange(np.prod(sides), dtype=np.uint32).astype(np.uint8).reshape(sides)
    volume = nifti(tmp_path / "a.nii.gz", values)
    tracemalloc.start()
    found = read_slice(volume, slice=7, axis=axis, max_bytes=10**6)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3.4e6 < values.size
    whole = np.take(values, 7, axis=("sagittal", "coronal", "axial").index(axis)).astype(float)
    shades = (whole - whole.min()) / (whole.max() - whole.min())
    assert np.allclose(found, np.rot90(shades))


def test_planes_are_limited_too(tmp_path):
    volume = nifti(tmp_path / "a.nii.gz", np.zeros((2, 2000, 20), np.uint8))
    with pytest.raises(DataError, match="a plane of"):
        read_slice(volume, slice=0, axis="coronal", max_bytes=20_000)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_volume_is_cut_upright_however_it_is_stored(tmp_path, name):
    # Right is x, front is y, up is z; a light point to the right, in front and above.
    volume = np.zeros((4, 5, 6), np.float32)
    volume[3, 4, 5] = 7.0
    straight = nifti(tmp_path / name, volume)
    assert np.argwhere(read_slice(straight, slice=5)).tolist() == [[0, 3]]
    assert np.argwhere(read_slice(straight, slice=4, axis="coronal")).tolist() == [[0, 3]]
    assert np.argwhere(read_slice(straight, slice=3, axis="sagittal")).tolist() == [[0, 4]]
    # The same body, stored z first and from right to left.
    turned = np.ascontiguousarray(volume[::-1].transpose(2, 0, 1))
    affine = np.array([[0, -1, 0, 3], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1]], dtype=float)
    other = nifti(tmp_path / f"other-{name}", turned, affine)
    for axis, index in (("axial", 5), ("coronal", 4), ("sagittal", 3)):
        both = (read_slice(path, slice=index, axis=axis) for path in (straight, other))
        assert np.array_equal(*both)
    with pytest.raises(DataError, match="several slices"):
        read_slice(straight)
    with pytest.raises(OptionError, match="no such axis"):
        read_slice(straight, slice=0, axis="upward")


def test_slope_intercept_and_range_of_a_volume(tmp_path):
    values = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    path = nifti(tmp_path / "a.nii", values, cal_min=0.0, cal_max=46.0)
    content = bytearray(path.read_bytes())
    content[112:120] = np.array([2.0, 0.0], "<f4").tobytes()  # scl_slope, scl_inter
    path.write_bytes(content)
    assert np.allclose(read_slice(path, slice=0), np.rot90(values[..., 0] * 2.0 / 46))
    assert np.allclose(
        read_slice(path, slice=0, window=(10, 20)), np.rot90(np.clip(values[..., 0] * 2.0 / 20, 0, 1))
    )
    with pytest.raises(DataError, match="no single volume"):
        read_slice(nifti(tmp_path / "b.nii", np.zeros((2, 2, 2, 3), np.int16)), slice=0)


def test_slices_lie_in_folders_as_images_do(tmp_path):
    for name, value in (("0-dark", 100), ("1-light", 900)):
        (tmp_path / name).mkdir()
        for i in range(2):
            dicom(tmp_path / name / f"{i}.DCM", np.full((4, 6), value, np.uint16))
        (tmp_path / name / "._0.dcm").write_bytes(b"hidden")
    said = {"mode": "grey", "window": (500.0, 1000.0), "size": (3, 3)}
    found = data_to_fit(tmp_path, said, Preprocessing())
    assert found.folders == ("0-dark", "1-light")
    assert found.inputs.shape == (4, 1, 3, 3)
    assert found.inputs[:, 0, 0, 0].tolist() == pytest.approx([0.1, 0.1, 0.9, 0.9])
    assert found.how is not None
    assert Preprocessing.of({"preprocessing": found.how.facts()}) == found.how
    # Beside a picture of eight bits each keeps its own scale.
    Image.new("L", (6, 4), 51).save(tmp_path / "1-light" / "2.png")
    files = find_images([tmp_path / "1-light"])
    values = read_images(files, Preprocessing(mode="grey", window=(500.0, 1000.0)))
    assert values[:, 0, 0, 0].tolist() == pytest.approx([0.9, 0.9, 0.2])
    assert torch.equal(read_images(files[:1], Preprocessing(window=(500.0, 1000.0)))[0, 0], values[0, 0])


def test_options_of_slices_are_refused_where_there_are_none(tmp_path):
    Image.new("L", (6, 4), 51).save(tmp_path / "a.png")
    with pytest.raises(OptionError, match="--window would do nothing to a.png"):
        data_to_fit(tmp_path, {"window": (1.0, 2.0)}, Preprocessing())
    for wrong in ({"window": (1.0, 0.0)}, {"window": (1.0,)}, {"slice": "last"}, {"slice": -1}, {"axis": "x"}):
        with pytest.raises(OptionError, match=next(iter(wrong))):
            Preprocessing(**wrong)


@pytest.mark.parametrize(("name", "extra"), [("a.dcm", "dicom"), ("a.nii.gz", "nifti")])
def test_a_missing_library_says_what_to_install(tmp_path, monkeypatch, name, extra):
    def missing(name, *_):
        raise ImportError(name)

    (tmp_path / name).write_bytes(b"")
    monkeypatch.setattr(slices.importlib, "import_module", missing)
    with pytest.raises(OptionError, match=rf"pip install xlens\[{extra}\]"):
        read_slice(tmp_path / name)
