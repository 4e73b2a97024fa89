"""Saved files as a careful forger would change them: one field at a time, with the checksums right again."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

#: What takes the place of a field.
ODD: tuple[Any, ...] = (
    None, True, -1, 0, 7, 1.5, 10**400, 1e308, float("nan"), "", "x", "\ud800",
    [], {}, [[]], ["a", 1], {"a": 1}, [[0.0, 1.0], [2.0]],
)  # fmt: skip


def deep(levels: int = 3000) -> str:
    """Return JSON that is nested deeper than Python's stack."""
    return "[" * levels + "]" * levels


def places(tree: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to every field of a tree, to the first two of a list."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield (*before, key)
            yield from places(value, (*before, key))
    elif isinstance(tree, list):
        for i, value in enumerate(tree[:2]):
            yield (*before, i)
            yield from places(value, (*before, i))


def with_field(tree: Any, place: tuple[Any, ...], value: Any) -> Any:
    """Return a copy of a tree with another value in one place; ``...`` takes the field away."""
    changed = copy.deepcopy(tree)
    inside = changed
    for key in place[:-1]:
        inside = inside[key]
    if value is ... and isinstance(inside, dict):
        inside.pop(place[-1], None)
    else:
        inside[place[-1]] = None if value is ... else value
    return changed


def facts_of(folder: Path) -> dict[str, Any]:
    """Return what ``lens.json`` says, without its checksum."""
    facts = json.loads((folder / "lens.json").read_text())
    del facts["checksum"]
    return facts


def write_facts(folder: Path, facts: dict[str, Any]) -> None:
    """Write ``lens.json`` with a checksum that fits."""
    checksum = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    (folder / "lens.json").write_text(json.dumps({**facts, "checksum": checksum}))


def tree_of(path: Path) -> tuple[dict[str, torch.Tensor], Any, str]:
    """Return tensors, JSON and kind of a file of :mod:`xlens.training.checkpoint`."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    return tensors, json.loads(metadata["json"]), metadata["kind"]


def write_tree(path: Path, tensors: dict[str, torch.Tensor], text: str, kind: str) -> None:
    """Write such a file with a checksum that fits."""
    digest = hashlib.sha256(text.encode())
    for key, tensor in sorted(tensors.items()):
        digest.update(f"{key}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    save_file(tensors, path, metadata={"kind": kind, "json": text, "checksum": digest.hexdigest()})


def odd_tensors(tensor: torch.Tensor) -> list[torch.Tensor]:
    """Return tensors that may stand where this one stood, and should not."""
    return [
        tensor.to(torch.uint8),
        tensor.double() * float("nan"),
        tensor.bool(),
        tensor.reshape(-1)[:0],
        tensor.unsqueeze(0),
        torch.full_like(tensor, 99) if not tensor.dtype.is_floating_point else tensor.to(torch.complex64),
    ]
