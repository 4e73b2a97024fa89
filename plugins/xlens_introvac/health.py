"""Whether a fit went well: what the game left of the reconstruction, and what the classifier sees in decodings."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from xlens import Classifier, Lens, Run
from xlens.data import Batch, Data
from xlens_introvac.course import LOST_AT

__all__ = ["Health", "examine"]

_EXAMINED, _BATCH = 512, 256
#: Inputs whose counterfactuals are searched for, which takes some thirty decodings each.
_CHANGED = 64
_LEAST_FLIPS = 0.5


@dataclass(frozen=True)
class Health:
    """What the health test found, on inputs of the fit.

    Args:
        agreement: share of reconstructions in which the classifier sees the class that it sees in the input.
        usual: share of inputs of the most frequent class: the agreement of a decoder that makes only that one.
        error: absolute error of reconstructions, as in training, relative to that of the mean input.
        flips: share of decoded counterfactuals in which the classifier sees the contrast class.
        worsening: the reconstruction's loss at the end over the least that it was, as moving averages.
    """

    agreement: float
    usual: float
    error: float
    flips: float
    worsening: float

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong, in words; empty where nothing is."""
        found = []
        if self.worsening > LOST_AT:
            found.append(f"the reconstruction became {self.worsening:.1f} times as bad as it had been")
        if not self.error < 1:
            found.append(f"reconstructions are {self.error:.2f} times as far off as the mean input")
        # Half of the way from what a constant decoder reaches to perfection: classes may be of any number and size.
        if self.usual < 1 and not self.agreement >= (1 + self.usual) / 2:
            found.append(
                f"the classifier sees the same class in {self.agreement:.0%} of the reconstructions, and one class "
                f"alone makes up {self.usual:.0%} of the inputs"
            )
        if not self.flips >= _LEAST_FLIPS:
            found.append(f"counterfactuals change the classifier's decision in {self.flips:.0%} of the inputs")
        return tuple(found)


@torch.no_grad()
def examine(lens: Lens, classifier: Classifier, data: Data, run: Run, *, worsening: float) -> Health:
    """Reconstruct and change some inputs of the fit, and ask the classifier what it sees.

    Args:
        lens: the fitted lens, turned and in eval mode.
        classifier: the frozen classifier.
        data: what the lens was fitted on; of a stream the first batches are looked at.
        run: circumstances of the fit.
        worsening: of the reconstruction's loss, as the training saw it.
    """
    inputs = torch.cat([batch.inputs for batch in _looked_at(data, run.seed)])[:_EXAMINED].to(run.device)
    seen, again, decodings = [], [], []
    for part in inputs.split(_BATCH):
        decodings.append(lens.decode(lens.encode(part)))
        seen.append(classifier(part))
        again.append(classifier(decodings[-1]).argmax(1))
    logits, agreed = torch.cat(seen), torch.cat(again)
    classes = logits.argmax(1)
    target, contrast = logits[:_CHANGED].topk(2).indices.T
    moved = lens.counterfactual(lens.encode(inputs[:_CHANGED]), target, contrast)
    flips = classifier(lens.decode(moved)).argmax(1) == contrast
    span = run.spec.span().to(run.device)
    off = ((torch.cat(decodings) - inputs) / span).double().abs().sum()
    spread = ((inputs - inputs.mean(0)) / span).double().abs().sum()
    return Health(
        agreement=float((agreed == classes).float().mean()),
        usual=float(classes.bincount().max() / len(classes)),
        error=float(off / spread.clamp_min(1e-12)),
        flips=float(flips.float().mean()),
        worsening=worsening,
    )


def _looked_at(data: Data, seed: int) -> list[Batch]:
    """Return inputs from everywhere: the first of data that are sorted are of one class."""
    if data.indexed:
        order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))[:_EXAMINED]
        return [data.take(index) for index in order.split(_BATCH)]
    found: list[Batch] = []
    for batch in data.batches():
        found.append(batch)
        if sum(len(one.inputs) for one in found) >= _EXAMINED:
            break
    return found
