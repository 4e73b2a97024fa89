"""A toy whose labels are independent: pictures with a bright patch, a dark one, both or neither."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LABELS = ("bright", "dark")
SIDE, PATCH = 32, 5


def labelled_pictures(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return pictures ``(n, 1, 32, 32)`` and which labels each has, ``(n, 2)``; the patches never overlap."""
    generator = torch.Generator().manual_seed(seed)
    inputs = 0.1 * torch.rand(n, 1, SIDE, SIDE, generator=generator)
    has = torch.stack([torch.arange(n) % 2 == 1, torch.arange(n) // 2 % 2 == 1], 1)
    for i in range(n):
        for k, value in enumerate((1.0, -1.0)):
            top = int(torch.randint(2, SIDE - PATCH - 2, (), generator=generator))
            left = int(torch.randint(0, SIDE // 2 - PATCH - 1, (), generator=generator)) + k * SIDE // 2
            if has[i, k]:
                inputs[i, 0, top : top + PATCH, left : left + PATCH] += value
    return inputs, has


class Labels(nn.Module):
    """Gives a logit for each label, by the brightest and the darkest place; nothing in it is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(30.0))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits ``(N, 2)``."""
        means = F.avg_pool2d(torch.cat([inputs, -inputs], 1), PATCH, 1)
        # A soft maximum, so that gradients reach every pixel.
        strongest = (8 * means).flatten(2).logsumexp(2) / 8
        return self.scale * (strongest - torch.tensor([1.03, 0.93]))


class Number(nn.Module):
    """Gives the size of what is bright as one number."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Return ``(N,)``."""
        return F.softplus(20 * inputs - 10).flatten(1).sum(1) / (2 * PATCH**2)
