"""Where :mod:`xlens.classifier.fingerprint` was before 0.2."""

from xlens.deprecated import forwarded_module

__getattr__ = forwarded_module("xlens.classifier.identity", "xlens.classifier.fingerprint")
