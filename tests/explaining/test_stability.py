"""The effect of an edit that is evidence outlasts a mild blur and small shifts; that of an attack does not."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import xlens
from xlens.contracts import EditingLens, Feature, LocalEdit
from xlens.errors import UntrustworthyWarning

SIDE = 24
BOARD = (torch.arange(SIDE)[:, None] + torch.arange(SIDE)) % 2 * 2.0 - 1


class Weighted(nn.Module):
    """Sees class 1 where a weighted sum of the pixels is above a threshold."""

    def __init__(self, weights: Tensor, bias: float) -> None:
        super().__init__()
        self.register_buffer("weights", weights)
        self.bias = nn.Parameter(torch.tensor(bias))

    def forward(self, inputs: Tensor) -> Tensor:
        score = (inputs[:, 0] * self.weights).sum((1, 2)) + self.bias
        return torch.stack([-score / 2, score / 2], 1)


class Adding(EditingLens):
    """Adds a fixed change inside a region, where the classifier sees class 1."""

    features = (Feature("part 1", (0,), "class"),)

    def __init__(self, change: Tensor) -> None:
        super().__init__()
        self.register_buffer("change", change)

    def edit(self, inputs: Tensor, target: Tensor, contrast: Tensor) -> LocalEdit:
        region = (self.change != 0).float().expand(len(inputs), 1, -1, -1)
        return LocalEdit(inputs + self.change, region, (None,) * len(inputs))

    def fill(self, inputs: Tensor, mask: Tensor) -> Tensor:
        return inputs


@xlens.options
class AddingBackend(xlens.Backend):
    """Adds it."""

    name = "adding"
    small: bool = xlens.param(False, help="a pattern of small amplitude, as an attack has, and not a flat area")

    def fit(self, classifier, data, run):
        return self.build(classifier, run.spec)

    def build(self, classifier, spec):
        return Adding(change_of(self.small))


def change_of(small: bool) -> Tensor:
    change = torch.zeros(SIDE, SIDE)
    change[8:16, 8:16] = -0.1 * BOARD[8:16, 8:16] if small else -0.6
    return change


def weights_of(small: bool) -> Tensor:
    weights = torch.zeros(SIDE, SIDE)
    weights[8:16, 8:16] = BOARD[8:16, 8:16] if small else 0.2
    return weights


def pictures(n: int = 60) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand(n, 1, SIDE, SIDE, generator=generator) * 0.3 + 0.2
    inputs[::2, :, 8:16, 8:16] += 0.4
    inputs[::2, 0] += 0.03 * BOARD
    inputs[1::2, 0] -= 0.03 * BOARD
    return inputs.clamp(0, 1)


def slowly_changed(image: np.ndarray) -> list[np.ndarray]:
    """Return an image blurred, and shifted by a pixel to each side, pixel by pixel."""
    at = lambda y, x: image[min(max(y, 0), SIDE - 1), min(max(x, 0), SIDE - 1)]  # noqa: E731
    weight = {-1: 0.25, 0: 0.5, 1: 0.25}
    found = [np.zeros_like(image) for _ in range(5)]
    for y in range(SIDE):
        for x in range(SIDE):
            found[0][y, x] = sum(weight[a] * weight[b] * at(y + a, x + b) for a in weight for b in weight)
            for k, (a, b) in enumerate([(-1, 0), (1, 0), (0, -1), (0, 1)], 1):
                found[k][y, x] = at(y + a, x + b)
    return found


def slow_share(model: Weighted, before: Tensor, after: Tensor) -> float:
    score = lambda image: float((image * model.weights.numpy()).sum())  # noqa: E731
    x, edited = before[0].numpy().astype(float), after[0].numpy().astype(float)
    pairs = zip(slowly_changed(x), slowly_changed(edited), strict=True)
    return min(score(a) - score(b) for a, b in pairs) / (score(x) - score(edited))


@pytest.mark.parametrize("small", [False, True], ids=["evidence", "attack"])
def test_what_is_left_is_what_a_slow_reference_finds(small):
    from xlens.classifier.margins import score_margin
    from xlens.explaining.asking import asks
    from xlens.explaining.stability import effect_kept

    model = Weighted(weights_of(small), 0.0 if small else -5.0)
    explainer = xlens.fit(model, pictures(), AddingBackend(small=small), progress=False)
    inputs = pictures()[:4:2]
    target, contrast = torch.ones(2, dtype=torch.long), torch.zeros(2, dtype=torch.long)
    lens = asks(explainer.fitted)
    with explainer.fitted.asking():
        edit = lens.carry(inputs, target, contrast, "masked")
        before, after = (score_margin(model(x), target, contrast) for x in (inputs, edit.start))
        kept = effect_kept(lens, edit, target, contrast, before - after)
    for i in range(2):
        assert float(kept[i]) == pytest.approx(slow_share(model, inputs[i], edit.start[i]), abs=1e-4)
    assert bool((kept < 0.2).all()) if small else bool((kept > 0.8).all())


def test_an_attack_is_not_stable_and_evidence_is():
    for small in (False, True):
        model = Weighted(weights_of(small), 0.0 if small else -5.0)
        explainer = xlens.fit(model, pictures(), AddingBackend(small=small), progress=False)
        inputs = pictures()[:8:2]
        assert model(inputs).argmax(1).tolist() == [1] * 4
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UntrustworthyWarning)
            found = explainer.explain(inputs, tolerance=1.0)
        assert bool(found.verdicts["flips"].all())
        assert found.verdicts["stable"].tolist() == [not small] * 4
        assert all(any("does not outlast" in said for said in row) is small for row in found.problems)


def test_small_images_are_not_asked(fitted, images):
    assert fitted.explain(images[:2]).verdicts["stable"] is None
