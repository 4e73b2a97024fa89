"""Whether a fitted lens does what a lens is for, asked of every backend's: a fit that failed says so."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from xlens.contracts.lens import EditingLens
from xlens.data import Data
from xlens.errors import XlensWarning, warn
from xlens.explaining.asking import asks
from xlens.fitted import BATCH, Fitted

__all__ = ["Soundness", "say_unsound", "soundness"]

#: Inputs of the fit that are reconstructed, and those whose counterfactuals are made, which may take a search each.
_EXAMINED, _CHANGED = 128, 32
#: Both, where reconstructing is a search as well; and inputs that are edited, a search of many passes each.
_SEARCHED, _EDITED = 32, 16
#: Of what is edited directly half as many, and of one class: inputs of a class that lacks something, as healthy
#: leaves lack lesions, have nothing to fill.
_LEAST_FLIPS, _LEAST_EDITS = 0.5, 0.25
#: A class is looked at on its own from so many inputs on.
_SOME = 4


@dataclasses.dataclass(frozen=True)
class Soundness:
    """What the classifier sees in a lens's decodings, or edits, of inputs that it was fitted on.

    Args:
        agreement: share of reconstructions in which the classifier sees the class that it sees in the input; None
            of a lens that edits inputs and reconstructs none.
        usual: share of inputs of the most frequent class: the agreement of a decoder that makes only that one.
        flips: share of decoded counterfactuals, or edited inputs of the class of which most do, in which the
            classifier sees the contrast class.
        error: absolute error of reconstructions over that of the mean input; None where inputs are not decoded.
    """

    agreement: float | None
    usual: float
    flips: float
    error: float | None

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong, in words; empty where nothing is."""
        found = []
        if self.error is not None and not self.error < 1:
            found.append(f"reconstructions are {self.error:.2f} times as far off as the mean input")
        # Half of the way from what a constant decoder reaches to perfection: classes may be of any number and size.
        if self.agreement is not None and self.usual < 1 and not self.agreement >= (1 + self.usual) / 2:
            found.append(
                f"the classifier sees the same class in {self.agreement:.0%} of the reconstructions, and one class "
                f"alone makes up {self.usual:.0%} of the inputs"
            )
        edits = self.agreement is None
        if not self.flips >= (_LEAST_EDITS if edits else _LEAST_FLIPS):
            made, of_the_best = ("edits", ", of the class with most") if edits else ("counterfactuals", "")
            found.append(f"{made} change the classifier's decision in {self.flips:.0%} of the inputs" + of_the_best)
        return tuple(found)


@torch.no_grad()
def soundness(fitted: Fitted, data: Data, seed: int) -> Soundness | None:
    """Reconstruct and change some inputs of the fit, and ask the classifier what it sees.

    None of a lens that knows that it is unfit, and has said so.

    Args:
        fitted: classifier and lens.
        data: what the lens was fitted on; of a stream the first batches are looked at.
        seed: decides which inputs are looked at.
    """
    lens = fitted.lens
    if isinstance(lens, EditingLens):
        return None if lens.unfit is not None else _of_edits(fitted, _some(data, _EDITED, seed))
    examined = _EXAMINED if lens.encodes_directly else _SEARCHED
    inputs = _some(data, examined, seed).to(fitted.device)
    with fitted.asking():
        ask = asks(fitted)
        target, contrast = fitted.classes(inputs, None, None)
        codes = torch.cat([ask.encode(part) for part in inputs.split(BATCH)])
        error, parts = None, list(zip(codes.split(BATCH), inputs.split(BATCH), strict=True))
        if lens.decodes_to == "inputs":
            decoded = [lens.decode(code) for code, _ in parts]
            seen = torch.cat([fitted.classifier(part).argmax(1) for part in decoded])
            error = _error(fitted, inputs, torch.cat(decoded))
        else:
            seen = torch.cat([ask.decode(code, part).argmax(1) for code, part in parts])
        few = slice(min(_CHANGED, examined))
        moved = lens.counterfactual(codes[few], target[few], contrast[few])
        flips = ask.decode(moved, inputs[few]).argmax(1) == contrast[few]
    return Soundness(_share(seen == target), _usual(target), _share(flips), error)


def _of_edits(fitted: Fitted, inputs: Tensor) -> Soundness:
    inputs = inputs.to(fitted.device)
    with fitted.asking():
        target, contrast = fitted.classes(inputs, None, None)
        edited = asks(fitted).carry(inputs, target, contrast, "masked").start
        flips = fitted.classifier(edited).argmax(1) == contrast
    return Soundness(None, _usual(target), _of_the_best(flips, target), None)


def say_unsound(found: Soundness) -> None:
    """Warn of a lens that is not sound, with all that is wrong.

    Warns:
        XlensWarning: at the user's line.
    """
    if problems := found.problems:
        warn(
            f"fit: the lens is not sound: {'; '.join(problems)}. Raise steps, where it trains, or fit another "
            "backend (xlens.backends() lists them); what was measured is in explainer.provenance['soundness'].",
            XlensWarning,
        )


def _share(held: Tensor) -> float:
    return float(held.float().mean())


def _of_the_best(flips: Tensor, classes: Tensor) -> float:
    """Return the share of the class of which most flip, of those with some inputs; of all, where none has some."""
    shares = [_share(flips[classes == one]) for one in classes.unique() if int((classes == one).sum()) >= _SOME]
    return max(shares, default=_share(flips))


def _usual(classes: Tensor) -> float:
    return float(classes.bincount().max() / len(classes))


def _error(fitted: Fitted, inputs: Tensor, decoded: Tensor) -> float:
    span = fitted.spec.span().to(inputs)
    off = ((decoded - inputs) / span).double().abs().sum()
    spread = ((inputs - inputs.mean(0)) / span).double().abs().sum()
    return float(off / spread.clamp_min(1e-12))


def _some(data: Data, count: int, seed: int) -> Tensor:
    """Return inputs from everywhere: the first of data that are sorted are of one class."""
    found: list[Tensor] = []
    for batch in data.batches(BATCH, generator=torch.Generator().manual_seed(seed)):
        found.append(batch.inputs)
        if sum(map(len, found)) >= count:
            break
    return torch.cat(found)[:count]
