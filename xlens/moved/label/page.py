"""Where :mod:`xlens.teaching.page.page` was before 0.2."""

from xlens.deprecated import forwarded_module

__getattr__ = forwarded_module("xlens.label.page", "xlens.teaching.page.page")
