"""Where :mod:`xlens.counterfactual.mask` was before 0.2."""

from xlens.deprecated import forwarded_module

__getattr__ = forwarded_module("xlens.nn.mask", "xlens.counterfactual.mask")
