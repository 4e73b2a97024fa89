"""Where :mod:`xlens.contracts.capabilities` was before 0.2."""

from xlens.deprecated import forwarded_module

__getattr__ = forwarded_module("xlens.capabilities", "xlens.contracts.capabilities")
