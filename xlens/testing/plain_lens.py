"""A lens that needs no training, through which additions are tried on the toy world."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from xlens.contracts.backend import Backend, Spec
from xlens.contracts.lens import Feature, Lens
from xlens.contracts.options import options
from xlens.testing.world import BRIGHT, DARK, patch_of

__all__ = ["PlainLens", "PlainPixels"]


class PlainLens(Lens):
    """Codes are pixels, and a counterfactual has the patch of another class, or none, in the patch's place.

    Args:
        spec: the data.
    """

    reference_class = 0

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.shape = spec.shape
        self.scale = nn.Parameter(torch.ones(()))

    def encode(self, inputs: Tensor) -> Tensor:
        """Map inputs ``(N, *S)`` to codes ``(N, d)``."""
        return inputs.flatten(1) / self.scale

    def decode(self, codes: Tensor) -> Tensor:
        """Map codes ``(N, d)`` to inputs ``(N, *S)``: bent, so that a path through codes is no line in pixels."""
        flat = codes * self.scale
        return (flat + 0.1 * torch.sin(torch.pi * flat)).view(-1, *self.shape)

    def counterfactual(self, codes: Tensor, target: Tensor, contrast: Tensor) -> Tensor:
        """Return codes ``(N, d)`` with what makes the contrast class where the patch is."""
        levels = codes.new_tensor([-0.5, BRIGHT, DARK])[contrast].unsqueeze(1)
        return torch.where(patch_of(codes), levels, codes)

    @property
    def features(self) -> tuple[Feature, ...]:
        """All of it."""
        return (Feature("picture", tuple(range(int(torch.tensor(self.shape).prod()))), "class"),)


@options
class PlainPixels(Backend):
    """A lens whose codes are pixels; nothing is trained."""

    name = "plain-pixels"

    def fit(self, classifier: Any, data: Any, run: Any) -> PlainLens:
        """Return the lens."""
        return self.build(classifier, run.spec)

    def build(self, classifier: Any, spec: Spec) -> PlainLens:
        """Return the lens."""
        return PlainLens(spec)
