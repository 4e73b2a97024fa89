"""Where :mod:`xlens.nn.search` was before 0.2."""

from xlens.deprecated import forwarded_module

__getattr__ = forwarded_module("xlens.nn.steps", "xlens.nn.search")
