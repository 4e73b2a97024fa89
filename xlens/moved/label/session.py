"""Where :mod:`xlens.teaching.page.session` was before 0.2."""

from xlens.deprecated import forwarded_module

__getattr__ = forwarded_module("xlens.label.session", "xlens.teaching.page.session")
