"""The edit: a lens's counterfactual, carried onto the real input."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from xlens.attr.curve import Curve, Segment
from xlens.classifier.classifier import Classifier
from xlens.contracts.backend import Spec
from xlens.contracts.capabilities import SupportsWaypoints, Waypoints
from xlens.contracts.lens import Lens
from xlens.counterfactual.carry import CarriedCurve, Carry, PartsCurve
from xlens.counterfactual.mask import EditMask, mask_that_flips

__all__ = ["Edit", "make_edit"]


@dataclasses.dataclass(frozen=True)
class Edit:
    """Everything that a lens says of a batch, before it is integrated and judged.

    Args:
        inputs: ``(N, *S)`` x.
        codes, counterfactual_codes: ``(N, d)`` z and z0.
        reconstruction, decoded: ``(N, *S)`` G(z) and G(z0).
        mask: ``(N, 1, H, W)`` or None.
        start: ``(N, *S)`` where the curve begins: x', or G(z0) with ``carry="none"``.
        end: ``(N, *S)`` where it ends: x, or G(z) with ``carry="none"``.
        curve: the curve between them.
        moved: ``(N, d)`` the lens's own counterfactual code, where `counterfactual_codes` are those of a retrieved
            real input.
        waypoints: points between the codes, decoded, where the lens brings some.
        problems: per input, why there is no counterfactual, or None; empty where the lens does not say.
    """

    inputs: Tensor
    codes: Tensor
    counterfactual_codes: Tensor
    reconstruction: Tensor
    decoded: Tensor
    mask: Tensor | None
    start: Tensor
    end: Tensor
    curve: CarriedCurve | PartsCurve | Segment
    moved: Tensor | None = None
    waypoints: Waypoints | None = None
    problems: tuple[str | None, ...] = ()

    def along(self, codes: Curve) -> CarriedCurve | PartsCurve:
        """Return the curve that another path through the codes makes, carried the same way."""
        if isinstance(self.curve, Segment):
            raise TypeError("a lens on a hidden layer carries no path through its codes onto the inputs")
        return dataclasses.replace(self.curve, codes=codes)

    def through(self, decoded: Curve) -> CarriedCurve:
        """Return the curve that a path makes which is decoded already, carried the same way."""
        if not isinstance(self.curve, CarriedCurve):
            raise TypeError("only a lens that decodes to inputs carries decodings onto them")
        return dataclasses.replace(self.curve, codes=decoded, decode=_as_it_is)


@torch.no_grad()
def make_edit(
    classifier: Classifier,
    lens: Lens,
    spec: Spec,
    mask: EditMask | None,
    inputs: Tensor,
    target: Tensor,
    contrast: Tensor,
    carry: Carry,
) -> Edit:
    """Encode, find the counterfactual, decode, and carry the change onto the inputs.

    Args:
        classifier: the frozen classifier.
        lens: the fitted lens.
        spec: the data's range.
        mask: the fitted mask; needed for ``carry="masked"``.
        inputs: ``(N, *S)`` on the lens's device.
        target, contrast: ``(N,)``.
        carry: how the change is carried.
    """
    low = spec.per_channel("minimum").to(inputs)
    high = spec.per_channel("maximum").to(inputs)
    codes = lens.encode(inputs)
    counterfactual_codes = lens.counterfactual(codes, target, contrast)
    waypoints = lens.waypoints(codes, counterfactual_codes) if isinstance(lens, SupportsWaypoints) else None
    if waypoints is None:
        reconstruction, decoded = lens.decode(codes), lens.decode(counterfactual_codes)
    else:
        reconstruction, decoded = waypoints.decoded[:, -1], waypoints.decoded[:, 0]
    opened = None
    if carry == "masked" and mask is not None:
        opened = mask_that_flips(mask, classifier, inputs, reconstruction, decoded, contrast, low, high)
    curve = CarriedCurve(
        inputs=inputs,
        codes=Segment(counterfactual_codes, codes),
        reconstruction=reconstruction,
        decode=lens.decode,
        carry=carry,
        mask=opened,
        minimum=low,
        maximum=high,
    )
    rows = torch.arange(len(inputs), device=inputs.device)
    # Both ends are decoded already.
    line = dataclasses.replace(curve, codes=Segment(decoded, reconstruction), decode=_as_it_is)
    start = line(rows, torch.zeros(len(inputs), device=inputs.device))
    end = reconstruction if carry == "none" else inputs
    return Edit(
        inputs,
        codes,
        counterfactual_codes,
        reconstruction,
        decoded,
        opened,
        start,
        end,
        curve,
        waypoints=waypoints,
    )


def _as_it_is(decoded: Tensor) -> Tensor:
    return decoded
