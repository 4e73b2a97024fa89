"""Path attribution: curves from a counterfactual to an input, and integrals along them."""

from pathlib import Path

from xlens.attr.curve import Curve, Decoded, Polyline, Segment
from xlens.attr.integral import path_integral
from xlens.attr.latent_ig import LatentIntegratedGradients
from xlens.attr.layer_ig import LayerIntegratedGradients
from xlens.attr.paths import geodesic, guided
from xlens.attr.shift import LatentShift, latent_shift
from xlens.deprecated import forwarded_module

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

__getattr__ = forwarded_module("xlens.attr", "xlens.counterfactual", ("CarriedCurve",))

# Old paths of modules are looked up here, after everything else.
__path__.append(str(Path(__file__).parents[1] / "moved" / "attr"))
