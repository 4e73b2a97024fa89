"""What a command line names as data, as inputs: images and bytes prepared, numbers taken as they are."""

from __future__ import annotations

import argparse
import dataclasses
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xlens.cli.arrays import is_array, read_array
from xlens.cli.inputs import Preprocessing, class_folders, find_images, listed, read_images
from xlens.contracts.backend import Spec
from xlens.data.slices import is_slice
from xlens.errors import DataError, OptionError, XlensWarning
from xlens.files.limits import MOST_BYTES, Allowance, readable

__all__ = ["Examples", "check_data", "data_to_explain", "data_to_fit", "said_of"]

_SIZED, _SLICED = ("size", "mode"), ("window", "slice", "axis")
#: How far outside of a lens's range values may lie, in spans of it, and what share of them.
_SLACK, _SHARE = 0.1, 0.01
#: What the name of an input takes in memory.
_NAME_BYTES = 80


@dataclass(frozen=True)
class Examples:
    """Data to fit on.

    Args:
        inputs: ``(n, *S)``.
        labels: ``(n,)`` or None.
        folders: names of the folders, one per class, or None.
        how: how files became inputs, or None where they were numbers already.
    """

    inputs: Any
    labels: Any = None
    folders: tuple[str, ...] | None = None
    how: Preprocessing | None = None


def said_of(chosen: argparse.Namespace) -> dict[str, Any]:
    """Return what the command line says of how files become inputs."""
    said: dict[str, Any] = {key: getattr(chosen, key) for key in ("size", "mode", "mean", "std", *_SLICED)}
    said = {
        key: tuple(value) if isinstance(value, list) else value for key, value in said.items() if value is not None
    }
    if len(said.get("size", ())) == 1:
        said["size"] *= 2
    return said


def check_data(path: Path, command: str = "fit") -> None:
    """Refuse data that are not there, before anything is read.

    Args:
        path: of the data.
        command: named in errors.

    Raises:
        DataError: there is no such file or folder, or no images in it, or an empty folder among those of classes.
    """
    with readable(path):
        file, folder = path.is_file(), path.is_dir()
    if is_array(path) and file:
        return
    if not folder:
        raise DataError(
            f"{command}: no such data",
            given=path,
            allowed="a folder of images (per class), .npz, .npy or .pt",
            do="check the path",
        )
    folders = class_folders(path)
    empty = [folder.name for folder in folders if not listed(folder)]
    if empty:
        raise DataError(
            f"{command}: folders of classes without images in them, which would shift the numbers of the others",
            given=", ".join(empty[:5]),
            do="remove them, or put their images directly into them",
        )
    if folders and (loose := listed(path)):
        raise DataError(
            f"{command}: images beside the folders of classes",
            given=", ".join(image.name for image in loose[:3]),
            do="move them into the folder of their class, or elsewhere",
        )


def data_to_fit(
    path: Path, said: Mapping[str, Any], default: Preprocessing, max_bytes: int = MOST_BYTES
) -> Examples:
    """Read images, bytes or numbers to fit on.

    Args:
        path: what :func:`check_data` let pass.
        said: what the command line says of preprocessing.
        default: what is done where it says nothing.
        max_bytes: what one file may become when it is read.

    Raises:
        DataError: the files cannot be read, or hold neither numbers with a fraction nor pixels.
        OptionError: preprocessing was said that does not go with these data.
    """
    if is_array(path):
        inputs, labels = read_array(path, max_bytes)
        if not _are_bytes(path, inputs):
            _refuse("fit", path, said, said)
            return Examples(inputs, labels)
        how = dataclasses.replace(_of_bytes("fit", path, inputs, said), **said)
        return Examples(_scaled(path, inputs, how), labels, how=how)
    how = dataclasses.replace(default, **said)
    folders = class_folders(path)
    if not folders:
        found = find_images([path])
        _refuse_unsliced("fit", found, said)
        images, labels = read_images(found, how, max_bytes), None
    else:
        files = [listed(folder) for folder in folders]
        _refuse_unsliced("fit", [image for part in files for image in part], said)
        labels = np.repeat(np.arange(len(folders)), [len(part) for part in files])
        images = read_images([image for part in files for image in part], how, max_bytes)
    # What is explained later takes this size, and may come in any.
    how = dataclasses.replace(how, size=(images.shape[2], images.shape[3]))
    return Examples(images, labels, tuple(folder.name for folder in folders) or None, how)


def data_to_explain(
    paths: list[Path],
    said: Mapping[str, Any],
    stored: Preprocessing | None,
    spec: Spec,
    max_bytes: int = MOST_BYTES,
    command: str = "explain",
) -> tuple[Any, list[str]]:
    """Return the inputs to explain, and their names.

    Args:
        paths: image files and folders, or one file of numbers.
        said: what the command line says of preprocessing.
        stored: what was done when the lens was fitted, or None.
        spec: what the lens was fitted on.
        max_bytes: what one file may become when it is read.
        command: named in errors.

    Raises:
        DataError: the files cannot be read, or how they become inputs is not known.
        OptionError: preprocessing was said that does not go with these data.
    """
    arrays = [path for path in paths if is_array(path)]
    if arrays and len(paths) > 1:
        raise OptionError(
            f"{command}: arrays are read one file at a time", given=f"{len(paths)} paths", do="name one"
        )
    if not arrays:
        found = find_images(paths)
        _refuse_unsliced(command, found, said)
        return read_images(found, _how(said, stored, spec, command), max_bytes), [str(path) for path in found]
    (path,) = arrays
    inputs, _ = read_array(path, max_bytes)
    Allowance(path, max_bytes, DataError).take(len(inputs) * _NAME_BYTES, f"names of {len(inputs):,} inputs")
    names = [f"{path.name} {i}" for i in range(len(inputs))]
    if not _are_bytes(path, inputs):
        _refuse(command, path, said, said)
        _warn_of_range(path, inputs, spec)
        return inputs, names
    _of_bytes(command, path, inputs, said)
    return _scaled(path, inputs, _how(said, stored, spec, command)), names


