"""Where :mod:`xlens.evaluation.leaking` was before 0.2."""

from xlens.deprecated import forwarded_module

__getattr__ = forwarded_module("xlens.evaluation.leakage", "xlens.evaluation.leaking")
