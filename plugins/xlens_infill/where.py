"""Mask search: the classifier chooses among nested masks that a survey of small patches proposes.

``survey`` draws, for each input, a map of what looks like the classifier's positives and never like its negatives;
cut at several levels it gives nested masks, each of which takes every spot that looks alike, whole. Each mask is
filled by a function that never sees the classifier, the classifier looks at all of them in one batch, and the
smallest that convinces it wins. The parts it does not care about are then put back. This is infilling with a mask
from a proposal instead of one from optimisation, and a mask first, then content in it.

References:
    Chang et al. (2019), Explaining Image Classifiers by Counterfactual Generation (FIDO).
    Guo et al. (2026), MaskDiME: Adaptive Masked Diffusion for Precise and Efficient Visual Counterfactual
        Explanations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from xlens import Classifier
from xlens.nn import in_pieces, margin_over_rest, piece
from xlens_infill.tiles import Fill, Margin, Tiling, searched

Logits = Callable[[Tensor], Tensor]

GROW = 3  # pixels at 224 px: the rim of a spot is spot too, and a fill must not start from it
SMALLEST = 12  # pixels at 224 px: smaller specks are noise of the survey
_OFF = 1e-6  # what turns another label just so is short of the goal
#: What is said of an input where nothing was filled, and what was filled otherwise.
_SURVEYED = ("nothing in this input looks like evidence that the other class lacks", "all that looks like evidence")
_TILED = ("filling no tile of this input lifts the classifier's margin, to first order", "the tiles that help most")
STEPS = 2  # midpoints of the path on which parts are credited


@dataclass(frozen=True)
class Found:
    """One input's counterfactual: where, what, and what the classifier says of it."""

    mask: Tensor  # (1, H, W) bool
    parts: Tensor  # (1, H, W) long, 0 = untouched
    credit: Tensor  # (parts,) each part's share of the margin's rise
    filled: Tensor  # (C, H, W)
    margin: float  # what was to be lifted, after
    problem: str | None  # in words, why there is no local counterfactual


def find(
    margin: Margin,
    x: Tensor,
    evidence: Tensor,
    levels: list[float],
    fill: Fill,
    within: Tensor,
    *,
    goal: float,
    largest: float,
) -> Found:
    """Smallest mask for one input x (1, C, H, W) whose filling lifts the margin to ``goal``, else the best seen.

    Args:
        margin: what an edit has to lift, such as `margin_of`.
        x: (1, C, H, W).
        evidence: (1, 1, H, W), a map of what looks like the target's and never like the contrast's.
        levels: at which the map is cut, from the strictest.
        fill: fills a hole of an image from the pixels that a third argument allows.
        within: (1, 1, H, W) bool, the object.
        goal: margin of the contrast class over all others.
        largest: share of the object that an edit may take.
    """
    masks = nested(evidence, levels, within)
    doubtful = masks[-1:]  # what may be evidence is no source for a fill, even where a smaller mask leaves it alone
    # Untouched it is seen first, with as many masks as the classifier is asked about at once; larger ones are not
    # even filled where one of these is enough.
    untouched = torch.zeros_like(masks[:1])
    tried, seen = x[:0], x.new_zeros(0)
    for some in torch.cat([untouched, masks]).split(piece(x)):
        filled = [fill(x, m[None], (within & ~doubtful) | m) if bool(m.any()) else x for m in some]
        with torch.no_grad():
            seen = torch.cat([seen, margin(torch.cat(filled))])
        tried = torch.cat([tried, *filled])
        if bool((seen[1:] >= goal).any()):
            break
    level = choose(seen[1:], float(seen[0]), goal)
    mask, now = masks[level : level + 1], tried[level + 1 : level + 2]
    return settled(margin, x, mask, now, float(seen[level + 1]), within, goal, largest, _SURVEYED)


def find_by_tiles(
    margin: Margin,
    x: Tensor,
    fill: Fill,
    within: Tensor,
    *,
    goal: float,
    largest: float,
    cuts: tuple[list[Tiling], int] | None = None,
) -> Found:
    """The same as `find` without a map of evidence: tiles are filled, and the classifier is asked about them.

    `cuts` are the `tilings` of x by this fill, where they are known.
    """
    mask, filled, reached = searched(margin, x, fill, within, goal, largest, cuts)
    return settled(margin, x, mask, filled, reached, within, goal, largest, _TILED)


def margin_of(logits: Logits, contrast: int) -> Margin:
    """The logit of a class minus the highest other one, as a function of inputs."""

    def margin(points: Tensor) -> Tensor:
        return margin_over_rest(
            in_pieces(logits, points), torch.full((len(points),), contrast, device=points.device)
        )

    return margin


def margins_of(classifier: Classifier, x: Tensor, contrast: int, goal: float) -> list[Margin]:
    """What an edit of x (1, C, H, W) has to lift to the goal, the strictest first.

    Of a label among others that is first the margin of an edit that leaves the others decided as they are; what
    turns the label alone shows the label, and not what it is confused with.
    """
    plain, label = margin_of(classifier, contrast), classifier.label
    if label is None:
        return [plain]
    every = classifier.about(None)
    with torch.no_grad():
        present = every(x) > 0
    others = [k for k in range(present.shape[1]) if k != label]
    if not others:
        return [plain]

    def alone(points: Tensor) -> Tensor:
        logits = in_pieces(every, points)
        own = logits[:, label] if contrast else -logits[:, label]
        stay = ((logits > 0) == present)[:, others].all(1)
        kept = torch.where(present, logits, -logits)[:, others].amin(1)
        # Others need not reach the goal: it is enough that they stay on their side.
        return torch.where(stay, own, torch.minimum(own, kept + goal - _OFF))

    return [alone, plain]


