"""Lenses that edit inputs directly: parts as codes, complete attributions, a placebo, and an honest nothing."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor, nn

import xlens
from xlens.contracts import EditingLens, Feature, LocalEdit
from xlens.errors import OptionError, UnsupportedError, UntrustworthyWarning

SIDE = 24


class Spots(nn.Module):
    """Sees class 1 where two places of the image are bright, one more than the other."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, inputs: Tensor) -> Tensor:
        left = inputs[:, 0, 4:8, 4:8].mean((1, 2))
        right = inputs[:, 0, 14:18, 14:18].mean((1, 2))
        return self.scale * (6 * left + 3 * right - 2.0)


class Patcher(EditingLens):
    """Fills the two places with what lies elsewhere; says so where the image is not bright there."""

    features = (Feature("part 1", (0,), "class"), Feature("part 2", (1,), "class"))

    def __init__(self, whole: bool = False, flat: bool = False) -> None:
        super().__init__()
        self.whole, self.flat = whole, flat
        self.register_buffer("nothing", torch.zeros(1))

    def edit(self, inputs: Tensor, target: Tensor, contrast: Tensor) -> LocalEdit:
        parts = torch.zeros(len(inputs), 2, SIDE, SIDE)
        if self.whole:
            parts[:, 0] = 1
        else:
            parts[:, 0, 4:8, 4:8] = 1
            parts[:, 1, 14:18, 14:18] = 1
        dark = inputs[:, 0, 4:8, 4:8].mean((1, 2)) < 0.5
        parts[dark] = 0
        problems = tuple("no local counterfactual: nothing is bright" if one else None for one in dark.tolist())
        mask = parts.sum(1, keepdim=True)
        return LocalEdit(self.fill(inputs, mask), parts, problems)

    def fill(self, inputs: Tensor, mask: Tensor) -> Tensor:
        if not self.flat:
            return inputs.roll(10, 2)
        free = 1 - mask
        mean = (inputs * free).sum((2, 3), keepdim=True) / free.sum((2, 3), keepdim=True).clamp_min(1)
        return mean.expand_as(inputs)


@xlens.options
class Patching(xlens.Backend):
    """Fills what is known to be evidence."""

    name = "patching"
    whole: bool = xlens.param(False, help="fill everything")
    flat: bool = xlens.param(False, help="fill with the mean, which no real input has")

    def fit(self, classifier, data, run):
        return self.build(classifier, run.spec)

    def build(self, classifier, spec):
        return Patcher(self.whole, self.flat)


