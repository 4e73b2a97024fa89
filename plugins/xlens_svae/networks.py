"""The networks of both models: a trunk, Gaussian heads, a class head and a decoder."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from xlens import Spec
from xlens.nn import ImageDecoder, ImageEncoder
from xlens_svae.terms import Gaussian

__all__ = ["ClassHead", "Decoder", "Posterior", "Trunk", "data_scale"]


def data_scale(spec: Spec) -> Tensor:
    """Return the standard deviation of each channel, to broadcast over a batch; 1 where it is constant."""
    std = spec.per_channel("std")
    return torch.where(std > 0, std, torch.ones_like(std))


class Trunk(nn.Module):
    """What all heads of the encoder share: inputs to vectors.

    Args:
        spec: shape and statistics of the inputs.
        width: width of the hidden layers; the result is half as wide.
        convolutional: convolutions first.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, spec: Spec, width: int, convolutional: bool) -> None:
        super().__init__()
        self.out_features = max(width // 2, 8)
        self.convolutional = convolutional
        self.register_buffer("mean", spec.per_channel("mean"), persistent=False)
        self.register_buffer("std", data_scale(spec), persistent=False)
        if convolutional:
            self.layers = nn.Sequential(ImageEncoder(spec, self.out_features, max(width // 20, 8)), nn.GELU())
            return
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(math.prod(spec.shape), width),
            nn.GELU(),
            nn.Linear(width, self.out_features),
            nn.GELU(),
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Map inputs ``(N, *S)`` to ``(N, out_features)``."""
        # The convolutional encoder scales its inputs itself.
        return self.layers(inputs if self.convolutional else (inputs - self.mean) / self.std)


class Posterior(nn.Module):
    """q(z|x), or q(z|x,y) where it is given classes: a Gaussian from the trunk's result.

    Args:
        in_features: width of the trunk's result.
        classes: number of classes K that it is conditioned on; 0 for none.
        code: width d of z.
    """

    def __init__(self, in_features: int, classes: int, code: int) -> None:
        super().__init__()
        hidden = max(in_features // 2, 8)
        self.entry = nn.Linear(in_features, hidden)
        # Classes enter beside what the trunk gives, so that enumerating them costs only what follows.
        self.condition = nn.Linear(classes, hidden, bias=False) if classes else None
        self.out = nn.Linear(hidden, 2 * code)
        with torch.no_grad():
            # Small variances at first: otherwise the noise hides what the decoder should learn from.
            self.out.bias[code:].fill_(-2.0)

    def forward(self, hidden: Tensor, classes: Tensor | None = None) -> Gaussian:
        """Return the Gaussian.

        Args:
            hidden: ``(N, in_features)``.
            classes: ``(N, K)`` probabilities, where it is conditioned on them.
        """
        values = self.entry(hidden)
        if self.condition is not None:
            values = values + self.condition(classes)
        return Gaussian.of(self.out(nn.functional.gelu(values)))


class ClassHead(nn.Module):
    """p(y|z1): logits from the class part of the code.

    Args:
        in_features: width of z1.
        num_classes: K.
        width: width of the hidden layer.
    """

    def __init__(self, in_features: int, num_classes: int, width: int = 64) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(in_features, width), nn.GELU(), nn.Linear(width, num_classes))

    def forward(self, values: Tensor) -> Tensor:
        """Map ``(N, in_features)`` to logits ``(N, K)``."""
        return self.layers(values)


class Decoder(nn.Module):
    """Codes to the mean of p(x|z), in the range of the data where inputs are images.

    Args:
        spec: shape and statistics of the inputs.
        evidence: width of the class part of the code.
        nuisance: width of the rest.
        width: width of the hidden layers.
        convolutional: convolutions at the end.
    """

    low: Tensor
    span: Tensor
    mean: Tensor
    std: Tensor
    layers: nn.Module

    def __init__(self, spec: Spec, evidence: int, nuisance: int, width: int, convolutional: bool) -> None:
        super().__init__()
        self.shape, self.evidence, self.convolutional = spec.shape, evidence, convolutional
        self.bounded = spec.is_image
        self.register_buffer("low", spec.per_channel("minimum"), persistent=False)
        self.register_buffer("span", spec.per_channel("maximum") - self.low, persistent=False)
        self.register_buffer("mean", spec.per_channel("mean"), persistent=False)
        self.register_buffer("std", data_scale(spec), persistent=False)
        if convolutional:
            self.layers = ImageDecoder(spec, nuisance, evidence, max(width // 20, 8))
            return
        self.layers = nn.Sequential(
            nn.Linear(evidence + nuisance, max(width // 2, 8)),
            nn.GELU(),
            nn.Linear(max(width // 2, 8), width),
            nn.GELU(),
            nn.Linear(width, math.prod(spec.shape)),
        )

    def forward(self, codes: Tensor) -> Tensor:
        """Map codes ``(N, d)`` to inputs ``(N, *S)``."""
        if self.convolutional:
            values = self.layers(codes[:, self.evidence :], codes[:, : self.evidence])
        else:
            values = self.layers(codes).view(-1, *self.shape)
        if self.bounded:
            return self.low + self.span * values.sigmoid()
        return self.mean + self.std * values
