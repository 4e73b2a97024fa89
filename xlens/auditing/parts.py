"""Parts of an edit as rows of numbers: where, what before and after, and how much of the score each carried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from xlens.auditing.evidence import Evidence
from xlens.auditing.filling import continued
from xlens.auditing.slopes import slopes
from xlens.classifier.margins import score_margin
from xlens.classifier.pieces import in_pieces
from xlens.errors import UnsupportedError
from xlens.fitted import Fitted

__all__ = ["Parts", "parts_of"]

#: Parts of one edit, at most, and the least share of the score's change that one has to carry.
_MOST, _LEAST = 4, 0.1
#: Midpoints of the straight line from the edit to the input, by which the score's change is shared out.
_STEPS = 6
#: Differences whose energy says how much texture there is, in four directions.
_EDGES = (
    ((0, 0, 0), (-1, 0, 1), (0, 0, 0)),
    ((0, -1, 0), (0, 0, 0), (0, 1, 0)),
    ((-1, 0, 0), (0, 0, 0), (0, 0, 1)),
    ((0, 0, -1), (0, 0, 0), (1, 0, 0)),
)
#: The box of a part is so much longer than the part, so that its surroundings are in it.
_AROUND = 1.2


@dataclass(frozen=True)
class Parts:
    """M parts of edits, as columns; every field is an array with M rows.

    Args:
        input: position of the input in the data.
        target, contrast, label: classes; `label` is -1 where it is not known.
        place: ``(M, 2)`` row and column of the centre, from 0 to 1.
        spread: root mean square distance from the centre, as share of the side.
        area: share of the image.
        box: ``(M, 4)`` top, left, bottom and right of the part and some of its surroundings, from 0 to 1.
        share: of the score's change, by integrated gradients along the straight line from the edit.
        drop: by how much the score falls when this part alone is filled.
        before, after: the classifier's probability of `target` on the input, and with this part alone filled.
        decision: the class decided for with this part alone filled.
        outside: share of the part outside of the object; NaN where no masks are given.
        drop_outside: by how much the score falls when only what lies outside of the object is filled, from what
            lies outside; NaN where no masks are given.
        look, look_after: ``(M, D)`` mean and deviation of each channel, and energy of edges in four directions.
        by_lens: whether the lens's counterfactual or filled windows showed it.
    """

    input: np.ndarray
    target: np.ndarray
    contrast: np.ndarray
    label: np.ndarray
    place: np.ndarray
    spread: np.ndarray
    area: np.ndarray
    box: np.ndarray
    share: np.ndarray
    drop: np.ndarray
    before: np.ndarray
    after: np.ndarray
    decision: np.ndarray
    outside: np.ndarray
    drop_outside: np.ndarray
    look: np.ndarray
    look_after: np.ndarray
    by_lens: np.ndarray

    def __len__(self) -> int:
        """Return the number of parts."""
        return len(self.input)

    @property
    def channels(self) -> int:
        """Number of channels of the images."""
        return int(self.look.shape[1] - len(_EDGES)) // 2

    @property
    def flips(self) -> np.ndarray:
        """Whether filling a part alone changes the decision."""
        return self.decision != self.target

    def __getitem__(self, rows: np.ndarray) -> Parts:
        """Return some of the parts."""
        return Parts(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    @staticmethod
    def joined(batches: list[Parts]) -> Parts:
        """Return the parts of several batches."""
        return Parts(**{f.name: np.concatenate([getattr(one, f.name) for one in batches]) for f in fields(Parts)})


def parts_of(
    fitted: Fitted,
    inputs: Tensor,
    target: Tensor,
    contrast: Tensor,
    found: Evidence,
    *,
    logits: Tensor,
    index: Tensor,
    labels: Tensor | None,
    objects: Tensor | None,
) -> Parts:
    """Return the parts of a batch's edits, within ``fitted.asking()``.

    Args:
        fitted: classifier and lens.
        inputs: ``(N, C, H, W)`` on the lens's device.
        target, contrast: ``(N,)``.
        found: what had to change.
        logits: ``(N, K)`` of the inputs.
        index, labels: ``(N,)`` position in the data, and true class where known.
        objects: ``(N, H, W)`` bool, where the object is, or None.
    """
    named = [ndimage.label(mask, structure=np.ones((3, 3))) for mask in found.mask.cpu().numpy()]
    several = torch.tensor([number > 1 for _, number in named], device=inputs.device)
    # What one part carries alone is all of the change, by completeness: only of several it has to be shared out.
    credit = found.mask.to(inputs.dtype)
    if bool(several.any()):
        asked = (each[several] for each in (inputs, target, contrast, found.filled))
        credit[several] = _shared_out(fitted, *asked)
    masks, owner, share = _cut(inputs, named, credit)
    alone = torch.where(masks[:, None], found.filled[owner], inputs[owner])
    after = in_pieces(fitted.classifier, alone) if len(alone) else logits[owner]
    fall = score_margin(logits[owner], target[owner], contrast[owner]) - score_margin(
        after, target[owner], contrast[owner]
    )
    # And that has to be a fall.
    carries = several[owner] | (fall > 0)
    masks, owner, share, alone, after, fall = (each[carries] for each in (masks, owner, share, alone, after, fall))
    own, t, c, before = inputs[owner], target[owner], contrast[owner], logits[owner]
    low, high = fitted.limits(inputs)
    unit, unit_after = ((x - low) / (high - low).clamp_min(1e-6) for x in (own, alone))
    place, spread, box = _where(masks)
    outside, drop_outside = torch.full((2, len(masks)), float("nan"))
    if objects is not None:
        beside = masks & ~objects[owner]
        outside = beside.flatten(1).sum(1) / masks.flatten(1).sum(1)
        # What stands around an object's rim is no evidence of its own: filled as its own surroundings go on, the
        # object stays as it is.
        without = continued(own, beside[:, None], (~objects[owner])[:, None].to(own.dtype))
        rest = in_pieces(fitted.classifier, without) if len(without) else before
        drop_outside = score_margin(before, t, c) - score_margin(rest, t, c)
    columns = {
        "input": index.to(owner.device)[owner],
        "target": t,
        "contrast": c,
        "label": torch.full_like(t, -1) if labels is None else labels.to(owner.device)[owner],
        "place": place,
        "spread": spread,
        "area": masks.float().flatten(1).mean(1),
        "box": box,
        "share": share,
        "drop": fall,
        "before": _probability(fitted, before, t),
        "after": _probability(fitted, after, t),
        "decision": after.argmax(1),
        "outside": outside,
        "drop_outside": drop_outside,
        "look": _look(unit, masks),
        "look_after": _look(unit_after, masks),
        "by_lens": found.by_lens[owner],
    }
    return Parts(**{name: value.cpu().numpy() for name, value in columns.items()})


def _shared_out(fitted: Fitted, inputs: Tensor, target: Tensor, contrast: Tensor, filled: Tensor) -> Tensor:
    """Return integrated gradients of the score from the edit to the input, summed over channels, ``(N, H, W)``."""
    total = torch.zeros_like(inputs)
    for step in range(_STEPS):
        slope = slopes(fitted, filled + (step + 0.5) / _STEPS * (inputs - filled), target, contrast)
        if slope is None:
            raise UnsupportedError(
                "audit: an edit has several parts, and what each carries takes a gradient",
                given="a classifier without a gradient at its inputs",
                do="audit around the model itself, without detach, round or torch.no_grad in its forward",
            )
        total += slope
    return (total / _STEPS * (inputs - filled)).sum(1)


def _cut(
    inputs: Tensor, labelled: Sequence[tuple[np.ndarray, int]], credit: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the connected parts that carry anything: masks ``(M, H, W)``, whose, and their shares ``(M,)``."""
    masks, owner, shares = [], [], []
    for i, (named, number) in enumerate(labelled):
        if not number:
            continue
        earned = ndimage.sum_labels(credit[i].cpu().numpy(), named, range(1, number + 1))
        whole = max(float(np.clip(earned, 0, None).sum()), 1e-9)
        order = np.argsort(-earned)[:_MOST]
        for part in order[earned[order] >= _LEAST * whole]:
            masks.append(torch.from_numpy(named == part + 1))
            owner.append(i)
            shares.append(float(earned[part]) / whole)
    device = inputs.device
    stacked = torch.stack(masks) if masks else torch.zeros(0, *inputs.shape[2:], dtype=torch.bool)
    return (
        stacked.to(device),
        torch.tensor(owner, dtype=torch.long, device=device),
        torch.tensor(shares, device=device),
    )


