"""Local evidence of a batch: where filling an input costs the score, by the lens, and else by windows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from xlens.auditing.windows import of_windows
from xlens.classifier.pieces import in_pieces, piece
from xlens.counterfactual.carry import default_carry
from xlens.explaining.asking import asks
from xlens.fitted import Fitted

__all__ = ["SEARCHES", "Evidence", "evidence_of"]

#: By what evidence is found: the lens, filled windows, or these where the lens finds nothing.
SEARCHES = ("both", "lens", "windows")

#: Where an edit without a mask changes less than this share of what it changes most, nothing had to change.
_CHANGED = 0.25


@dataclass(frozen=True)
class Evidence:
    """What had to change in a batch.

    Args:
        filled: ``(N, C, H, W)`` the inputs with their evidence taken away.
        mask: ``(N, H, W)`` bool, where; empty where nothing local was found.
        by_lens: ``(N,)`` whether the lens's own counterfactual changed the decision; else windows were filled.
    """

    filled: Tensor
    mask: Tensor
    by_lens: Tensor


def evidence_of(
    fitted: Fitted, inputs: Tensor, target: Tensor, contrast: Tensor, search: str, logits: Tensor | None = None
) -> Evidence:
    """Return what had to change in inputs ``(N, C, H, W)``, within ``fitted.asking()``.

    Args:
        fitted: classifier and lens.
        inputs: on the lens's device.
        target, contrast: ``(N,)``.
        search: ``"lens"``, ``"windows"``, or ``"both"``: the lens's, and windows where it finds nothing.
        logits: ``(N, K)`` of the inputs, where they are known.
    """
    nothing = torch.zeros_like(inputs[:, 0], dtype=torch.bool)
    by_lens = torch.zeros(len(inputs), dtype=torch.bool, device=inputs.device)
    filled, mask = inputs, nothing
    if search != "windows":
        filled, mask = _of_lens(fitted, inputs, target, contrast)
        by_lens = mask.flatten(1).any(1)
        if bool(by_lens.any()):
            by_lens[by_lens.clone()] = in_pieces(fitted.classifier, filled[by_lens]).argmax(1) == contrast[by_lens]
        filled = torch.where(by_lens[:, None, None, None], filled, inputs)
        mask = mask & by_lens[:, None, None]
    if search != "lens" and bool((rest := ~by_lens).any()):
        known = None if logits is None else logits[rest]
        found, where = of_windows(fitted, inputs[rest], target[rest], contrast[rest], logits=known)
        filled, mask = filled.clone(), mask.clone()
        filled[rest], mask[rest] = found, where
    return Evidence(filled, mask, by_lens)


def _of_lens(fitted: Fitted, inputs: Tensor, target: Tensor, contrast: Tensor) -> tuple[Tensor, Tensor]:
    lens, size = asks(fitted), piece(inputs)
    found = []
    for part, t, c in zip(inputs.split(size), target.split(size), contrast.split(size), strict=True):
        edit = lens.carry(part, t, c, default_carry(lens.masked))
        changed = (edit.start - part).abs().sum(1)
        most = changed.flatten(1).amax(1)[:, None, None]
        where = (changed > _CHANGED * most) & (most > 0)
        if edit.mask is not None:
            where = (edit.mask[:, 0] > 0.5) & (changed > 0)
        found.append((edit.start, where))
    starts, places = zip(*found, strict=True)
    return torch.cat(starts), torch.cat(places)
