"""Where the margins and taps of :mod:`xlens.classifier` were before 0.2."""

from xlens.deprecated import forwarded_module

__getattr__ = forwarded_module("xlens.nn.features", "xlens.classifier")
