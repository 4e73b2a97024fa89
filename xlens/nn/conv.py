"""Convolutional encoder and decoder for images of any size, channels and aspect ratio."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xlens.contracts.backend import Spec

__all__ = ["ImageDecoder", "ImageEncoder", "Layout"]

#: Images with a longer side are entered, and left, with strided convolutions.
_LARGEST_GRID = 40
#: Grids with a shorter side are halved once, all others twice.
_SMALLEST_TWICE = 14


class Layout:
    """How an image is divided: an entry stride, then one or two halvings down to the inner grid.

    Args:
        shape: ``(C, H, W)``.

    >>> from xlens.nn import Layout
    >>> layout = Layout((1, 28, 28))
    >>> layout.stride, layout.levels, layout.grid, layout.padding
    (1, 2, (7, 7), (0, 0))
    >>> Layout((3, 100, 64)).grid
    (7, 4)
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.channels, height, width = shape
        longest, shortest = max(height, width), min(height, width)
        self.stride = 2 ** math.ceil(math.log2(longest / _LARGEST_GRID)) if longest > _LARGEST_GRID else 1
        self.levels = 2 if shortest / self.stride >= _SMALLEST_TWICE else 1
        cell = self.stride * 2**self.levels
        self.grid = (math.ceil(height / cell), math.ceil(width / cell))
        self.padding = (self.grid[0] * cell - height, self.grid[1] * cell - width)

    def entry(self, width: int) -> nn.Conv2d:
        """Return the convolution that takes an image in, at the entry stride."""
        if self.stride == 1:
            return nn.Conv2d(self.channels, width, 3, padding=1)
        return nn.Conv2d(self.channels, width, 2 * self.stride, self.stride, self.stride // 2)

    def pad(self, images: Tensor) -> Tensor:
        """Repeat the last row and column until the grid divides the image."""
        if not any(self.padding):
            return images
        return F.pad(images, (0, self.padding[1], 0, self.padding[0]), mode="replicate")


class ImageEncoder(nn.Module):
    """Strided convolutions, then a hidden layer: images to vectors.

    Args:
        spec: shape and range of the images.
        out_features: width of the result.
        width: channels at the first halving; doubled at the second.
    """

    low: Tensor
    span: Tensor

    def __init__(self, spec: Spec, out_features: int, width: int = 24) -> None:
        super().__init__()
        self.layout = Layout(spec.shape)
        self.register_buffer("low", spec.per_channel("minimum"), persistent=False)
        self.register_buffer("span", spec.span(), persistent=False)
        channels = max(width // 2, 4)
        layers: list[nn.Module] = [self.layout.entry(channels), nn.LeakyReLU(0.2)]
        for level in range(self.layout.levels):
            wider = width * 2**level
            layers += [nn.Conv2d(channels, wider, 4, 2, 1), nn.LeakyReLU(0.2)]
            channels = wider
        layers += [nn.Conv2d(channels, 2 * channels, 3, padding=1), nn.LeakyReLU(0.2), nn.Flatten()]
        self.convolutions = nn.Sequential(*layers)
        self.hidden = nn.Linear(2 * channels * math.prod(self.layout.grid), 256)
        self.out = nn.Linear(256, out_features)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map images ``(N, C, H, W)`` to ``(N, out_features)``."""
        scaled = 2 * (inputs - self.low) / self.span - 1
        hidden = self.hidden(self.convolutions(self.layout.pad(scaled)))
        return self.out(F.leaky_relu(hidden, 0.2))


class ImageDecoder(nn.Module):
    """Convolutions between bilinear doublings, modulated at every scale by a condition.

    The condition enters as the input does, and as a scale and shift of every channel at every
    resolution (FiLM), so that a few of its numbers can change small things anywhere.

    Args:
        spec: shape and range of the images.
        in_features: width of the vectors to decode.
        condition: width of the condition.
        width: channels at the finest resolution.

    References:
        Perez et al. (2018), FiLM: Visual Reasoning with a General Conditioning Layer.
    """

    def __init__(self, spec: Spec, in_features: int, condition: int, width: int = 24) -> None:
        super().__init__()
        self.layout = layout = Layout(spec.shape)
        self.shape = spec.shape
        channels = width * 2**layout.levels
        self.first = nn.Linear(in_features + condition, channels * math.prod(layout.grid))
        self.modulations = nn.ModuleList([nn.Linear(condition, 2 * channels)])
        self.residuals = nn.ModuleList([nn.Conv2d(channels, channels, 3, padding=1)])
        self.narrowings = nn.ModuleList()
        for _ in range(layout.levels):
            self.narrowings.append(nn.Conv2d(channels, channels // 2, 1))
            channels //= 2
            self.modulations.append(nn.Linear(condition, 2 * channels))
            self.residuals.append(nn.Conv2d(channels, channels, 3, padding=1))
        # Strided images leave as they were entered, a cell of pixels at a time.
        self.out = nn.Conv2d(channels, layout.channels * layout.stride**2, 3, padding=1)
        for modulation in self.modulations:
            _begin(modulation, 0.05)
        _begin(self.out, 0.01)

    def forward(self, vectors: Tensor, condition: Tensor) -> Tensor:
        """Map ``(N, in_features)`` and ``(N, condition)`` to unbounded images ``(N, C, H, W)``."""
        hidden = self.first(torch.cat([vectors, condition], 1))
        hidden = hidden.view(len(vectors), -1, *self.layout.grid)
        for level, (modulation, residual) in enumerate(zip(self.modulations, self.residuals, strict=True)):
            if level:
                hidden = _double(self.narrowings[level - 1](hidden))
            scale, shift = modulation(condition)[:, :, None, None].chunk(2, 1)
            hidden = F.leaky_relu(hidden * (1 + scale) + shift, 0.2)
            hidden = hidden + F.leaky_relu(residual(hidden), 0.2)
        images = F.pixel_shuffle(self.out(hidden), self.layout.stride)
        return images[..., : self.shape[1], : self.shape[2]]


def _double(values: Tensor) -> Tensor:
    # Interpolation and not transposed convolution, which leaves dots.
    return F.interpolate(values, scale_factor=2, mode="bilinear", align_corners=False)


def _begin(layer: nn.Module, spread: float) -> None:
    """Draw a layer's weights, and leave its biases at zero."""
    for name, parameter in layer.named_parameters():
        if name == "weight":
            nn.init.normal_(parameter, 0, spread)
        else:
            nn.init.zeros_(parameter)
