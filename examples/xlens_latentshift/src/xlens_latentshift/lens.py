"""The lens: an autoencoder's codes, shifted along the classifier's gradient."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from xlens import Classifier, Feature, Lens, Spec
from xlens.nn import margin_over_rest, score_margin
from xlens_latentshift.autoencoders import decoded, encoded

__all__ = ["LatentShiftLens"]


class LatentShiftLens(Lens):
    """An autoencoder around a classifier; its weights are part of the lens, and saved with it.

    Args:
        classifier: the user's classifier.
        spec: the data and the classes.
        autoencoder: a module with ``encode`` and ``decode``, the lens's own.
        latent: shape of one latent.
        steps, longest, straight: see :class:`xlens_latentshift.LatentShift`.
    """

    def __init__(
        self,
        classifier: Classifier,
        spec: Spec,
        autoencoder: nn.Module,
        latent: tuple[int, ...],
        *,
        steps: int,
        longest: float,
        straight: bool,
    ) -> None:
        super().__init__()
        self._classifier = [classifier]  # in a list, so that it is neither submodule nor state
        self.autoencoder, self.latent = autoencoder, latent
        self.steps, self.longest, self.straight = steps, longest, straight
        self.register_buffer("scale", torch.ones(()))
        # What f is as sure of as of real inputs; made again from spec, so it need not be saved.
        self.register_buffer("margins", torch.tensor(spec.class_margins), persistent=False)

    @property
    def features(self) -> list[Feature]:
        """One feature: an autoencoder that the classifier did not train does not tell evidence from the rest."""
        return [Feature("latent", tuple(range(math.prod(self.latent))), "class")]

    def encode(self, inputs: Tensor) -> Tensor:
        """Map inputs ``(N, *S)`` to codes ``(N, d)``."""
        return encoded(self.autoencoder, inputs).flatten(1)

    def decode(self, codes: Tensor) -> Tensor:
        """Map codes ``(N, d)`` to inputs ``(N, *S)``."""
        return decoded(self.autoencoder, codes.view(-1, *self.latent))

    def counterfactual(self, codes: Tensor, target: Tensor, contrast: Tensor) -> Tensor:
        """Shift codes along the gradient of the classifier's margin for `contrast` over `target` (equation 2).

        It stops at the first length at which the classifier is as sure as of real inputs of the contrast class,
        with that class on top; where none is, at the length with the best margin.
        """
        goal = self.margins[contrast, target].to(codes)
        moved, best = codes.detach(), codes.detach().clone()
        best_lack = torch.full_like(goal, torch.inf)
        direction = None
        for _ in range(self.steps + 1):
            lack, gradient = self._lack(moved, target, contrast, goal)
            better = lack < best_lack
            best = torch.where(better.unsqueeze(1), moved, best)
            best_lack = torch.where(better, lack, best_lack)
            if direction is None or not self.straight:
                length = gradient.norm(dim=1, keepdim=True).clamp_min(1e-12)
                direction = gradient / length * (self.longest * self.scale / self.steps)
            going = (best_lack > 0).unsqueeze(1)
            moved = torch.where(going, moved + direction, moved)
        return best

    def _lack(self, codes: Tensor, target: Tensor, contrast: Tensor, goal: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is missing of the goal, 0 where it is reached, and the gradient of the margin in codes."""
        points = codes.detach().requires_grad_()
        with torch.enable_grad():
            logits = self._classifier[0](self.decode(points))
            margin = score_margin(logits, contrast, target)
            (gradient,) = torch.autograd.grad(margin.sum(), points)
        on_top = margin_over_rest(logits.detach(), contrast)
        lack = torch.maximum(goal - margin.detach().to(goal), -on_top.to(goal)).clamp_min(0)
        return lack, gradient
