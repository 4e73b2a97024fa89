"""Where :mod:`xlens.teaching.page` was before 0.2."""

from xlens.deprecated import forwarded_module

__getattr__ = forwarded_module("xlens.label", "xlens.teaching.page")
