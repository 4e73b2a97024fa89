"""The networks that make up the lens: encoder, decoder, and the linear head on the code."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from xlens import Spec
from xlens.nn import ImageDecoder, ImageEncoder

__all__ = ["Decoder", "Encoder", "LinearHead", "is_dense"]

#: Inputs of more values than this get convolutions, where they are images.
_LARGEST_DENSE = 4096
#: Log variances outside this range would only make exponentials overflow.
_LOG_VARIANCE = (-10.0, 4.0)


def is_dense(spec: Spec, network: str) -> bool:
    """Whether inputs of this shape get fully connected networks, which are far cheaper where inputs are small."""
    if network == "auto":
        return not spec.is_image or math.prod(spec.shape) <= _LARGEST_DENSE or min(spec.shape[1:]) < 8
    return network == "dense"


class Encoder(nn.Module):
    """Inputs to mean and log variance of a Gaussian over codes.

    Args:
        spec: shape and range of the inputs.
        code: width d of the code.
        hidden: width of the hidden layers of a fully connected network.
        width: channels of a convolutional one.
        dense: which of the two.
    """

    def __init__(self, spec: Spec, code: int, hidden: int, width: int, dense: bool) -> None:
        super().__init__()
        self.register_buffer("low", spec.per_channel("minimum"), persistent=False)
        self.register_buffer("span", spec.span(), persistent=False)
        self.dense = dense
        if dense:
            size = math.prod(spec.shape)
            self.trunk = nn.Sequential(
                nn.Flatten(),
                nn.Linear(size, hidden),
                nn.GELU(),
                nn.Linear(hidden, hidden),
                nn.GELU(),
                nn.Linear(hidden, 2 * code),
            )
        else:
            self.trunk = ImageEncoder(spec, 2 * code, width)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Map inputs ``(N, *S)`` to mean and log variance, ``(N, d)`` each."""
        # The convolutional trunk scales to [-1, 1] by itself.
        scaled = 2 * (inputs - self.low) / self.span - 1 if self.dense else inputs
        mean, log_variance = self.trunk(scaled).chunk(2, 1)
        return mean, log_variance.clamp(*_LOG_VARIANCE)


class Decoder(nn.Module):
    """Codes to inputs within the data's range; arguments as for :class:`Encoder`."""

    def __init__(self, spec: Spec, code: int, hidden: int, width: int, dense: bool) -> None:
        super().__init__()
        self.register_buffer("low", spec.per_channel("minimum"), persistent=False)
        # Without variation there is nothing to decode: a constant channel stays at its value.
        span = spec.per_channel("maximum") - spec.per_channel("minimum")
        self.register_buffer("span", span, persistent=False)
        self.shape, self.dense = spec.shape, dense
        if dense:
            self.trunk = nn.Sequential(
                nn.Linear(code, hidden),
                nn.GELU(),
                nn.Linear(hidden, hidden),
                nn.GELU(),
                nn.Linear(hidden, math.prod(spec.shape)),
            )
        else:
            self.trunk = ImageDecoder(spec, code, code, width)

    def forward(self, codes: Tensor) -> Tensor:
        """Map codes ``(N, d)`` to inputs ``(N, *S)``."""
        raw = self.trunk(codes).view(-1, *self.shape) if self.dense else self.trunk(codes, codes)
        return self.low + self.span * raw.sigmoid()


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