def _how(said: Mapping[str, Any], stored: Preprocessing | None, spec: Spec, command: str) -> Preprocessing:
    """Return how images become inputs of this lens: as said, else as when it was fitted."""
    if not spec.is_image or spec.shape[0] not in (1, 3):
        raise DataError(
            f"{command}: this lens was not fitted on grey or colour images",
            given=f"inputs of shape {spec.shape}",
            do="pass the inputs as .npz, .npy or .pt of floats",
        )
    own = Preprocessing(size=_side(spec), mode="grey" if spec.shape[0] == 1 else "rgb")
    how = dataclasses.replace(stored or own, **said)
    if stored is None and "mean" not in said and (min(spec.minimum) < -0.05 or max(spec.maximum) > 1.05):
        raise DataError(
            f"{command}: how images become this lens's inputs is not known",
            given=f"a lens fitted on values from {min(spec.minimum):.3g} to {max(spec.maximum):.3g}",
            do="say --mean and --std, or pass the inputs as .npz, .npy or .pt of floats",
        )
    return how if how.size is not None else dataclasses.replace(how, size=_side(spec))


def _are_bytes(path: Path, inputs: Any) -> bool:
    """Whether these are bytes, and so pixels; floats are inputs as they are, and anything else is refused."""
    if inputs.dtype in (torch.uint8, np.uint8):
        return True
    if inputs.dtype.is_floating_point if isinstance(inputs, Tensor) else inputs.dtype.kind == "f":
        return False
    raise DataError(
        f"data: {path.name!r} holds numbers of a kind that may mean anything",
        given=inputs.dtype,
        allowed="floats, in the classifier's own normalisation; or uint8, taken for pixels",
        do="save x.astype('float32')",
    )


def _of_bytes(command: str, path: Path, inputs: Any, said: Mapping[str, Any]) -> Preprocessing:
    """Return how these bytes are prepared where nothing else is said; they have their size and mode already."""
    shape = tuple(inputs.shape)
    if len(shape) != 4 or shape[1] not in (1, 3):
        raise DataError(
            f"data: {path.name!r} holds bytes that are no images",
            given=shape,
            allowed="uint8 as (n, 1 or 3, H, W), taken for pixels; floats of any shape, taken as they are",
            do="bring the channels to the front, or save x.astype('float32')",
        )
    _refuse(command, path, said, [name for name in (*_SIZED, *_SLICED) if name in said])
    return Preprocessing(size=shape[2:], mode="grey" if shape[1] == 1 else "rgb")


def _scaled(path: Path, inputs: Any, how: Preprocessing) -> Tensor:
    warnings.warn(
        f"{path.name} holds bytes, taken for pixels: {how}. Save floats where they are inputs already.",
        XlensWarning,
        stacklevel=2,
    )
    return how.normalise(torch.as_tensor(inputs).float().div(255))


def _refuse(command: str, path: Path, said: Mapping[str, Any], names: Any, kind: str | None = None) -> None:
    """Refuse options that would do nothing."""
    if names:
        kind = kind or (
            "bytes have their size and channels" if len(names) < len(said) else "floats are taken as they are"
        )
        raise OptionError(
            f"{command}: {' and '.join(f'--{name}' for name in names)} would do nothing to {path.name}",
            given=kind,
            do="leave them out, or prepare the array itself",
        )


def _refuse_unsliced(command: str, paths: list[Path], said: Mapping[str, Any]) -> None:
    """Refuse what is said of slices where there are none."""
    names = [name for name in _SLICED if name in said]
    if names and not any(map(is_slice, paths)):
        _refuse(command, paths[0], said, names, "no DICOM or NIfTI file")


def _warn_of_range(path: Path, inputs: Any, spec: Spec) -> None:
    low, high = min(spec.minimum), max(spec.maximum)
    slack = _SLACK * (high - low)
    values = torch.as_tensor(inputs)
    outside = float(((values < low - slack) | (values > high + slack)).float().mean())
    if outside > _SHARE:
        warnings.warn(
            f"{outside:.0%} of the values in {path.name} lie outside of what the lens was fitted on, {low:.3g} to "
            f"{high:.3g} (they go from {float(values.min()):.3g} to {float(values.max()):.3g}): prepare them as "
            "for the classifier",
            XlensWarning,
            stacklevel=2,
        )


def _side(spec: Spec) -> tuple[int, int]:
    """Return height and width of images."""
    _, height, width = spec.shape
    return height, width
