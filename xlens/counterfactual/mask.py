"""The mask: where a lens's change is carried onto the real input."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xlens.attr.curve import broadcast
from xlens.classifier.classifier import Classifier
from xlens.classifier.margins import margin_over_rest
from xlens.classifier.taps import FeatureMaps
from xlens.counterfactual.carry import carried, clamped
from xlens.nn.search import smallest_step

__all__ = ["EditMask", "mask_that_flips"]

#: Above this many pixels a side the network works on a coarser grid, and its mask is upsampled.
_GRID = 24
#: Shifts of the mask's logits that are tried, and halvings of the interval found.
_RUNGS, _HALVINGS = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0), 10


class EditMask(nn.Module):
    """A small network that says where, when the lens has said what.

    It sees the input, its reconstruction, its counterfactual's decoding, their differences, the classifier's own
    feature maps and the contrast class, and returns the logits of a mask. The edited input is
    x' = x + m (G(z0) - x).

    Args:
        classifier: the frozen classifier.
        channels: channels C of the images.
        num_classes: classes K.
        probe: ``(N, C, H, W)`` inputs from which the statistics of the classifier's features are taken.
        width: channels of the network.
        measured: take these statistics, which a saved state would bring.
        known: names and widths of the classifier's maps, where they need not be found.
    """

    log_lambda: Tensor
    area: Tensor
    reach: Tensor

    def __init__(
        self,
        classifier: Classifier,
        channels: int,
        num_classes: int,
        probe: Tensor,
        width: int = 24,
        *,
        measured: bool = True,
        known: Sequence[tuple[str, int]] | None = None,
    ) -> None:
        super().__init__()
        self.maps = FeatureMaps(classifier, probe, measured=measured, known=known)
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
        nn.init.constant_(cast(Tensor, self.exit.bias), -2.0)
        with torch.no_grad():
            for weight in self.projections.parameters():
                weight.mul_(0.5)

    def forward(
        self,
        inputs: Tensor,
        reconstruction: Tensor,
        decoded: Tensor,
        contrast: Tensor,
        maps: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """Return the mask's logits ``(N, 1, H, W)``.

        Args:
            inputs, reconstruction, decoded: ``(N, C, H, W)`` x, G(z) and G(z0).
            contrast: ``(N,)`` class of G(z0).
            maps: what :meth:`coarse_maps` gave for the inputs, where it is kept; None asks the classifier.
        """
        change, shift = (decoded - inputs).abs(), (decoded - reconstruction).abs()
        stacked = torch.cat([inputs, reconstruction, decoded, change, shift], 1)
        size = stacked.shape[2:]
        coarse = _coarse(size)
        if coarse > 1:
            stacked = F.avg_pool2d(stacked, coarse, ceil_mode=True)
        hidden = self.entry(stacked)
        for projection, values in zip(self.projections, self.maps(inputs) if maps is None else maps, strict=True):
            hidden = hidden + _resize(projection(values), hidden.shape[2:])
        scale, shift_by = self.modulation(contrast)[:, :, None, None].chunk(2, 1)
        hidden = hidden * (1 + scale) + shift_by
        logits = self.exit(F.relu(hidden + self.residual(hidden)))
        own = contrast[:, None, None, None].expand(-1, 1, *logits.shape[2:])
        return _resize(logits.gather(1, own), size)

    def coarse_maps(self, inputs: Tensor) -> list[Tensor]:
        """Return the classifier's feature maps of inputs ``(N, C, H, W)`` on the grid on which the network works.

        What the network makes of a map is the same before and after it is resized, but for rounding.
        """
        coarse = _coarse(inputs.shape[2:])
        size = torch.Size(-(-side // coarse) for side in inputs.shape[2:])
        return [_resize(values, size) for values in self.maps(inputs)]


def _coarse(size: torch.Size) -> int:
    """Return how many pixels of a side become one of the grid on which the network works."""
    return math.ceil(max(size) / _GRID)


def _resize(values: Tensor, size: torch.Size) -> Tensor:
    if values.shape[2:] == size:
        return values
    return F.interpolate(values, size, mode="bilinear", align_corners=False)


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
) -> Tensor:
    """Return the mask ``(N, 1, H, W)``, opened where needed by the smallest shift of its logits that flips.

    Inputs that no shift flips keep the mask as the network gave it.

    Args:
        mask: the fitted network.
        classifier: the frozen classifier.
        inputs, reconstruction, decoded: ``(N, C, H, W)`` x, G(z), G(z0).
        contrast: ``(N,)`` class that the classifier should predict.
        low, high: range of the data.
    """
    logits = mask(inputs, reconstruction, decoded, contrast)

    def margin(rows: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        opened = (logits[rows] + broadcast(shift, logits)).sigmoid()
        edited = carried("masked", inputs[rows], reconstruction[rows], decoded[rows], opened)
        found = margin_over_rest(classifier(clamped(edited, inputs[rows], low, high)), contrast[rows])
        return found, found > 0

    shift, flips = smallest_step(margin, len(inputs), _RUNGS, _HALVINGS, inputs.device)
    return (logits + broadcast(torch.where(flips, shift, torch.zeros_like(shift)), logits)).sigmoid()
