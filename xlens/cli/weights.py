"""Weights out of files, read as numbers: no code in them is run, nothing is unpickled."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from xlens.errors import StorageError

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


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors in a ``.safetensors`` file or a ``.pt2`` archive of ``torch.export.save``.

    Of an archive only the weights are read: its graph would have to be executed to be understood.

    Raises:
        StorageError: missing, damaged, of another kind, or with tensors that are pickled.
    """
    if not path.is_file():
        raise StorageError("weights: no such file", given=path, do="check the path")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if path.suffix == ".pt2":
            return _read_archive(path)
    except StorageError:
        raise
    except Exception as fault:  # noqa: BLE001 - damaged files fail in many ways
        raise StorageError(f"weights: {path.name!r} is damaged or not what its name says", given=fault) from None
    raise StorageError(
        "weights: this kind of file is not read",
        given=path.name,
        allowed=".safetensors, .pt2",
        do="safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')",
    )


def _read_archive(path: Path) -> dict[str, Tensor]:
    with zipfile.ZipFile(path) as archive:
        table = next((name for name in archive.namelist() if name.endswith(_TABLE)), None)
        if table is None:
            raise StorageError(
                f"weights: {path.name!r} holds no weights where torch.export puts them",
                do="save it with torch.export.save of torch 2.8 or newer, or as .safetensors",
            )
        folder = table.removesuffix(_TABLE.rpartition("/")[2])
        entries = json.loads(archive.read(table))["config"]
        return {name: _tensor(name, entry, archive, folder) for name, entry in entries.items()}


def _tensor(name: str, entry: dict[str, Any], archive: zipfile.ZipFile, folder: str) -> Tensor:
    if entry["use_pickle"]:
        raise StorageError(
            f"weights: the tensor {name!r} is pickled, and nothing is unpickled here",
            do="save the model's state_dict as .safetensors",
        )
    meta = entry["tensor_meta"]
    sizes, strides = ([part["as_int"] for part in meta[key]] for key in ("sizes", "strides"))
    content = bytearray(archive.read(folder + entry["path_name"]))
    dtype = _DTYPES[meta["dtype"]]
    flat = torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)
    return flat.as_strided(sizes, strides, meta["storage_offset"]["as_int"]).clone()
