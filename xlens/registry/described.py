"""The options of a backend: what each may be, and what it is for; for people and for machines."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Sequence
from typing import Any

from xlens.contracts.backend import Backend
from xlens.contracts.options import Constraint

__all__ = ["described", "options_rows"]

_BOUNDS = ("ge", "gt", "le", "lt")


def described(backend: type[Backend]) -> list[dict[str, Any]]:
    """Return what :func:`xlens.fit` takes of a backend, one mapping of plain JSON values for each option.

    Args:
        backend: its class.

    Returns:
        ``name``, ``type``, ``default``, the bounds ``ge``, ``gt``, ``le`` and ``lt`` (None where there is none; of
        several values, for each), ``choices`` or None, ``formerly``, its earlier name or None, and ``help``.

    >>> from xlens.registry.described import described
    >>> from xlens.registry.loading import load_backend
    >>> [one["type"] for one in described(load_backend("ilvm")) if one["name"] == "steps"]
    ['int']
    """
    hints = typing.get_type_hints(backend)
    found = []
    for field in dataclasses.fields(backend):
        constraint = field.metadata.get("constraint", Constraint())
        choices = constraint.choices or _literals(hints[field.name])
        found.append(
            {
                "name": field.name,
                "type": _type(hints[field.name]),
                "default": _json(field.default),
                **{bound: getattr(constraint, bound) for bound in _BOUNDS},
                "choices": None if choices is None else _json(choices),
                "formerly": field.metadata.get("formerly"),
                "help": field.metadata.get("help", ""),
            }
        )
    return found


def options_rows(found: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    """Return options as the rows of a table, after its header.

    >>> from xlens.registry.described import options_rows
    >>> options_rows([{"name": "rank", "type": "int", "default": 16, "ge": 1, "help": "components"}])[1]
    ('rank', '16', 'int >= 1', 'components')
    """
    rows = [(one["name"], repr(_tuples(one["default"])), _may_be(one), one["help"]) for one in found]
    return [("name", "default", "may be", "what it is"), *rows]


def _may_be(one: dict[str, Any]) -> str:
    choices = one.get("choices")
    bounds = {bound: one.get(bound) for bound in _BOUNDS}
    said = Constraint(**bounds, choices=None if choices is None else tuple(map(_tuples, choices))).describe(
        one["type"]
    )
    return f"{said} or None" if choices is not None and "None" in one["type"].split(" | ") else said


def _type(hint: Any) -> str:
    """Return an annotation as somebody writes it."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " | ".join(map(_type, parts))
    if origin is typing.Literal:
        return " | ".join(map(repr, parts))
    if hint is type(None):
        return "None"
    if hint is Ellipsis:
        return "..."
    own = getattr(origin or hint, "__name__", str(hint))
    return f"{own}[{', '.join(map(_type, parts))}]" if parts else own


def _literals(hint: Any) -> tuple[Any, ...] | None:
    if typing.get_origin(hint) is typing.Literal:
        return typing.get_args(hint)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        parts = [part for part in typing.get_args(hint) if part is not type(None)]
        return _literals(parts[0]) if len(parts) == 1 else None
    return None


def _json(value: Any) -> Any:
    """Return a value as JSON has it."""
    if isinstance(value, tuple | list):
        return [_json(part) for part in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
