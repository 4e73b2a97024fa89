"""Path attribution: curves from a counterfactual to an input, and integrals along them."""

from xlens.attr.curve import CarriedCurve, Curve, Segment
from xlens.attr.integral import path_integral

__all__ = ["CarriedCurve", "Curve", "Segment", "path_integral"]
