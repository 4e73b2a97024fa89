"""The linear head on the code."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["LinearHead"]


class LinearHead(nn.Module):
    """Linear read-outs of the code: K classes and "fake" without bias, and attributes with one.

    The number of attributes is found when the lens is fitted, so it is taken from the stored tensors
    when the lens is loaded.

    Args:
        code: width d of the code.
        num_classes: classes K.
    """

    def __init__(self, code: int, num_classes: int) -> None:
        super().__init__()
        self.classes = nn.Parameter(0.1 * torch.randn(num_classes + 1, code))
        self.attributes = nn.Parameter(torch.zeros(0, code))
        self.attribute_bias = nn.Parameter(torch.zeros(0))

    def forward(self, codes: Tensor) -> Tensor:
        """Return logits ``(N, K + 1)``; the last is "fake"."""
        return codes @ self.classes.T

    def read_attributes(self, codes: Tensor) -> Tensor:
        """Return logits (or standardised values) of the attributes, ``(N, A)``."""
        return codes @ self.attributes.T + self.attribute_bias

    def add_attributes(self, count: int) -> None:
        """Make room for `count` attributes."""
        like = self.classes
        self.attributes = nn.Parameter(0.1 * torch.randn(count, like.shape[1], device=like.device))
        self.attribute_bias = nn.Parameter(torch.zeros(count, device=like.device))

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        stored = state.get(prefix + "attributes")
        if stored is not None and len(stored) != len(self.attributes):
            self.add_attributes(len(stored))
        super()._load_from_state_dict(state, prefix, *rest)
