"""Lenses whose counterfactuals are worth nothing, each in a way of its own: what a verdict has to see through."""

from __future__ import annotations

import copy
import dataclasses
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import xlens
from xlens import Classifier, Run, Spec, param
from xlens.contracts import EditingLens, LocalEdit
from xlens.data import Data

#: How an attack goes: the largest change of a pixel in shares of the range, and whether it stays in a small disc.
ATTACKS = {"pgd, .1 everywhere": (0.1, False), "pgd, .1 in a disc": (0.1, True), "pgd, all in a disc": (1.0, True)}
STEPS, AREA = 40, 0.06
#: A ghost is the mean of so many images of its class, at most.
MEAN_OF = 256


class Attacking(EditingLens):
    """An adversarial example for an edit, by projected gradient descent (Madry et al., 2018) on the classifier."""

    def __init__(self, classifier: Classifier, spec: Spec, attack: str) -> None:
        super().__init__()
        self._classifier = [classifier]
        self.size, self.local = ATTACKS[attack]
        self.register_buffer("low", torch.tensor(spec.minimum)[:, None, None])
        self.register_buffer("high", torch.tensor(spec.maximum)[:, None, None])

    @property
    def features(self) -> tuple[xlens.Feature, ...]:
        return (xlens.Feature("part 1", (0,), "class"),)

    def edit(self, inputs: Tensor, target: Tensor, contrast: Tensor) -> LocalEdit:
        region = self._region(inputs)
        span = self.high - self.low
        off = torch.zeros_like(inputs)
        for _ in range(STEPS):
            tried = (inputs + region * off).detach().requires_grad_()
            with torch.enable_grad():
                logits = self._classifier[0](tried)
                margin = xlens.nn.margin_over_rest(logits, contrast).sum()
                (slope,) = torch.autograd.grad(margin, tried)
            off = (off + 2.5 * self.size / STEPS * span * slope.sign()).clamp(-self.size * span, self.size * span)
            off = torch.clamp(inputs + off, self.low, self.high) - inputs
        return LocalEdit(inputs + off, region, (None,) * len(inputs))

    def fill(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Fill as an honest lens does, so that no placebo gives the attack away."""
        known = 1 - mask
        wide = lambda values: F.avg_pool2d(values, 9, 1, 4)  # noqa: E731
        return wide(inputs * known) / wide(known).clamp_min(1e-3)

    def _region(self, inputs: Tensor) -> Tensor:
        """Return where the attack may go, ``(N, 1, H, W)``: everywhere, or a disc where the image is brightest."""
        if not self.local:
            return torch.ones_like(inputs[:, :1])
        height, width = inputs.shape[2:]
        bright = F.avg_pool2d(inputs.mean(1, keepdim=True), 5, 1, 2).flatten(1).argmax(1)
        row, column = (bright // width)[:, None, None], (bright % width)[:, None, None]
        far = (torch.arange(height)[:, None] - row).square() + (torch.arange(width) - column).square()
        return (far <= AREA * height * width / math.pi).float().unsqueeze(1)


class Ghosts(xlens.Lens):
    """Every image is its class's mean: sharp to the classifier, and nobody's counterfactual."""

    def __init__(self, classifier: Classifier, spec: Spec) -> None:
        super().__init__()
        self._classifier = [classifier]
        self.shape = spec.shape
        self.register_buffer("means", torch.zeros(spec.num_classes, *spec.shape))

    @property
    def features(self) -> tuple[xlens.Feature, ...]:
        names = [xlens.Feature(f"class {c}", (c,), "class", c) for c in range(len(self.means))]
        return (*names, xlens.Feature("none", (len(self.means),), "nuisance"))

    def encode(self, inputs: Tensor) -> Tensor:
        return F.pad(self._classifier[0](inputs).softmax(1), (0, 1))

    def decode(self, codes: Tensor) -> Tensor:
        return torch.einsum("nk,kchw->nchw", codes[:, :-1], self.means)

    def counterfactual(self, codes: Tensor, target: Tensor, contrast: Tensor) -> Tensor:
        return F.pad(F.one_hot(contrast, len(self.means)).to(codes.dtype), (0, 1))


@xlens.options
class Bad(xlens.Backend):
    """One of them, by name."""

    name = "bad"
    kind: str = param("ghosts", choices=("ghosts", *ATTACKS), help="which one")

    def build(self, classifier: Classifier, spec: Spec) -> xlens.Lens:
        return Ghosts(classifier, spec) if self.kind == "ghosts" else Attacking(classifier, spec, self.kind)

    def fit(self, classifier: Classifier, data: Data, run: Run) -> xlens.Lens:
        lens = self.build(classifier, run.spec)
        if isinstance(lens, Ghosts):
            inputs = data.take(torch.arange(min(len(data), 4 * MEAN_OF))).inputs
            decided = torch.cat([classifier(part).argmax(1) for part in inputs.split(64)])
            for c in range(run.spec.num_classes):
                lens.means[c] = inputs[decided == c][:MEAN_OF].mean(0)
        return lens


def shuffled(explainer: xlens.LensExplainer, seed: int) -> xlens.LensExplainer:
    """Return the same explainer with the weights of each of its lens's layers in another order."""
    generator = torch.Generator().manual_seed(seed)
    lens: nn.Module = copy.deepcopy(explainer.fitted.lens)
    with torch.no_grad():
        for weights in lens.parameters():
            weights.copy_(weights.flatten()[torch.randperm(weights.numel(), generator=generator)].view_as(weights))
    return xlens.LensExplainer(dataclasses.replace(explainer.fitted, lens=lens))
