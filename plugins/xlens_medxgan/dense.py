"""Fully connected networks, for what is no picture: vectors, activations of a hidden layer, small maps."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from xlens import Spec

__all__ = ["DenseDecoder", "DenseEncoder"]


class DenseEncoder(nn.Module):
    """Inputs to vectors.

    Args:
        spec: shape and range of the inputs.
        out_features: width of the result.
        hidden: width of the hidden layers.
    """

    low: Tensor
    span: Tensor

    def __init__(self, spec: Spec, out_features: int, hidden: int) -> None:
        super().__init__()
        self.register_buffer("low", spec.per_channel("minimum"), persistent=False)
        self.register_buffer("span", spec.span(), persistent=False)
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(math.prod(spec.shape), hidden),
            nn.LeakyReLU(0.2),
            nn.Linear(hidden, hidden),
            nn.LeakyReLU(0.2),
        )
        self.out = nn.Linear(hidden, out_features)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map inputs ``(N, *S)`` to ``(N, out_features)``."""
        return self.out(self.layers(2 * (inputs - self.low) / self.span - 1))


class DenseDecoder(nn.Module):
    """Vectors and a condition to unbounded inputs, which begin near zero.

    Args:
        spec: shape of the inputs.
        in_features: width of the vectors.
        condition: width of the condition.
        hidden: width of the hidden layers.
    """

    def __init__(self, spec: Spec, in_features: int, condition: int, hidden: int) -> None:
        super().__init__()
        self.shape = spec.shape
        self.layers = nn.Sequential(
            nn.Linear(in_features + condition, hidden),
            nn.LeakyReLU(0.2),
            nn.Linear(hidden, hidden),
            nn.LeakyReLU(0.2),
        )
        self.out = nn.Linear(hidden, math.prod(spec.shape))
        nn.init.normal_(self.out.weight, 0, 0.01)
        nn.init.zeros_(self.out.bias)

    def forward(self, vectors: Tensor, condition: Tensor) -> Tensor:
        """Map ``(N, in_features)`` and ``(N, condition)`` to ``(N, *S)``."""
        return self.out(self.layers(torch.cat([vectors, condition], 1))).view(-1, *self.shape)
