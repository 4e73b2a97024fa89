"""Path attribution: curves from a counterfactual to an input, and integrals along them."""

from xlens.attr.curve import CarriedCurve, Curve, Decoded, Polyline, Segment
from xlens.attr.integral import path_integral
from xlens.attr.latent_ig import LatentIntegratedGradients
from xlens.attr.layer_ig import LayerIntegratedGradients
from xlens.attr.paths import geodesic, guided
from xlens.attr.shift import LatentShift, latent_shift

__all__ = [
    "CarriedCurve",
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
