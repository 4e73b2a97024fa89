"""Invertible transformations behind one interface: planar, affine coupling, rational-quadratic spline."""

from __future__ import annotations

import math
from functools import partial

import torch
import zuko
from torch import Tensor, nn

from xlens_ilvm.planar import PlanarFlow

__all__ = ["FLOWS", "OF_EACH_ROW", "ComposedFlow", "make_flow"]

#: What the option ``flow`` may be.
FLOWS = ("coupling", "spline", "planar", "linear", "amortised")
#: Planar, with parameters that a recognition network gives for each row; :func:`make_flow` returns what it changes.
OF_EACH_ROW = "amortised"

#: A coupling changes the scale of a dimension by at most this factor's logarithm.
_SCALE_CAP = 2.0
_BINS, _BOUND = 8, 6.0


class ComposedFlow(nn.Module):
    """Linear maps with couplings between them, from zuko.

    Args:
        width: dimensions d.
        layers: couplings; 0 leaves one linear map.
        hidden: width of the couplings' two hidden layers.
        spline: rational-quadratic splines instead of affine maps.

    References:
        Dinh, Sohl-Dickstein, Bengio (2017), Density Estimation using Real NVP.
        Durkan, Bekasov, Murray, Papamakarios (2019), Neural Spline Flows.
        Kingma, Dhariwal (2018), Glow, for linear maps as LU factors.
    """

    def __init__(self, width: int, layers: int, hidden: int, spline: bool) -> None:
        super().__init__()
        parts: list[nn.Module] = [_linear(width)]
        for index in range(layers):
            parts += [_coupling(width, index % 2, hidden, spline), _linear(width)]
        self.parts = nn.ModuleList(parts)

    def forward(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Map points ``(N, d)`` to their images, and log|det| of the Jacobian ``(N,)``."""
        total = points.new_zeros(len(points))
        if not len(points):
            return points, total  # zuko's transforms need a row
        for part in self.parts:
            points, change = part().call_and_ladj(points)
            total = total + change
        return points, total

    def inverse(self, images: Tensor) -> Tensor:
        """Map images ``(N, d)`` back to points; gradients flow."""
        for part in reversed(self.parts):
            images = part().inv(images)
        return images


def make_flow(name: str, width: int, layers: int, hidden: int) -> PlanarFlow | ComposedFlow:
    """Return a flow in float64: in float32 the way back through many layers was seen half a unit off.

    Args:
        name: one of :data:`FLOWS`.
        width: dimensions d.
        layers: planar layers, or couplings.
        hidden: width of the couplings' hidden layers.
    """
    if name in ("planar", OF_EACH_ROW):
        return PlanarFlow(width, layers).double()
    return ComposedFlow(width, 0 if name == "linear" else layers, hidden, name == "spline").double()


def _linear(width: int) -> nn.Module:
    """Return L U z, which begins as the identity."""
    return zuko.lazy.UnconditionalTransform(zuko.transforms.LULinearTransform, torch.eye(width))


def _coupling(width: int, parity: int, hidden: int, spline: bool) -> nn.Module:
    if spline:
        univariate = partial(zuko.transforms.MonotonicRQSTransform, bound=_BOUND)
        shapes: list[tuple[int, ...]] = [(_BINS,), (_BINS,), (_BINS - 1,)]
    else:
        univariate = partial(zuko.transforms.MonotonicAffineTransform, slope=math.exp(-_SCALE_CAP))
        shapes = [(), ()]
    return zuko.flows.GeneralCouplingTransform(
        features=width,
        mask=torch.arange(width) % 2 == parity,
        univariate=univariate,
        shapes=[torch.Size(shape) for shape in shapes],
        hidden_features=(hidden, hidden),
    )
