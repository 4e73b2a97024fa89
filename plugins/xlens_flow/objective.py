"""One training step: the velocity between noise and data, with and without the classifier's probabilities."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import torch
from torch import Tensor

from xlens.data import Attributes, Batch
from xlens.training import Trainer
from xlens_flow.networks import Flow

__all__ = ["FlowMatching"]

#: How often an attribute that is observed is a condition: guidance takes it alone, and none at all.
_OBSERVED = 0.5


class FlowMatching:
    """Regresses the velocity of straight lines from noise to data, given where on the line one is.

    Args:
        trainer: brings the optimiser and the generator of random numbers.
        flow: the velocity network.
        drop: share of the conditions that are left out.
        classes_of: gives the class probabilities that are the conditions, ``(N, K)``.
        attributes: side information that is a condition too, or None.

    References:
        Liu, Gong, Liu (2023), Flow Straight and Fast: Learning to Generate and Transfer Data with Rectified Flow,
        eq. 1. Lipman, Chen, Ben-Hamu, Nickel, Le (2023), Flow Matching for Generative Modeling.
    """

    def __init__(
        self,
        trainer: Trainer,
        flow: Flow,
        drop: float,
        classes_of: Callable[[Batch], Tensor],
        attributes: Attributes | None = None,
    ) -> None:
        self.trainer, self.flow, self.drop, self.classes_of = trainer, flow, drop, classes_of
        self.attributes = None if attributes is None else attributes.coded

    def __call__(self, batch: Batch) -> Mapping[str, Tensor]:
        """Take one step and return the mean squared error of the velocity."""
        data = self.flow.standardised(batch.inputs)
        n, device, generator = len(data), data.device, self.trainer.generator
        noise = torch.randn(data.shape, generator=generator, device=device)
        # One time in each of n equal parts of [0, 1]: the same loss with less noise.
        places = torch.randperm(n, generator=generator, device=device)
        times = (places + torch.rand(n, generator=generator, device=device)) / n
        kept = torch.rand(n, 1, generator=generator, device=device) >= self.drop
        share = times.view(-1, *[1] * (data.dim() - 1))
        states = torch.lerp(noise, data, share)
        found = self.flow(states, times, kept * self._conditions(batch))
        loss = (found - (data - noise)).square().mean()
        self.trainer.minimise(loss, "flow")
        return {"velocity": loss}

    def _conditions(self, batch: Batch) -> Tensor:
        """Return class probabilities, and attributes of which half are left out, ``(N, K + 2 A)``."""
        classes = self.classes_of(batch)
        if self.attributes is None:
            return classes
        values = self.attributes[cast(Tensor, batch.index).cpu()].to(classes.device)
        drawn = torch.rand(values.shape, generator=self.trainer.generator, device=classes.device)
        observed = values.isfinite() & (drawn < _OBSERVED)
        return torch.cat([classes, torch.where(observed, values, 0), observed.to(classes)], 1)
