"""The heat map of the paper: where the frames of the shift differ most from the input."""

from __future__ import annotations

import torch

import xlens
from xlens import param
from xlens.contracts import AskedMap, AttributionMethod

__all__ = ["LargestChange"]


@xlens.options
class LargestChange(AttributionMethod):
    """The largest absolute change of each pixel over the frames between the counterfactual and the input.

    It works with every lens, and not with this package's alone.

    References:
        Cohen et al. (2021), Gifsplanation via Latent Shift, section 3.1: the 2D image made of the frames.
    """

    name = "largest_change"

    frames: int = param(16, ge=1, help="frames that are compared with the input")
    signed: bool = param(False, help="keep the sign of the change from the counterfactual to the input")

    def attribute(self, asked: AskedMap) -> torch.Tensor:
        """Return the map of each input ``(N, *S)``."""
        rows = torch.arange(len(asked.inputs), device=asked.inputs.device)
        found = torch.zeros_like(asked.inputs)
        with torch.no_grad():
            for frame in range(self.frames):
                at = torch.full(rows.shape, frame / self.frames, device=rows.device)
                change = asked.inputs - asked.curve(rows, at)
                found = torch.where(change.abs() > found.abs(), change, found)
        return found if self.signed else found.abs()