def _where(masks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return centre ``(M, 2)``, spread ``(M,)`` and the box around each mask ``(M, 4)``, as shares of the side."""
    height, width = masks.shape[1:]
    weight = masks.float()
    total = weight.flatten(1).sum(1).clamp_min(1)
    rows = (torch.arange(height, device=masks.device) + 0.5) / height
    columns = (torch.arange(width, device=masks.device) + 0.5) / width
    row = (weight.sum(2) * rows).sum(1) / total
    column = (weight.sum(1) * columns).sum(1) / total
    variance = (weight.sum(2) * (rows - row[:, None]) ** 2).sum(1) + (
        weight.sum(1) * (columns - column[:, None]) ** 2
    ).sum(1)
    half = []
    for line, side in ((masks.any(2), height), (masks.any(1), width)):
        half.append(line.float().sum(1) / side / 2 * _AROUND)
    # Square in pixels would leave the image at its rim; the centre counts, and what is outside repeats the rim.
    box = torch.stack([row - half[0], column - half[1], row + half[0], column + half[1]], 1)
    return torch.stack([row, column], 1), (variance / total).sqrt(), box


def _look(unit: Tensor, masks: Tensor) -> Tensor:
    """Return what stands under each mask, ``(M, 2 C + 4)``, in a space that no classifier was asked about."""
    weight = masks[:, None].float()
    total = weight.sum((2, 3)).clamp_min(1)
    mean = (unit * weight).sum((2, 3)) / total
    spread = (((unit - mean[:, :, None, None]) ** 2 * weight).sum((2, 3)) / total).sqrt()
    grey = F.pad(unit.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    kernels = torch.tensor(_EDGES, dtype=unit.dtype, device=unit.device)
    edges = (F.conv2d(grey, kernels[:, None]).abs() * weight).sum((2, 3)) / total
    return torch.cat([mean, spread, edges], 1)


def _probability(fitted: Fitted, logits: Tensor, classes: Tensor) -> Tensor:
    return logits.softmax(1).gather(1, classes[:, None])[:, 0] if len(classes) else logits.new_zeros(0)
