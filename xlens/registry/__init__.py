"""Installed backends: listed without importing them, loaded one at a time."""

from importlib import import_module
from pathlib import Path

from xlens.registry.added import adding, additions, load_addition
from xlens.registry.installed import Entry, backends
from xlens.registry.loading import load_backend, offering, standing_in

# An old path of a module, looked up after everything else. It is read here, because reading it later would put it
# in the place of the function of its name.
__path__.append(str(Path(__file__).parents[1] / "moved" / "registry"))
import_module("xlens.registry.entries")
from xlens.registry.installed import entries  # noqa: E402

__all__ = [
    "Entry",
    "adding",
    "additions",
    "backends",
    "entries",
    "load_addition",
    "load_backend",
    "offering",
    "standing_in",
]
