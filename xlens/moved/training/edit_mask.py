"""Where :mod:`xlens.counterfactual.fit_mask` was before 0.2."""

from xlens.deprecated import forwarded_module

__getattr__ = forwarded_module(
    "xlens.training.edit_mask",
    "xlens.counterfactual.fit_mask",
    elsewhere={"default_contrast": "xlens.classifier", "_Pool": "xlens.counterfactual.fit_mask:MaskPool"},
)
