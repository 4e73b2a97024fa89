"""Weights out of files, read as numbers: no code in them is run, nothing is unpickled."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from xlens.errors import StorageError
from xlens.files.limits import MOST_BYTES, Allowance, read_entry
from xlens.files.plain import parse, said

__all__ = ["read_weights"]

# torch.export's numbers for dtypes (torch/_export/serde/schema.py).
_DTYPES = {
    1: torch.uint8,
    2: torch.int8,
    3: torch.int16,
    4: torch.int32,
    5: torch.int64,
    6: torch.float16,
    7: torch.float32,
    8: torch.float64,
    12: torch.bool,
    13: torch.bfloat16,
}
_TABLE = "data/weights/model_weights_config.json"


def read_weights(path: Path, max_bytes: int = MOST_BYTES) -> dict[str, Tensor]:
    """Return the tensors in a ``.safetensors`` file or a ``.pt2`` archive of ``torch.export.save``.

    Of an archive only the weights are read: its graph would have to be executed to be understood.

    Args:
        path: the file.
        max_bytes: what the weights may become when they are unpacked, unless the file is larger than that itself.

    Raises:
        StorageError: missing, damaged, too large, of another kind, or with tensors that are pickled.
    """
    try:
        if not path.is_file():
            raise StorageError("weights: no such file", given=path, do="check the path")
        if path.suffix == ".safetensors":
            return load_file(path)
        if path.suffix == ".pt2":
            return _read_archive(path, max_bytes)
    except StorageError:
        raise
    except Exception as fault:  # noqa: BLE001 - damaged files fail in many ways
        raise StorageError(
            f"weights: {path.name!r} is damaged or not what its name says", given=said(fault)
        ) from None
    raise StorageError(
        "weights: this kind of file is not read",
        given=path.name,
        allowed=".safetensors, .pt2",
        do="safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')",
    )


def _read_archive(path: Path, max_bytes: int) -> dict[str, Tensor]:
    packed, spread = (Allowance(path, max_bytes, StorageError) for _ in range(2))
    with zipfile.ZipFile(path) as archive:
        table = next((name for name in archive.namelist() if name.endswith(_TABLE)), None)
        if table is None:
            raise StorageError(
                f"weights: {path.name!r} holds no weights where torch.export puts them",
                do="save it with torch.export.save of torch 2.8 or newer, or as .safetensors",
            )
        folder = table.removesuffix(_TABLE.rpartition("/")[2])
        entries = parse(read_entry(archive, table, packed))["config"]
        found = {}
        for name, entry in entries.items():
            _check_tensor(name, entry, spread)
            content = read_entry(archive, folder + entry["path_name"], packed)
            found[name] = _tensor(entry["tensor_meta"], content)
        return found


def _check_tensor(name: str, entry: dict[str, Any], spread: Allowance) -> None:
    """Refuse a pickled tensor, and one that repeats a few stored numbers until they are too many."""
    if entry["use_pickle"]:
        raise StorageError(
            f"weights: the tensor {name!r} is pickled, and nothing is unpickled here",
            do="save the model's state_dict as .safetensors",
        )
    meta = entry["tensor_meta"]
    count = math.prod(part["as_int"] for part in meta["sizes"])
    spread.take(count * _DTYPES[meta["dtype"]].itemsize, f"the tensor {name!r}")


def _tensor(meta: dict[str, Any], content: bytes) -> Tensor:
    sizes, strides = ([part["as_int"] for part in meta[key]] for key in ("sizes", "strides"))
    dtype = _DTYPES[meta["dtype"]]
    flat = torch.frombuffer(bytearray(content), dtype=dtype) if content else torch.empty(0, dtype=dtype)
    return flat.as_strided(sizes, strides, meta["storage_offset"]["as_int"]).clone()
