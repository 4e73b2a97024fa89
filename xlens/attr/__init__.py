"""Path attribution: curves from a counterfactual to an input, and integrals along them."""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xlens.attr.curve import Curve, Decoded, Polyline, Segment
from xlens.attr.integral import path_integral
from xlens.attr.paths import geodesic, guided
from xlens.attr.shift import LatentShift, latent_shift
from xlens.deprecated import forwarded_module

if TYPE_CHECKING:
    from xlens.attr.latent_ig import LatentIntegratedGradients
    from xlens.attr.layer_ig import LayerIntegratedGradients

__all__ = [
    "Curve",
    "Decoded",
    "LatentIntegratedGradients",
    "LatentShift",
    "LayerIntegratedGradients",
    "Polyline",
    "Segment",
    "geodesic",
    "guided",
    "latent_shift",
    "path_integral",
]

# Classes that are Captum's too: who fits and explains does not wait for Captum, nor for what it draws with.
_OF_CAPTUM = {"LatentIntegratedGradients": "latent_ig", "LayerIntegratedGradients": "layer_ig"}
_moved = forwarded_module("xlens.attr", "xlens.counterfactual", ("CarriedCurve",))


def __getattr__(name: str) -> Any:
    if name in _OF_CAPTUM:
        return getattr(importlib.import_module(f"xlens.attr.{_OF_CAPTUM[name]}"), name)
    return _moved(name)


# Old paths of modules are looked up here, after everything else.
__path__.append(str(Path(__file__).parents[1] / "moved" / "attr"))
