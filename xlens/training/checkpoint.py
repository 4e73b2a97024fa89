"""Nested training state as one safetensors file: no pickle, written atomically."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from safetensors.torch import save as dump
from torch import Tensor

from xlens.errors import StorageError
from xlens.files.plain import parse, said
from xlens.files.writing import write_whole

__all__ = ["WrongKindError", "decode", "encode", "pack", "read_file", "tensors_in", "unpack", "write_file"]

_TENSOR = "__tensor__"
_PAIRS = "__pairs__"
#: Numbers that an empty tensor's sides, those of 0 aside, may span: a sum over such a side makes them all.
_MOST_HOLLOW = 2**24


def pack(tree: Any) -> tuple[dict[str, Tensor], Any]:
    """Split nested dicts, lists, scalars and tensors into named tensors and plain JSON.

    >>> tensors, plain = pack({"step": 3, "weights": [torch.zeros(2)]})
    >>> unpack(tensors, plain)
    {'step': 3, 'weights': [tensor([0., 0.])]}
    """
    tensors: dict[str, Tensor] = {}

    def split(value: Any) -> Any:
        if isinstance(value, Tensor):
            key = str(len(tensors))
            # A clone, because safetensors refuses tensors that share memory.
            tensors[key] = value.detach().cpu().clone().contiguous()
            return {_TENSOR: key}
        if isinstance(value, dict):
            if all(isinstance(key, str) for key in value):
                return {key: split(item) for key, item in value.items()}
            return {_PAIRS: [[key, split(item)] for key, item in value.items()]}
        if isinstance(value, list | tuple):
            return [split(item) for item in value]
        return value

    plain = split(tree)
    return tensors, plain


def unpack(tensors: dict[str, Tensor], plain: Any) -> Any:
    """Put together again what :func:`pack` split. Tuples come back as lists.

    Raises:
        LookupError: a tensor is missing, or in two places, as :func:`pack` has none: what is made of each place
            would take more than the file, as often as it says.
    """
    left = dict(tensors)

    def join(value: Any) -> Any:
        if isinstance(value, dict):
            if _TENSOR in value:
                return left.pop(value[_TENSOR])
            if _PAIRS in value:
                return {key: join(item) for key, item in value[_PAIRS]}
            return {key: join(item) for key, item in value.items()}
        return [join(item) for item in value] if isinstance(value, list) else value

    return join(plain)


def encode(kind: str, tensors: dict[str, Tensor], plain: Any) -> bytes:
    """Return named tensors and plain JSON as the content of one safetensors file, with a checksum over both.

    Raises:
        StorageError: it could not be read again.
    """
    text = json.dumps(plain)
    if "\\ud" in text:
        try:
            parse(text)
        except ValueError as fault:
            raise StorageError(
                "save: a name or another text could not be read again", given=said(fault), do="say it in UTF-8"
            ) from None
    return dump(tensors, metadata={"kind": kind, "json": text, "checksum": _checksum(text, tensors)})


def decode(content: bytes, kind: str) -> tuple[dict[str, Tensor], Any]:
    """Return the tensors and the JSON that :func:`encode` wrote.

    Raises:
        WrongKindError: it is of another kind.
        ValueError, SafetensorError: it is truncated, damaged or edited.
    """
    metadata = _metadata(content)
    if metadata.get("kind") != kind:
        raise WrongKindError(metadata.get("kind", "a safetensors file that xlens did not write"))
    tensors, text = tensors_in(content), str(metadata.get("json"))
    if metadata.get("checksum") != _checksum(text, tensors):
        raise ValueError("its checksum is another one: it was edited after it was saved")
    return tensors, parse(text)


def tensors_in(content: bytes) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file, each as large as what the file holds of it.

    Raises:
        ValueError, SafetensorError: it is damaged, or an empty tensor claims sides that nothing fills.
    """
    tensors = load(content)
    for key, tensor in tensors.items():
        if not tensor.numel() and math.prod(side for side in tensor.shape if side) > _MOST_HOLLOW:
            raise ValueError(f"the tensor {key!r} holds nothing and claims to be {tuple(tensor.shape)}")
    return tensors


class WrongKindError(ValueError):
    """A safetensors file of another kind; the message says which."""


def write_file(path: Path, kind: str, tree: Any) -> None:
    """Write `tree` to one file; a reader sees the old file or the new one, never a part.

    Raises:
        StorageError: it cannot be written.
    """
    try:
        write_whole(path, encode(kind, *pack(tree)))
    except (OSError, SafetensorError) as fault:
        raise StorageError("save: cannot write", given=fault, do="choose a file that can be written") from None


def read_file(path: Path, kind: str) -> Any:
    """Read a file that :func:`write_file` wrote.

    Raises:
        StorageError: it is missing, truncated, edited or of another kind.
    """
    try:
        if not path.is_file():
            raise StorageError(f"load: there is no file {path.name!r}", given=path, do="check the path")
        return unpack(*decode(path.read_bytes(), kind))
    except WrongKindError as fault:
        raise StorageError(
            f"load: {path.name!r} is not {kind}", given=fault, do="pass the file or folder that save() wrote"
        ) from None
    except OSError as fault:
        raise StorageError(f"load: {path.name!r} cannot be read", given=fault, do="check the path") from None
    except (SafetensorError, ValueError, LookupError, TypeError, RuntimeError) as fault:
        raise StorageError(
            f"load: {path.name!r} is truncated or damaged", given=said(fault), do="write it again with save()"
        ) from None


def _metadata(content: bytes) -> dict[str, str]:
    """Return what a safetensors file says of itself.

    Raises:
        ValueError: it says nothing that can be read.
    """
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > len(content) - 8:
        raise ValueError("its header is longer than the file")
    header = parse(content[8 : 8 + length])
    found = header.get("__metadata__", {}) if isinstance(header, dict) else None
    if not isinstance(found, dict):
        raise ValueError("its header is no table")
    return found


def _checksum(text: str, tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(text.encode())
    for key, tensor in sorted(tensors.items()):
        digest.update(f"{key}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def clone(tree: Any) -> Any:
    """Return a copy of nested state whose tensors share no memory with the original."""
    if isinstance(tree, Tensor):
        return tree.detach().clone()
    if isinstance(tree, dict):
        return {key: clone(item) for key, item in tree.items()}
    if isinstance(tree, list | tuple):
        return [clone(item) for item in tree]
    return tree


def all_finite(tree: Any) -> bool:
    """Whether every floating tensor in nested state is finite."""
    if isinstance(tree, Tensor):
        return not tree.is_floating_point() or bool(torch.isfinite(tree).all())
    if isinstance(tree, dict):
        return all(all_finite(item) for item in tree.values())
    if isinstance(tree, list | tuple):
        return all(all_finite(item) for item in tree)
    return True
