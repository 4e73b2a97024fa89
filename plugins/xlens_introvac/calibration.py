"""What the classifier says of decodings, fitted to what the linear head says of their codes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["calibrate"]

#: Pulls toward a scale of 1 and no offsets, which alone decides for classes that never occur.
_RIDGE = 1e-3


@torch.enable_grad()
def calibrate(logits: Tensor, answers: Tensor) -> tuple[Tensor, Tensor]:
    """Return scale ``()`` and offsets ``(K,)`` for which softmax(scale * logits + offsets) fits the answers best.

    The head has no bias, so its boundary goes through the origin; that of the classifier on decodings need not.
    Only the classifier's answers are used, and never its gradient.

    Args:
        logits: ``(n, K)`` of the head.
        answers: ``(n,)`` classes that the classifier gives to the decodings.
    """
    fixed = logits.detach().double()
    log_scale = torch.zeros((), dtype=torch.float64, device=logits.device, requires_grad=True)
    offsets = torch.zeros(logits.shape[1], dtype=torch.float64, device=logits.device, requires_grad=True)
    search = torch.optim.LBFGS([log_scale, offsets], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        search.zero_grad()
        value = F.cross_entropy(log_scale.exp() * fixed + offsets, answers)
        value = value + _RIDGE * (log_scale.square() + offsets.square().sum())
        value.backward()
        return value

    search.step(loss)
    return log_scale.detach().exp().to(logits.dtype), offsets.detach().to(logits.dtype)
