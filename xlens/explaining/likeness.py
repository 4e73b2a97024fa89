"""The verdict of likeness: reconstruction and edit are like the input, and like real inputs."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from xlens.counterfactual.carry import CarriedCurve
from xlens.counterfactual.edit import Edit
from xlens.explaining.asking import Asks
from xlens.explanation import Fidelity

__all__ = ["left_out", "likeness"]

#: A reconstruction on which the classifier's probability is further off does not stand for the input.
_PROBABILITY_GAP = 0.25
#: No more than this share of what an edit shows may be what the lens cannot draw.
_LEFT_OUT = 0.5


def likeness(
    rows: list[list[str]], lens: Asks, edit: Edit, fidelity: Fidelity, margins: Mapping[str, Tensor]
) -> Tensor:
    """Return where reconstruction and edit are like what they stand for, ``(N,)``, and say where they are not.

    Args:
        rows: per input, what does not hold, in words; gets more of them.
        lens: asks the lens, and has the bank of real inputs.
        edit: what is judged.
        fidelity: its figures.
        margins: the score on the inputs and the reconstruction.
    """
    gap = (margins["inputs"].sigmoid() - margins["reconstruction"].sigmoid()).abs()
    holds = fidelity.agrees & (gap <= _PROBABILITY_GAP)
    for i in (~holds).nonzero()[:, 0].tolist():
        if not fidelity.agrees[i]:
            rows[i].append("the classifier sees another class in the lens's reconstruction")
        else:
            rows[i].append(f"the classifier's probability on the reconstruction is off by {gap[i]:.2f}")
    holds = holds & _changed_rather_than_left_out(rows, edit)
    bank = lens.fitted.real
    if bank is None:
        return holds
    apart = bank.apart(edit.inputs, edit.reconstruction)
    for i in (apart > 1).nonzero()[:, 0].tolist():
        rows[i].append(
            f"the lens's reconstruction is no nearer to the input than other real inputs are ({apart[i]:.1f} times "
            "as far)"
        )
    holds = holds & (apart <= 1)
    if edit.mask is None:
        return holds
    strange = bank.strangeness(edit.start, edit.mask)
    for i in (strange > 1).nonzero()[:, 0].tolist():
        rows[i].append(
            f"the edit looks like nothing in real inputs ({strange[i]:.1f} times as strange as they get)"
        )
    return holds & (strange <= 1)


def _changed_rather_than_left_out(rows: list[list[str]], edit: Edit) -> Tensor:
    share = left_out(edit)
    for i in (share > _LEFT_OUT).nonzero()[:, 0].tolist():
        rows[i].append(
            f"{share[i]:.0%} of what the edit shows is what the lens cannot draw of the input, not what it changes"
        )
    return share <= _LEFT_OUT


def left_out(edit: Edit) -> Tensor:
    """Return how much of what an edit shows is what its lens leaves out of the input, ``(N,)`` from 0 to 1.

    An edit through a mask is the sum of two: x' - x = m (G(z') - G(z)) + m (G(z) - x), the lens's change, and what
    it cannot draw. Their squares are compared, a / (a + b): a lens whose decodings are smooth takes the texture out
    of whatever lies under the mask, lesions too, and classifiers may well call that another class. 0 where the
    change alone is carried, and for a lens that edits inputs.

    Args:
        edit: before it is clamped to the range of the data.
    """
    if edit.mask is None or not isinstance(edit.curve, CarriedCurve) or edit.curve.carry != "masked":
        return torch.zeros(len(edit.inputs), device=edit.inputs.device)
    lost, changed = (
        (edit.mask * difference).flatten(1).square().sum(1)
        for difference in (edit.reconstruction - edit.inputs, edit.decoded - edit.reconstruction)
    )
    return lost / (lost + changed).clamp_min(1e-12)
