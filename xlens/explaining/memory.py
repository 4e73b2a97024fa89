"""How many points fit into memory at once, measured on the first input."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from xlens.attr.memory import points_in_flight
from xlens.explaining.asking import Asks

__all__ = ["in_flight"]


def in_flight(
    lens: Asks, inputs: Tensor, size: int | None, memory_budget: int | None, through_codes: bool = True
) -> tuple[int, int]:
    """Return how many points fit at once: of the classifier alone, and of the classifier behind the generator.

    Args:
        lens: asks the lens.
        inputs: ``(N, *S)``, of which the first is tried.
        size: points at once, where the user says so.
        memory_budget: bytes that they may take; see ``explainer.explain``.
        through_codes: whether gradients go through the generator. Where none do, points of both kinds are the same.
    """
    if size is not None:
        return size, size
    first = inputs[:1]

    def gradient(points: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        points = points.detach().requires_grad_()
        with torch.enable_grad():
            return torch.autograd.grad(function(points).sum(), points)[0]

    if not through_codes:
        classifier = lens.fitted.classifier
        return (points_in_flight(lambda: gradient(first, classifier), inputs.device, memory_budget),) * 2
    codes = lens.encode(first)
    batch = points_in_flight(lambda: gradient(*lens.entry(first, codes)), inputs.device, memory_budget)
    of_codes = lambda: gradient(codes, lambda points: lens.decode(points, first))  # noqa: E731
    return batch, points_in_flight(of_codes, inputs.device, memory_budget)
