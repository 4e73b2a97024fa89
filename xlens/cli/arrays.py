"""Arrays on disk as inputs and labels, read as numbers: nothing in them is executed."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from xlens.errors import DataError
from xlens.files.limits import MOST_BYTES, Allowance, check_archive, readable
from xlens.files.plain import said

__all__ = ["is_array", "read_array"]

_ARRAYS = {".npz", ".npy", ".pt"}
_INPUTS, _LABELS = ("x", "X", "images", "inputs", "x_train", "arr_0"), ("y", "Y", "labels", "y_train", "arr_1")
#: What an archive begins with.
_ZIP = b"PK"


def is_array(path: Path) -> bool:
    """Whether this file holds inputs as numbers."""
    return path.suffix.lower() in _ARRAYS


def read_array(path: Path, max_bytes: int = MOST_BYTES) -> tuple[Any, Any]:
    """Return inputs and labels (or None) from an ``.npz``, ``.npy`` or ``.pt`` file; nothing in it is executed.

    Args:
        path: the file. Of an ``.npz`` only inputs and labels are read.
        max_bytes: what they may become when they are unpacked, unless the file is larger than that itself.

    Raises:
        DataError: missing, damaged, too large, holding objects instead of numbers, or without inputs.
    """
    with readable(path):
        if not path.is_file():
            raise DataError("data: no such file", given=path, do="check the path")
        allowance = Allowance(path, max_bytes, DataError)
    try:
        content = _READERS[path.suffix.lower()](path, allowance)
    except DataError:
        raise
    except Exception as fault:  # noqa: BLE001 - damaged files fail in many ways, refused ones too
        raise DataError(
            f"data: {path.name!r} cannot be read as numbers",
            given=said(fault),
            allowed="arrays or tensors; files with Python objects in them are refused",
            do="np.savez(file, x=inputs), or torch.save(tensor, file)",
        ) from None
    return _split(path, content)


def _read_pt(path: Path, allowance: Allowance) -> Any:
    check_archive(path, allowance)
    content = torch.load(path, map_location="cpu", weights_only=True)
    # A tensor may repeat a few stored numbers as often as it says.
    spread = Allowance(path, allowance.most, DataError)
    for tensor in _tensors(content):
        spread.take(tensor.numel() * tensor.element_size(), "a tensor")
    return content


def _read_npy(path: Path, allowance: Allowance) -> Any:
    with path.open("rb") as file:
        packed = file.read(len(_ZIP)) == _ZIP
    if packed:
        # NumPy goes by the content and not by the name, and so does the limit.
        return _read_npz(path, allowance)
    with path.open("rb") as file:
        _take_claimed(file, path.name, allowance)
    return np.load(path)  # NumPy refuses objects unless told otherwise; nothing is packed here


def _read_npz(path: Path, allowance: Allowance) -> Any:
    """Return inputs and labels alone: another entry may be anything, and of any size."""
    with zipfile.ZipFile(path) as archive:
        names = {name.removesuffix(".npy"): name for name in archive.namelist()}
        found: dict[str, Any] = dict.fromkeys(names)
        for wanted in (_INPUTS, _LABELS):
            key = next((key for key in wanted if key in names), None)
            if key is not None:
                found[key] = _entry(archive, names[key], allowance)
    return found


def _entry(archive: zipfile.ZipFile, name: str, allowance: Allowance) -> np.ndarray:
    size = archive.getinfo(name).file_size
    allowance.take(size, f"the entry {name!r}")
    with archive.open(name) as stream:
        _take_claimed(stream, name, Allowance(Path(str(archive.filename)), allowance.most, DataError))
    with archive.open(name) as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)


def _take_claimed(stream: IO[bytes], name: str, allowance: Allowance) -> None:
    """Count what an array's header says: memory is made for it before there is a look at what follows."""
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    allowance.take(math.prod(shape) * dtype.itemsize, f"the array {name!r}")


def _tensors(content: Any) -> Iterator[Tensor]:
    """Yield the tensors in what a ``.pt`` may hold as inputs and labels."""
    parts = content.values() if isinstance(content, Mapping) else content
    if isinstance(content, Tensor):
        yield content
    elif isinstance(content, Mapping | tuple | list):
        yield from (part for part in parts if isinstance(part, Tensor))


_READERS = {".pt": _read_pt, ".npy": _read_npy, ".npz": _read_npz}


def _split(path: Path, content: Any) -> tuple[Any, Any]:
    if isinstance(content, Mapping):
        inputs = next((content[key] for key in _INPUTS if key in content), None)
        labels = next((content[key] for key in _LABELS if key in content), None)
    elif isinstance(content, tuple | list) and len(content) in (1, 2):
        inputs, labels = content[0], content[1] if len(content) == 2 else None
    else:
        inputs, labels = content, None
    if not isinstance(inputs, Tensor | np.ndarray) or inputs.ndim < 2:
        keys = f"keys {', '.join(map(str, content))}" if isinstance(content, Mapping) else type(content).__name__
        raise DataError(
            f"data: {path.name!r} holds no inputs", given=keys, allowed=f"(n, *S) under one of {', '.join(_INPUTS)}"
        )
    if 0 in inputs.shape or not inputs.dtype.itemsize:
        raise DataError(
            f"data: {path.name!r} holds inputs without values",
            given=f"{inputs.dtype} of shape {tuple(inputs.shape)}",
            allowed="(n, *S) with at least one value per input",
            do="check how the file was written",
        )
    return inputs, labels
