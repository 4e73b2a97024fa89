"""Where :mod:`xlens.evaluation.flipping` was before 0.2."""

from xlens.deprecated import forwarded_module

__getattr__ = forwarded_module("xlens.evaluation.flip_distance", "xlens.evaluation.flipping")
