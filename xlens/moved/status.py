"""Where :mod:`xlens.registry.status` was before 0.2."""

from xlens.deprecated import forwarded_module

__getattr__ = forwarded_module("xlens.status", "xlens.registry.status")
