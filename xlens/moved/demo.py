"""Where the demonstration's data and networks, now :mod:`xlens.datasets`, were before 0.2."""

from xlens.deprecated import forwarded_module

__getattr__ = forwarded_module("xlens.demo", "xlens.datasets", elsewhere={"run_demo": "xlens.cli.demo"})
