"""Installed backends with what they can do, or why they cannot be used; for people and for machines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from xlens.errors import PluginError
from xlens.registry.installed import entries
from xlens.registry.loading import load_backend

__all__ = ["Status", "as_json", "as_rows", "statuses"]


@dataclass(frozen=True)
class Status:
    """An installed backend, and whether it can be used.

    Args:
        name: the backend's name.
        distributions: what brings it, each as ``(name, version)``.
        summary: first line of its module's docstring.
        capabilities: what it declares to be able to do beyond explaining; empty where it cannot be loaded.
        failure: why it cannot be loaded, or None.
    """

    name: str
    distributions: tuple[tuple[str, str], ...]
    summary: str
    capabilities: tuple[str, ...]
    failure: str | None


def statuses() -> tuple[Status, ...]:
    """Return every registered backend with its status, which takes importing it.

    >>> from xlens.registry.status import statuses
    >>> [status.failure for status in statuses() if status.name == "medxgan"]
    [None]
    """
    found = []
    for name, entry in entries().items():
        capabilities: tuple[str, ...] = ()
        failure = None
        try:
            capabilities = tuple(load_backend(name).capabilities)
        except PluginError as fault:
            failure = str(fault)
        found.append(Status(name, entry.sources, entry.summary, capabilities, failure))
    return tuple(found)


def as_json(found: Sequence[Status]) -> dict[str, Any]:
    """Return statuses by name, as plain JSON values."""
    return {
        one.name: {
            "summary": one.summary,
            "distributions": [{"name": name, "version": version} for name, version in one.distributions],
            "capabilities": list(one.capabilities),
            "failure": one.failure,
        }
        for one in found
    }


def as_rows(found: Sequence[Status]) -> list[tuple[str, ...]]:
    """Return statuses as the rows of a table, after its header; the last cell says why one cannot be used.

    >>> from xlens.registry.status import Status, as_rows
    >>> as_rows([Status("pca", (("xlens-pca", "0.1"),), "Principal components.", ("sample",), None)])[1]
    ('pca', 'xlens-pca', '0.1', 'Principal components.', 'sample')
    """
    rows: list[tuple[str, ...]] = [("name", "distribution", "version", "summary", "capabilities")]
    for one in found:
        names, versions = (" and ".join(parts) for parts in zip(*one.distributions, strict=True))
        able = f"cannot be used: {one.failure}" if one.failure else ", ".join(one.capabilities) or "-"
        rows.append((one.name, names, versions, one.summary, able))
    return rows
