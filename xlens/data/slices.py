"""Slices of medical files: DICOM by pydicom, NIfTI by nibabel, each an extra of its own."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xlens.errors import DataError, OptionError
from xlens.files.limits import MOST_BYTES, Allowance
from xlens.files.plain import said

__all__ = ["AXES", "SLICES", "is_slice", "read_slice"]

#: What the names of such files end with.
SLICES = (".dcm", ".dicom", ".nii", ".nii.gz")
#: The normals of the planes, from the patient's left to right, back to front, and feet to head.
AXES = ("sagittal", "coronal", "axial")
_VOLUMES = (".nii", ".nii.gz")
#: Bytes that a value takes while it is read.
_VALUE = 8
#: What a packed DICOM file says that it is: all of it is unpacked before it says how large that is.
_DEFLATED = "1.2.840.10008.1.2.1.99"
_GREYS = ("MONOCHROME1", "MONOCHROME2")
_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")


def is_slice(path: Path) -> bool:
    """Whether the name of this file is that of a DICOM or NIfTI file."""
    return path.name.lower().endswith(SLICES)


def read_slice(
    path: Path | str,
    *,
    window: Sequence[float] | None = None,
    slice: int | str | None = None,
    axis: str = "axial",
    max_bytes: int = MOST_BYTES,
) -> np.ndarray:
    """Read one slice of a DICOM or NIfTI file as an image in [0, 1], ``(H, W)`` or, in colours, ``(H, W, 3)``.

    Stored values become those that they stand for (rescale slope and intercept) before they are mapped to shades.
    ``MONOCHROME1``, whose low values are light, is turned round. A slice of a NIfTI file lies with the patient's
    front, or head, up and the patient's left on the left.

    Args:
        path: the file; ``.dcm``, ``.dicom``, ``.nii`` or ``.nii.gz``.
        window: centre and width of the values that are told apart; if None, what the file says, or else from the
            slice's lowest value to its highest.
        slice: which one, from 0, or ``"middle"``; needed where there are several.
        axis: of a NIfTI file, what is cut: ``"axial"``, ``"coronal"`` or ``"sagittal"``.
        max_bytes: what the slice may become in memory.

    Raises:
        DataError: the file is damaged, holds several slices of which none was chosen, or is too large.
        OptionError: there is no such slice, window or axis, or the library is not installed.
    """
    path = Path(path)
    if axis not in AXES:
        raise OptionError("images: no such axis", given=axis, allowed=", ".join(AXES))
    if window is not None and not (len(window) == 2 and all(map(math.isfinite, window)) and window[1] > 0):
        raise OptionError("images: a window is a centre and a width above 0", given=window)
    read = _read_nifti if path.name.lower().endswith(_VOLUMES) else _read_dicom
    try:
        values, own, turned = read(path, slice, axis, Allowance(path, max_bytes, DataError))
        if values.dtype == np.uint8 and values.ndim == 3:
            return values.astype(np.float32) / 255
        return _shades(path, values, window, own, turned)
    except (DataError, OptionError):
        raise
    except Exception as fault:  # noqa: BLE001 - damaged files fail in many ways
        raise DataError(
            "images: cannot be read", given=f"{path}: {said(fault)}", do="remove or repair it"
        ) from None


def _shades(
    path: Path,
    values: np.ndarray,
    window: Sequence[float] | None,
    own: Callable[[], Sequence[float] | None],
    turned: bool,
) -> np.ndarray:
    """Return values as shades in [0, 1]; `own` says the file's window, which nobody needs where one was given."""
    if values.ndim != 2 or not np.isfinite(values).all():
        raise DataError(
            "images: no slice of finite values", given=f"{path}: shape {values.shape}", do="remove or repair it"
        )
    window = window or own()
    low, high = float(values.min()), float(values.max())
    if window is not None:
        centre, width = window
        low, high = centre - width / 2, centre + width / 2
    shades = np.clip((values.astype(np.float64) - low) / max(high - low, 1e-12), 0, 1)
    return np.asarray(1 - shades if turned else shades, dtype=np.float32)


