"""How far a variant's code is from its input's, as a function of the variant; what may attribute it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from xlens.attr.captum_methods import captum_names, check_captum
from xlens.contracts.capabilities import SupportsDivergence
from xlens.errors import did_you_mean

__all__ = ["Divergence", "method_faults"]

#: Methods with rules for common layers, and none for what a divergence is made of.
_NO_RULE = ("deep_lift", "deep_lift_shap", "layer_deep_lift", "layer_deep_lift_shap")
#: The input is the baseline, so that what is attributed is the divergence from it.
_TAKEN = ("baselines", "layer_baselines")


class Divergence(nn.Module):
    """d(x, x~) as a function of x~; a module, because some methods look for layers inside it.

    Args:
        lens: says how far two inputs are apart.
        part: ``"class"`` (k = 1 of the SVAE paper's equation 9) or ``"nuisance"`` (k = 2).
    """

    def __init__(self, lens: SupportsDivergence, part: str) -> None:
        super().__init__()
        self.lens, self.part = lens, part

    def forward(self, variants: Tensor, inputs: Tensor) -> Tensor:
        """Return ``(N,)``."""
        return self.lens.divergence(inputs, variants, self.part)


def method_faults(method: Any, options: Any) -> list[str]:
    """Return, in words, what is wrong with a method that is to attribute a divergence, and with its options."""
    faults = []
    if not isinstance(options, Mapping):
        faults.append(f"options must be a dict of names and values, got {options!r}")
    elif taken := [name for name in options if name in _TAKEN]:
        faults.append(f"{', '.join(taken)} cannot be set: the input is the baseline")
    known = [name for name in captum_names() if name not in _NO_RULE]
    if method in _NO_RULE:
        faults.append(f"{method!r} has no rules for what a divergence is made of")
    elif method not in captum_names():
        faults.append(f"unknown method {method!r}.{did_you_mean(str(method), known)} Known: {', '.join(known)}")
    elif isinstance(options, Mapping):
        faults += check_captum(method, options)
    return faults
