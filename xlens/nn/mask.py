"""The mask: where a lens's change is carried onto the real input."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xlens.classifier import Classifier
from xlens.nn.features import FeatureMaps, margin_over_rest

__all__ = ["EditMask"]

#: Above this many pixels a side the network works on a coarser grid, and its mask is upsampled.
_GRID = 24
_LARGEST_SHIFT = 16.0


class EditMask(nn.Module):
    """A small network that says where, when the lens has said what.

    It sees the input, its reconstruction, its counterfactual's decoding, their differences, f's own
    feature maps and the contrast class, and returns the logits of a mask. The edited input is
    x' = x + m (G(z0) - x).

    Args:
        classifier: the frozen classifier.
        channels: channels C of the images.
        num_classes: classes K.
        probe: ``(N, C, H, W)`` inputs from which the statistics of f's features are taken.
        width: channels of the network.
    """

    def __init__(
        self, classifier: Classifier, channels: int, num_classes: int, probe: Tensor, width: int = 24
    ) -> None:
        super().__init__()
        self.maps = FeatureMaps(classifier, probe)
        # The weight of flipping against area, per contrast class, moved by its own dual step while the
        # mask is fitted: one class may be hard to reach, and would open the mask for the others.
        self.register_buffer("log_lambda", torch.zeros(num_classes))
        # The area that it takes to flip each class, and the share of the wanted margin that counts as flipped.
        self.register_buffer("area", torch.zeros(num_classes))
        self.register_buffer("reach", torch.zeros(num_classes))
        # A scale and shift of the hidden channels for each contrast class.
        self.modulation = nn.Embedding(num_classes, 2 * width)
        nn.init.zeros_(self.modulation.weight)
        self.entry = nn.Conv2d(5 * channels, width, 3, padding=1)
        self.projections = nn.ModuleList(nn.Conv2d(w, width, 1, bias=False) for w in self.maps.widths)
        self.residual = nn.Sequential(
            nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1)
        )
        # One read-out per contrast class, so that what one class needs does not blur another's.
        self.exit = nn.Conv2d(width, num_classes, 3, padding=1)
        nn.init.normal_(self.exit.weight, 0, 0.01)
        nn.init.constant_(self.exit.bias, -2.0)
        with torch.no_grad():
            for projection in self.projections:
                projection.weight.mul_(0.5)

    def forward(self, inputs: Tensor, reconstruction: Tensor, decoded: Tensor, contrast: Tensor) -> Tensor:
        """Return the mask's logits ``(N, 1, H, W)``.

        Args:
            inputs, reconstruction, decoded: ``(N, C, H, W)`` x, G(z) and G(z0).
            contrast: ``(N,)`` class of G(z0).
        """
        change, shift = (decoded - inputs).abs(), (decoded - reconstruction).abs()
        stacked = torch.cat([inputs, reconstruction, decoded, change, shift], 1)
        size = stacked.shape[2:]
        coarse = math.ceil(max(size) / _GRID)
        if coarse > 1:
            stacked = F.avg_pool2d(stacked, coarse, ceil_mode=True)
        hidden = self.entry(stacked)
        for projection, values in zip(self.projections, self.maps(inputs), strict=True):
            hidden = hidden + _resize(projection(values), hidden.shape[2:])
        scale, shift_by = self.modulation(contrast)[:, :, None, None].chunk(2, 1)
        hidden = hidden * (1 + scale) + shift_by
        logits = self.exit(F.relu(hidden + self.residual(hidden)))
        own = contrast[:, None, None, None].expand(-1, 1, *logits.shape[2:])
        return _resize(logits.gather(1, own), size)


def carried(inputs: Tensor, decoded: Tensor, logits: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Return x' = x + m (G(z0) - x), clamped to the range of the data or of the input."""
    return clamped(inputs + logits.sigmoid() * (decoded - inputs), inputs, low, high)


def clamped(edited: Tensor, inputs: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Clamp edited inputs ``(N, *S)`` to the range of the data, or of the input where that is wider."""
    return torch.maximum(torch.minimum(edited, torch.maximum(high, inputs)), torch.minimum(low, inputs))


@torch.no_grad()
def mask_that_flips(
    mask: EditMask,
    classifier: Classifier,
    inputs: Tensor,
    reconstruction: Tensor,
    decoded: Tensor,
    contrast: Tensor,
    low: Tensor,
    high: Tensor,
    whole: Tensor | None = None,
) -> Tensor:
    """Return the mask ``(N, 1, H, W)``, opened where needed by the smallest shift that flips f.

    Inputs that no shift flips keep the mask as the network gave it.

    Args:
        mask: the fitted network.
        classifier: the frozen classifier.
        inputs, reconstruction, decoded: ``(N, C, H, W)`` x, G(z), G(z0).
        contrast: ``(N,)`` class that f should predict.
        low, high: range of the data.
        whole: ``(N, C, H, W)`` what an open mask shows; G(z0) where None.
    """
    whole = decoded if whole is None else whole
    logits = mask(inputs, reconstruction, decoded, contrast)

    def flips(rows: Tensor, shift: Tensor) -> Tensor:
        shifted = logits[rows] + shift.view(-1, *([1] * (logits.dim() - 1)))
        edited = carried(inputs[rows], whole[rows], shifted, low, high)
        return margin_over_rest(classifier(edited), contrast[rows]) > 0

    rows = torch.arange(len(inputs), device=inputs.device)
    rows = rows[~flips(rows, torch.zeros(len(rows), device=inputs.device))]
    if len(rows):
        # A coarse ladder first, because the margin need not grow with the mask; then bisection.
        lower, upper = torch.zeros_like(rows, dtype=logits.dtype), torch.zeros_like(rows, dtype=logits.dtype)
        found = torch.zeros_like(rows, dtype=torch.bool)
        for rung in (1.0, 2.0, 4.0, 8.0, _LARGEST_SHIFT):
            here = flips(rows, torch.full_like(lower, rung)) & ~found
            upper = torch.where(here, rung, upper)
            lower = torch.where(found | here, lower, torch.full_like(lower, rung))
            found = found | here
        for _ in range(10):
            middle = (lower + upper) / 2
            here = flips(rows, middle)
            upper, lower = torch.where(here, middle, upper), torch.where(here, lower, middle)
        shift = torch.where(found, upper, torch.zeros_like(upper))
        logits[rows] += shift.view(-1, *([1] * (logits.dim() - 1)))
    return logits.sigmoid()


def _resize(values: Tensor, size: torch.Size) -> Tensor:
    if values.shape[2:] == size:
        return values
    return F.interpolate(values, size, mode="bilinear", align_corners=False)
