"""Stability: the edit's effect on the score has to outlast changes that no classifier should mind."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from xlens.classifier.margins import score_margin
from xlens.counterfactual.edit import Edit
from xlens.explaining.asking import Asks

__all__ = ["effect_kept"]

#: Images with a smaller side are changed too much by a blur or a shift of one pixel.
_SMALLEST = 16
#: Images are shifted by this share of their smaller side, and by a pixel at least.
_SHIFT = 1 / 56
#: Binomial blur: the mildest that there is.
_BLUR = (0.25, 0.5, 0.25)


def effect_kept(lens: Asks, edit: Edit, target: Tensor, contrast: Tensor, whole: Tensor) -> Tensor | None:
    """Return the share of the edit's effect that is left when input and counterfactual are changed alike, ``(N,)``.

    With s the score, target against contrast, the effect is s(x) - s(x'), and what is left of it under a change T
    is (s(Tx) - s(Tx')) / (s(x) - s(x')): the least over a mild blur and shifts to four sides. The classifier may
    mind T; an edit that is evidence to it goes on making the same difference, and an adversarial one does not
    (Xu et al., 2018, Feature Squeezing; Guo et al., 2018, Countering Adversarial Images using Input
    Transformations).

    Args:
        lens: asks the lens.
        edit: what is judged.
        target, contrast: ``(N,)``.
        whole: ``(N,)`` the effect s(x) - s(x').

    Returns:
        the share, 0 where the edit has no effect; None where inputs are no images or too small, or where real
        inputs stand for the counterfactual.
    """
    inputs = edit.inputs
    if inputs.dim() != 4 or min(inputs.shape[2:]) < _SMALLEST or lens.shows_real_inputs:
        return None
    classify = lens.fitted.classifier

    def effect(before: Tensor, after: Tensor) -> Tensor:
        return score_margin(classify(before), target, contrast) - score_margin(classify(after), target, contrast)

    pairs = zip(_changed(inputs), _changed(edit.start), strict=True)
    left = torch.stack([effect(before, after) for before, after in pairs]).amin(0)
    return torch.where(whole > 0, left / whole.clamp_min(1e-12), 0 * whole)


def _changed(images: Tensor) -> Iterator[Tensor]:
    """Yield images ``(N, C, H, W)`` blurred a little, and shifted to each side; edges are repeated."""
    channels = images.shape[1]
    line = torch.tensor(_BLUR, dtype=images.dtype, device=images.device)
    kernel = (line[:, None] * line).expand(channels, 1, -1, -1)
    yield F.conv2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), kernel, groups=channels)
    height, width = images.shape[2:]
    by = max(1, round(_SHIFT * min(height, width)))
    wide = F.pad(images, (by, by, by, by), mode="replicate")
    for down, across in ((0, by), (2 * by, by), (by, 0), (by, 2 * by)):
        yield wide[:, :, down : down + height, across : across + width]