def _read_dicom(path: Path, slice: int | str | None, axis: str, allowance: Allowance) -> Any:
    """Return the values of one frame, the file's own window, and whether low values are light."""
    pydicom = _library("pydicom", "dicom")
    meta = pydicom.filereader.read_file_meta_info(path)
    if meta.get("TransferSyntaxUID") == _DEFLATED:
        raise DataError("images: a packed DICOM file", given=path, do="save it as Explicit VR Little Endian")
    facts = pydicom.dcmread(path)
    frames = int(facts.get("NumberOfFrames") or 1)
    kind = facts.PhotometricInterpretation
    if kind not in (*_GREYS, *_COLOURS) or (kind in _COLOURS and facts.BitsAllocated != 8):
        raise DataError(
            "images: colours of a kind that is not read",
            given=f"{path}: {kind} of {facts.BitsAllocated} bits",
            allowed=", ".join((*_GREYS, "colours of 8 bits")),
        )
    index = _chosen(path, slice, frames)
    allowance.take(
        facts.Rows * facts.Columns * facts.SamplesPerPixel * _VALUE, f"{facts.Columns}x{facts.Rows} pixels"
    )
    values = pydicom.pixels.pixel_array(path, index=index)
    if kind in _COLOURS:
        return values, lambda: None, False
    return pydicom.pixels.apply_modality_lut(values, facts), lambda: _window_of(path, facts), kind == _GREYS[0]


def _window_of(path: Path, facts: Any) -> tuple[float, float] | None:
    """Return centre and width of the first window in a DICOM file."""
    if facts.get("VOILUTFunction", "LINEAR") == "SIGMOID" or (
        "WindowWidth" not in facts and facts.get("VOILUTSequence")
    ):
        raise DataError(
            "images: shades by a curve or a table", given=path, do="say a window: its centre and its width"
        )
    if facts.get("WindowWidth") is None or facts.get("WindowCenter") is None:
        return None
    centre, width = (np.ravel(facts[key].value)[0] for key in ("WindowCenter", "WindowWidth"))
    return (float(centre), float(width)) if float(width) > 0 else None


def _read_nifti(path: Path, slice: int | str | None, axis: str, allowance: Allowance) -> Any:
    """Return the values of one slice of a volume, turned upright, and the file's own window."""
    nibabel = _library("nibabel", "nifti")
    # Packed files are read on from where the last plane ended, and not from their beginning.
    volume = nibabel.load(path, keep_file_open=True)
    shape = volume.shape
    if len(shape) < 3 or any(side != 1 for side in shape[3:]):
        raise DataError("images: no single volume", given=f"{path}: shape {shape}", allowed="(x, y, z)")
    turns = nibabel.io_orientation(volume.affine)
    cut = AXES.index(axis)
    stored = int(np.flatnonzero(turns[:, 0] == cut)[0])
    index = _chosen(path, slice, shape[stored])
    at = index if turns[stored, 1] > 0 else shape[stored] - 1 - index
    allowance.take(math.prod(shape[:3]) // shape[stored] * _VALUE, f"a slice of {shape}")
    slab = nibabel.apply_orientation(_slab(volume, stored, at, allowance), turns)
    low, high = float(volume.header["cal_min"]), float(volume.header["cal_max"])
    window = ((low + high) / 2, high - low) if high > low else None
    return np.rot90(np.take(slab, 0, axis=cut)), lambda: window, False


def _slab(volume: Any, axis: int, at: int, allowance: Allowance) -> np.ndarray:
    """Return one slice of a volume, ``(x, y, z)`` with one of these of length 1, without the rest in memory.

    What lies together in the file is read together, plane by plane: across planes nibabel would read all of it, or
    value by value.
    """
    rest = (0,) * (len(volume.shape) - 3)
    if axis == 2:
        return np.asarray(volume.dataobj[(np.s_[:], np.s_[:], np.s_[at : at + 1], *rest)])
    allowance.take(math.prod(volume.shape[:2]) * _VALUE, f"a plane of {volume.shape}")
    planes = (np.asarray(volume.dataobj[(np.s_[:], np.s_[:], z, *rest)]) for z in range(volume.shape[2]))
    return np.stack([plane.take([at], axis) for plane in planes], 2)


def _chosen(path: Path, slice: int | str | None, count: int) -> int:
    """Return which of so many slices is meant."""
    if slice is None and count > 1:
        raise DataError(
            "images: several slices in one file, of which one alone would be read",
            given=f"{path}: {count} slices",
            do="say which: --slice middle, or a number from 0 (in Python slice=)",
        )
    index = count // 2 if slice == "middle" else 0 if slice is None else slice
    if not isinstance(index, int) or not 0 <= index < count:
        raise OptionError(
            "images: no such slice", given=f"{slice!r} of {path}", allowed=f"middle, 0 to {count - 1}"
        )
    return index


def _library(name: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise OptionError(
            f"images: {name} is not installed, which reads these files", do=f"pip install xlens[{extra}]"
        ) from None
