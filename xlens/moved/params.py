"""Where :mod:`xlens.contracts.options` was before 0.2."""

from xlens.deprecated import forwarded_module

__getattr__ = forwarded_module("xlens.params", "xlens.contracts.options")
