"""Where :mod:`xlens.counterfactual.edit` was before 0.2."""

from xlens.deprecated import forwarded_module

__getattr__ = forwarded_module(
    "xlens.attr.edit", "xlens.counterfactual.edit", elsewhere={"Carry": "xlens.counterfactual"}
)
