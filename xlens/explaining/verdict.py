"""The verdict: what an explanation certifies, each part on its own, and why it does not hold, in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from xlens.counterfactual.edit import Edit
from xlens.explaining.asking import Asks
from xlens.explaining.likeness import likeness
from xlens.explaining.placebo import placebo_flips
from xlens.explaining.stability import effect_kept
from xlens.explanation import Fidelity

__all__ = ["Judged", "judge", "not_local"]

#: Above this share of the lens's whole change, and of the image's area, an edit is not local.
_LOCAL = 0.6
_LOCAL_AREA = 0.2
#: Of an edit that is evidence, more than this share of the effect outlasts a mild blur and a small shift.
_KEPT = 0.5


@dataclass(frozen=True)
class Judged:
    """The verdicts on a batch.

    Args:
        verdicts: name -> ``(N,)`` bool, or None where it does not apply.
        problems: per input, in words, what does not hold.
    """

    verdicts: dict[str, Tensor | None]
    problems: tuple[tuple[str, ...], ...]

    @property
    def trustworthy(self) -> Tensor:
        """``(N,)`` whether every verdict that applies holds."""
        return torch.stack([held for held in self.verdicts.values() if held is not None]).all(0)


def judge(
    lens: Asks,
    edit: Edit,
    fidelity: Fidelity,
    margins: Mapping[str, Tensor],
    deltas: Mapping[str, tuple[Tensor, Tensor]],
    already: Tensor,
    target: Tensor,
    contrast: Tensor,
    tolerance: float,
) -> Judged:
    """Judge one batch, within ``fitted.asking()``.

    Args:
        lens: asks the lens.
        edit: what is judged.
        fidelity: its figures.
        margins: the score on the inputs, the reconstruction and the counterfactual.
        deltas: name -> what an integral is off by, and what it should sum to, each ``(N,)``.
        already: ``(N,)`` whether the classifier predicts the contrast class on the input itself.
        target, contrast: ``(N,)``.
        tolerance: largest relative error of an integral.
    """
    rows: list[list[str]] = [[] for _ in range(len(already))]
    names = lens.fitted.class_names
    verdicts: dict[str, Tensor | None] = {
        "flips": _flips(rows, edit, fidelity, already, [names[c] for c in contrast.tolist()]),
        "likeness": likeness(rows, lens, edit, fidelity, margins),
        "specific": _specific(rows, lens, edit, contrast),
        "stable": _stable(rows, lens, edit, fidelity, margins, target, contrast),
        "local": _local(rows, edit, fidelity),
        "complete": _complete(rows, deltas, tolerance),
    }
    return Judged(verdicts, tuple(map(tuple, rows)))


def _flips(rows: list[list[str]], edit: Edit, fidelity: Fidelity, already: Tensor, names: list[str]) -> Tensor:
    holds = fidelity.flips & ~already
    for i in (~holds).nonzero()[:, 0].tolist():
        found = edit.problems[i] if edit.problems else None
        if already[i]:
            found = "the classifier predicts the contrast class already, so there is no evidence to take away"
        rows[i].append(found or f"the counterfactual does not change the classifier's decision to {names[i]!r}")
    return holds


def _specific(rows: list[list[str]], lens: Asks, edit: Edit, contrast: Tensor) -> Tensor | None:
    found = placebo_flips(lens, edit, contrast)
    if found is None:
        return None
    flips, possible = found
    for i in flips.nonzero()[:, 0].tolist():
        rows[i].append("the same mask, moved elsewhere and filled the same way, changes the decision too")
    # Where there was no room for a placebo, the edit covers so much that it is not local, which says so.
    return ~flips | ~possible


def _stable(
    rows: list[list[str]],
    lens: Asks,
    edit: Edit,
    fidelity: Fidelity,
    margins: Mapping[str, Tensor],
    target: Tensor,
    contrast: Tensor,
) -> Tensor | None:
    kept = effect_kept(lens, edit, target, contrast, margins["inputs"] - margins["start"])
    if kept is None:
        return None
    # Where nothing flips there is nothing to outlast, and that is said already.
    holds = (kept >= _KEPT) | ~fidelity.flips
    for i in (~holds).nonzero()[:, 0].tolist():
        rows[i].append(
            "the edit's effect does not outlast a mild blur and small shifts of both images "
            f"({max(0.0, float(kept[i])):.0%} of it is left)"
        )
    return holds


def _local(rows: list[list[str]], edit: Edit, fidelity: Fidelity) -> Tensor | None:
    if edit.mask is None:
        return None
    wide = not_local(fidelity, edit.mask)
    for i in wide.nonzero()[:, 0].tolist():
        rows[i].append(
            f"the edit is not local: it covers {float(edit.mask[i].mean()):.0%} of the input, and lets "
            f"{float(fidelity.coverage[i]):.0%} of the lens's change through"
        )
    return ~wide


def _complete(
    rows: list[list[str]], deltas: Mapping[str, tuple[Tensor, Tensor]], tolerance: float
) -> Tensor | None:
    holds: Tensor | None = None
    for name, (delta, total) in deltas.items():
        # A little more than the tolerance, for rounding between batches.
        within = delta.abs() <= 1.02 * tolerance * total.clamp_min(1e-3) + 1e-5
        for i in (~within).nonzero()[:, 0].tolist():
            rows[i].append(f"{name} is incomplete by {delta[i]:.3g} of {total[i]:.3g}")
        holds = within if holds is None else holds & within
    return holds


def not_local(fidelity: Fidelity, mask: Tensor) -> Tensor:
    """Where an edit covers much of the input and most of what the lens would change, ``(N,)``.

    A lens that changes little is let through whole, and its edit is local all the same.
    """
    return (fidelity.coverage > _LOCAL) & (mask.flatten(1).mean(1) > _LOCAL_AREA)