def settled(
    margin: Margin,
    x: Tensor,
    mask: Tensor,
    filled: Tensor,
    reached: float,
    within: Tensor,
    goal: float,
    largest: float,
    said: tuple[str, str],
) -> Found:
    """What was found, in parts, without those that the classifier does not care about."""
    parts, number = label(mask)
    # One part alone carries all of it.
    credit = credits(margin, x, filled, parts, number) if number > 1 else x.new_ones(number)
    if number > 1 and bool((credit <= 0).any()):
        keep = torch.isin(parts, 1 + (credit > 0).nonzero()[:, 0])
        lighter = torch.where(keep, filled, x)
        with torch.no_grad():
            now = float(margin(lighter))
        if now >= reached or now >= goal:
            mask, filled, reached = keep, lighter, now
            parts, credit = relabel(parts, credit > 0), credit[credit > 0]
    problem = _problem(mask, within, reached, goal, largest, said)
    return Found(mask[0], parts[0], credit, filled[0], reached, problem)


def nearest_miss(failed: list[Found], goal: float) -> Found:
    """Of what is no counterfactual: the smallest that convinces, which is too large; else what comes nearest."""
    convincing = [found for found in failed if bool(found.mask.any()) and found.margin >= goal and found.margin > 0]
    if convincing:
        return min(convincing, key=lambda found: int(found.mask.sum()))
    return max(failed, key=lambda found: found.margin)


def _problem(
    mask: Tensor, within: Tensor, reached: float, goal: float, largest: float, said: tuple[str, str]
) -> str | None:
    area = float(mask.sum()) / max(1.0, float(within.sum()))
    if not area:
        why = (
            "the classifier does not decide for the class that was to go"
            if reached >= goal and reached > 0
            else said[0]
        )
        return f"no local counterfactual: {why}"
    if reached <= 0 or reached < goal:
        return (
            f"no local counterfactual: with {said[1]} filled, {area:.0%} of the object, the classifier's margin is "
            f"{reached:.2f}"
        )
    if area > largest:
        return f"no local counterfactual: it would take {area:.0%} of the object"
    return None


def nested(evidence: Tensor, levels: list[float], within: Tensor) -> Tensor:
    """(levels, 1, H, W): what exceeds each level, freed of specks, grown by a rim; each holds the one before."""
    unit = max(1e-6, min(evidence.shape[-2:]) / 224)
    inside = within[0, 0].cpu().numpy()
    out, before = [], np.zeros_like(inside)
    for level in levels:
        mask = _clean((evidence[0, 0] > level).cpu().numpy(), SMALLEST * unit * unit)
        grown = (
            ndimage.binary_dilation(mask, iterations=max(1, round(GROW * unit))) & inside if mask.any() else mask
        )
        before = before | grown
        out.append(before)
    return torch.from_numpy(np.stack(out))[:, None].to(evidence.device)


def _clean(mask: np.ndarray, smallest: float) -> np.ndarray:
    named, number = ndimage.label(mask)
    if not number:
        return mask
    size = np.bincount(named.ravel())
    large = size >= smallest
    large[0] = False
    return ndimage.binary_fill_holes(large[named])


def choose(seen: Tensor, start: float, goal: float, slack: float = 0.1) -> int:
    """The first mask that reaches the goal; failing that the first within ``slack`` of the best rise seen."""
    reached = (seen >= goal).nonzero()[:, 0]
    if len(reached):
        return int(reached[0])
    best = float(seen.max())
    return int((seen >= best - slack * max(0.0, best - start)).nonzero()[0, 0])


def label(mask: Tensor) -> tuple[Tensor, int]:
    """Connected parts of one mask (1, 1, H, W)."""
    named, number = ndimage.label(mask[0, 0].cpu().numpy(), structure=np.ones((3, 3)))
    return torch.from_numpy(named).long()[None, None].to(mask.device), int(number)


def relabel(parts: Tensor, keep: Tensor) -> Tensor:
    """Parts numbered anew, without those that are not kept."""
    new = torch.zeros(len(keep) + 1, dtype=torch.long, device=parts.device)
    new[1:][keep] = 1 + torch.arange(int(keep.sum()), device=parts.device)
    return new[parts]


def credits(margin: Margin, x: Tensor, filled: Tensor, parts: Tensor, number: int) -> Tensor:
    """Integrated gradients of the margin from x to x', summed by part: what each part's filling earns."""
    at = (torch.arange(STEPS, dtype=x.dtype, device=x.device) + 0.5) / STEPS
    path = (x + at[:, None, None, None] * (filled - x)).detach().requires_grad_()
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(margin(path).sum(), path)
    earned = (slope.mean(0, keepdim=True) * (filled - x)).sum(1).flatten()
    return torch.zeros(number + 1, dtype=x.dtype, device=x.device).index_add_(0, parts.flatten(), earned)[1:]
