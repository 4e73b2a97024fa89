"""Gradients of the explained score at points of the input space, piece by piece."""

from __future__ import annotations

import torch
from torch import Tensor

from xlens.classifier.margins import score_margin
from xlens.classifier.pieces import piece
from xlens.fitted import Fitted

__all__ = ["slopes"]


def slopes(fitted: Fitted, points: Tensor, target: Tensor, contrast: Tensor) -> Tensor | None:
    """Return the gradient of the score at points ``(N, C, H, W)``, of the same shape, within ``fitted.asking()``.

    None where no gradient of the classifier reaches its inputs.

    Args:
        fitted: whose classifier is asked.
        points: on its device.
        target, contrast: ``(N,)``.
    """
    size, found = piece(points), []
    for at, t, c in zip(points.split(size), target.split(size), contrast.split(size), strict=True):
        with torch.enable_grad():
            at = at.detach().requires_grad_()
            score = score_margin(fitted.classifier(at), t, c).sum()
            if not score.requires_grad:
                return None
            found.append(torch.autograd.grad(score, at)[0].to(points.dtype))
    return torch.cat(found)