def pictures(n: int = 40) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    images = 0.2 * torch.rand(n, 1, SIDE, SIDE, generator=generator)
    images[: n // 2, 0, 4:8, 4:8] += 0.7
    images[: n // 2, 0, 14:18, 14:18] += 0.7
    return images


@pytest.fixture(scope="module")
def explainer():
    return xlens.fit(Spots(), pictures(), Patching(), progress=False)


@pytest.fixture(scope="module")
def bright():
    return pictures()[:4]


@pytest.fixture(scope="module")
def explanation(explainer, bright):
    return explainer.explain(bright, attributions=("lig", "ig_counterfactual", "lig_features"))


def test_what_is_filled_is_the_mask_and_nothing_else(explanation, bright):
    changed = (explanation.counterfactual - bright).abs() > 0
    assert bool((changed <= (explanation.mask > 0)).all())
    assert torch.equal(explanation.reconstruction, bright)
    assert bool((explanation.path[:, -1] == bright).all())
    assert torch.allclose(explanation.path[:, 0], explanation.counterfactual)


def test_every_verdict_holds_where_the_evidence_is_taken(explanation):
    assert all(bool(held.all()) for held in explanation.verdicts.values())
    assert bool(explanation.trustworthy.all())


def test_parts_contribute_what_the_known_classifier_gives_them(explanation, bright):
    gone = explanation.counterfactual
    known = torch.stack(
        [
            6 * (bright - gone)[:, 0, 4:8, 4:8].mean((1, 2)),
            3 * (bright - gone)[:, 0, 14:18, 14:18].mean((1, 2)),
        ],
        1,
    )
    torch.testing.assert_close(explanation.feature_contributions, known, rtol=1e-3, atol=1e-4)


def test_maps_sum_to_the_difference_and_parts_to_the_map(explanation):
    difference = explanation.scores - explanation.counterfactual_scores
    for name in ("lig", "ig_counterfactual"):
        torch.testing.assert_close(
            explanation.attributions[name].flatten(1).sum(1), difference, rtol=1e-3, atol=1e-3
        )
    both = explanation.attributions["lig: part 1"] + explanation.attributions["lig: part 2"]
    torch.testing.assert_close(both, explanation.attributions["lig"], rtol=1e-4, atol=1e-6)


def test_a_part_is_put_back_by_its_code(explainer, bright, explanation):
    frames = explainer.traverse(bright, "part 1", [0.0, 1.0])
    assert torch.equal(frames[:, 1], bright)
    assert bool((frames[:, 0, 0, 4:8, 4:8] < 0.5).all())
    assert torch.equal(frames[:, 0, :, 14:18, 14:18], bright[:, :, 14:18, 14:18])


def test_nothing_to_fill_is_said_and_shown_as_the_input(explainer):
    model = explainer.classifier
    dim = pictures()[:2].clone()
    dim[:, 0, 4:8, 4:8] = 0.3
    dim[:, 0, 14:18, 14:18] = 1.0
    assert model(dim).argmax(1).tolist() == [1, 1]
    with pytest.warns(UntrustworthyWarning, match="no local counterfactual"):
        found = explainer.explain(dim)
    assert torch.equal(found.counterfactual, dim)
    assert not bool(found.verdicts["flips"].any())


def test_where_nothing_is_edited_no_placebo_is_said_to_flip(explainer):
    dim = pictures()[:2].clone()
    dim[:, 0, 4:8, 4:8] = 0.3
    dim[:, 0, 14:18, 14:18] = 1.0
    with pytest.warns(UntrustworthyWarning, match="already"):
        found = explainer.explain(dim, target=0, contrast=1)
    assert not bool(found.mask.any())
    assert not any("moved elsewhere" in said for row in found.problems for said in row)


def test_filling_everything_is_not_local(bright):
    whole = xlens.fit(Spots(), pictures(), Patching(whole=True), progress=False)
    with pytest.warns(UntrustworthyWarning, match="not local"):
        found = whole.explain(bright)
    assert bool(found.verdicts["flips"].all())
    assert not bool(found.verdicts["local"].any())


class Detailed(nn.Module):
    """Sees class 1 in as much fine detail as the pictures of the tests have: whatever is smoothed flips it."""

    def __init__(self, detail: Tensor) -> None:
        super().__init__()
        self.register_buffer("detail", detail)

    def forward(self, inputs: Tensor) -> Tensor:
        return 1e4 * (fine_detail(inputs) - self.detail + 1e-4)


def fine_detail(inputs: Tensor) -> Tensor:
    return (inputs[:, 0, 1:] - inputs[:, 0, :-1]).abs().flatten(1).mean(1)


def test_a_placebo_that_flips_is_not_specific(bright):
    one = bright[:1]
    explainer = xlens.fit(Detailed(fine_detail(one)[0]), pictures(), Patching(flat=True), progress=False)
    with pytest.warns(UntrustworthyWarning, match="moved elsewhere"):
        found = explainer.explain(one, tolerance=1.0)
    assert bool(found.verdicts["flips"].all())
    assert not bool(found.verdicts["specific"].any())


def test_a_flat_fill_is_like_no_real_input(bright):
    explainer = xlens.fit(Spots(), pictures(), Patching(flat=True), progress=False)
    with pytest.warns(UntrustworthyWarning, match="looks like nothing"):
        found = explainer.explain(bright)
    assert not bool(found.verdicts["likeness"].any())


def test_what_needs_decodings_is_refused(explainer, bright):
    with pytest.raises(OptionError, match="'lig_paper' needs a lens that decodes"):
        explainer.explain(bright, attributions=("lig_paper",))
    with pytest.raises(OptionError, match="carry='residual'"):
        explainer.explain(bright, carry="residual")
    with pytest.raises(OptionError, match="path='geodesic'"):
        explainer.explain(bright, path="geodesic")
    with pytest.raises(UnsupportedError, match="edits inputs directly"):
        explainer.edit(bright, {"part 1": 1.0})


def test_a_saved_lens_explains_alike(explainer, bright, explanation, tmp_path):
    from xlens.registry import standing_in

    explainer.save(tmp_path / "lens")
    with standing_in(Patching):
        again = xlens.load(tmp_path / "lens", explainer.classifier.model)
    found = again.explain(bright)
    assert torch.equal(found.counterfactual, explanation.counterfactual)
    assert again.fitted.real is not None
    explanation.save(tmp_path / "one.safetensors")
    kept = xlens.Explanation.load(tmp_path / "one.safetensors")
    assert {name: held.tolist() for name, held in kept.verdicts.items()} == {
        name: held.tolist() for name, held in explanation.verdicts.items()
    }


def test_explanations_before_verdicts_still_load(explanation):
    bare = dataclasses.replace(explanation, verdicts={})
    assert len(bare[:2]) == 2
