"""Installed backends: listed without importing them, loaded one at a time."""

from xlens.registry.entries import Entry, backends, entries
from xlens.registry.loading import load_backend, offering, standing_in

__all__ = ["Entry", "backends", "entries", "load_backend", "offering", "standing_in"]
