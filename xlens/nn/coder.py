"""Encoder and decoder around a Gaussian code, fully connected or convolutional by the size of the inputs."""

from __future__ import annotations

import math

from torch import Tensor, nn

from xlens.contracts.backend import Spec
from xlens.errors import UnsupportedError
from xlens.nn.conv import ImageDecoder, ImageEncoder
from xlens.nn.residual import ResidualDecoder, ResidualEncoder

__all__ = ["CodeDecoder", "GaussianEncoder", "is_dense"]

#: Inputs of more values than this get convolutions, where they are images.
_LARGEST_DENSE = 4096
#: What convolutions take: sides of at least so many pixels.
_SMALLEST = 8
#: Log variances outside this range would only make exponentials overflow.
_LOG_VARIANCE = (-10.0, 4.0)


def is_dense(
    spec: Spec, network: str, *, up_to: int = _LARGEST_DENSE, channels: int | None = None, who: str = "fit"
) -> bool:
    """Whether inputs of this shape get fully connected networks, which are far cheaper where inputs are small.

    Args:
        spec: the shape.
        network: ``"dense"``, ``"convolutional"``, ``"residual"``, which are convolutions too, or ``"auto"``, which
            goes by the shape.
        up_to: number of values of the largest images that ``"auto"`` gives them; 0 gives every image convolutions.
        channels: the most that the convolutions take; None for any number.
        who: named by the error.

    Raises:
        UnsupportedError: convolutions for what is no image, too small a one, or one of too many channels.
    """
    image = spec.is_image and min(spec.shape[1:]) >= _SMALLEST and (channels is None or spec.shape[0] <= channels)
    if network in ("convolutional", "residual") and not image:
        some = "" if channels is None else f"1 to {channels} channels and "
        raise UnsupportedError(
            f"{who}: convolutions need images",
            given=f"shape {spec.shape}",
            allowed=f"(C, H, W) with {some}sides of at least {_SMALLEST} pixels",
            do="set network='dense'",
        )
    return network == "dense" or not image or (network == "auto" and math.prod(spec.shape) <= up_to)


class GaussianEncoder(nn.Module):
    """Inputs to mean and log variance of a Gaussian over codes.

    Args:
        spec: shape and range of the inputs.
        code: width d of the code.
        hidden: width of the hidden layers of a fully connected network.
        width: channels of a convolutional one.
        dense: which of the two.
        residual: convolutions are residual blocks.
    """

    low: Tensor
    span: Tensor
    trunk: nn.Module

    def __init__(self, spec: Spec, code: int, hidden: int, width: int, dense: bool, residual: bool = False) -> None:
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
            self.trunk = (ResidualEncoder if residual else ImageEncoder)(spec, 2 * code, width)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Map inputs ``(N, *S)`` to mean and log variance, ``(N, d)`` each."""
        # The convolutional trunk scales to [-1, 1] by itself.
        scaled = 2 * (inputs - self.low) / self.span - 1 if self.dense else inputs
        mean, log_variance = self.trunk(scaled).chunk(2, 1)
        return mean, log_variance.clamp(*_LOG_VARIANCE)


class CodeDecoder(nn.Module):
    """Codes to inputs within the data's range; arguments as for :class:`GaussianEncoder`."""

    low: Tensor
    span: Tensor
    trunk: nn.Module

    def __init__(self, spec: Spec, code: int, hidden: int, width: int, dense: bool, residual: bool = False) -> None:
        super().__init__()
        self.register_buffer("low", spec.per_channel("minimum"), persistent=False)
        # Without variation there is nothing to decode: a constant channel stays at its value.
        span = spec.per_channel("maximum") - spec.per_channel("minimum")
        self.register_buffer("span", span, persistent=False)
        self.shape, self.conditioned = spec.shape, not dense and not residual
        if dense:
            self.trunk = nn.Sequential(
                nn.Linear(code, hidden),
                nn.GELU(),
                nn.Linear(hidden, hidden),
                nn.GELU(),
                nn.Linear(hidden, math.prod(spec.shape)),
            )
        elif residual:
            self.trunk = ResidualDecoder(spec, code, width)
        else:
            self.trunk = ImageDecoder(spec, code, code, width)

    def forward(self, codes: Tensor) -> Tensor:
        """Map codes ``(N, d)`` to inputs ``(N, *S)``."""
        raw = self.trunk(codes, codes) if self.conditioned else self.trunk(codes)
        return self.low + self.span * raw.view(-1, *self.shape).sigmoid()
