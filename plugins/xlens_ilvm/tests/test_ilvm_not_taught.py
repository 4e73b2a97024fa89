"""Named parts about which nothing was ever answered: they mean nothing, and are credited with nothing."""

import pytest
import torch
from on_digits import HELD, LAYER

import xlens
from xlens.explaining.credit import credited
from xlens.storage import load_explanation


@pytest.fixture(scope="module")
def unanswered(digits, model):
    return xlens.fit(
        xlens.Classifier(model, layer=LAYER), digits[0][:HELD], "ilvm", attributes=("round", "digit"),
        kinds=("binary", "classes:10"), steps=10, layers=1, teaching_steps=20, progress=False,
    )  # fmt: skip


def taught_half(unanswered, digits):
    """Answer about the first column alone."""
    table = torch.full((64, 2), torch.nan)
    table[:, 0] = (digits[2][:64, 0] == 0).float()
    unanswered.teaching.teach(digits[0][:64], table, progress=False)


def test_what_nobody_answered_about_contributes_nothing(unanswered, digits, tmp_path):
    images = digits[0][HELD : HELD + 6]
    before = unanswered.explain(images, attributions=("lig",))
    assert before.not_taught == ("round", "digit")
    assert before.feature_names == ("round", "digit", "everything else")
    assert bool((before.feature_contributions[:, :2] == 0).all())
    total = before.code_attributions.double().sum(1)
    assert torch.allclose(before.feature_contributions.double().sum(1), total, atol=1e-4)
    # Neither is it shown a map of what it would have to do with the score.
    assert set(before.attributions) == {"lig", "lig: everything else"}
    state = {key: value.clone() for key, value in unanswered.lens.state_dict().items()}
    taught_half(unanswered, digits)
    assert [feature.taught for feature in unanswered.lens.features] == [True, False, True]
    after = unanswered.explain(images, attributions=("lig",))
    assert after.not_taught == ("digit",)
    assert bool((after.feature_contributions[:, 1] == 0).all())
    assert bool((after.feature_contributions[:, 0] != 0).any())
    after.save(tmp_path / "a.safetensors")
    assert load_explanation(tmp_path / "a.safetensors").not_taught == ("digit",)
    unanswered.lens.load_state_dict(state)


def test_the_counterfactual_leaves_it_as_it_is(unanswered, digits):
    lens, images = unanswered.lens, digits[0][HELD : HELD + 6]
    state = {key: value.clone() for key, value in lens.state_dict().items()}
    taught_half(unanswered, digits)
    with xlens.asking(unanswered) as asked:
        codes = asked.encode(images)
        predicted = unanswered.classifier(images).argmax(1)
        moved = asked.counterfactual(codes, predicted, (predicted + 1) % 10)
    parts = {feature.name: list(feature.dims) for feature in lens.features}
    assert torch.equal(moved[:, parts["digit"]], codes[:, parts["digit"]])
    assert not torch.equal(moved[:, parts["round"]], codes[:, parts["round"]])
    lens.load_state_dict(state)


def test_without_everything_else_it_gets_a_name_of_its_own():
    named = [xlens.Feature("a", (0,), "attribute"), xlens.Feature("b", (1, 2), "attribute", taught=False)]
    assert credited(named) == [("a", [0]), ("b", []), ("everything else", [1, 2])]
