"""Where :mod:`xlens.registry.installed` was before 0.2."""

from xlens.deprecated import forwarded_module

__getattr__ = forwarded_module("xlens.registry.entries", "xlens.registry.installed")
