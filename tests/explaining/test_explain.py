"""Explaining: what comes back, that it is right, and that a lens that fails says so."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import toys

from xlens.explanation import Explanation


@pytest.fixture(scope="module")
def explanation(fitted, images):
    return fitted.explain(images[:9], attributions=("lig", "ig_counterfactual"))


def test_every_part_has_its_shape(explanation, images):
    n, shape = 9, (1, 8, 8)
    for name in ("inputs", "reconstruction", "edit", "counterfactual", "mask"):
        assert getattr(explanation, name).shape == (n, *shape), name
    for name in ("target", "contrast", "scores", "reconstruction_scores", "counterfactual_scores", "trustworthy"):
        assert getattr(explanation, name).shape == (n,), name
    for field in dataclasses.fields(explanation.fidelity):
        assert getattr(explanation.fidelity, field.name).shape == (n,), field.name
    assert explanation.path.shape == (n, explanation.path_scores.shape[1], *shape)
    assert set(explanation.attributions) == set(explanation.convergence_delta) == {"lig", "ig_counterfactual"}
    assert explanation.codes.shape == explanation.counterfactual_codes.shape == (n, 192)
    assert explanation.feature_names == ("background", "bright", "dark")
    assert explanation.feature_contributions.shape == (n, 3)
    assert explanation.class_names == ("class 0", "class 1", "class 2")
    assert not any(value.requires_grad for _, value in explanation._tensors())


def test_parts_are_consistent_with_each_other_and_with_f(explanation, trained, images, labels):
    e = explanation
    assert torch.equal(e.inputs, images[:9])
    assert torch.equal(e.counterfactual, e.path[:, 0])
    assert torch.equal(e.path[:, -1], e.inputs)
    assert torch.allclose(e.inputs + e.edit, e.counterfactual, atol=1e-6)
    assert torch.equal(e.target, labels[:9])
    assert ((e.mask >= 0) & (e.mask <= 1)).all()
    for name, inputs in (
        ("scores", e.inputs),
        ("reconstruction_scores", e.reconstruction),
        ("counterfactual_scores", e.counterfactual),
    ):
        assert torch.allclose(getattr(e, name), toys.margins(trained, inputs, e.target, e.contrast), atol=1e-4), (
            name
        )
    for k in range(e.path.shape[1]):
        assert torch.allclose(
            e.path_scores[:, k], toys.margins(trained, e.path[:, k], e.target, e.contrast), atol=1e-4
        )


def test_attributions_are_complete_and_the_delta_says_how_far(explanation):
    difference = explanation.scores - explanation.counterfactual_scores
    for name, values in explanation.attributions.items():
        delta = values.flatten(1).sum(1) - difference
        assert torch.allclose(explanation.convergence_delta[name], delta, atol=1e-3)
        assert (delta.abs() <= 0.02 * difference.abs() + 1e-3).all()


def test_feature_contributions_sum_to_the_lens_own_change(explanation, trained, fitted):
    e = explanation
    start = toys.margins(trained, fitted.lens.decode(e.counterfactual_codes), e.target, e.contrast)
    change = e.reconstruction_scores - start
    assert torch.allclose(e.feature_contributions.sum(1), change, atol=0.05 * float(change.abs().max()))


def test_the_edit_removes_the_cause_and_flips_f(explanation, images, labels):
    with_patch = labels[:9] > 0
    patch = toys.patch_of(images[:9])[with_patch]
    energy = explanation.edit[with_patch].square()
    assert explanation.fidelity.flips.all()
    assert explanation.trustworthy.all()
    assert (energy * patch).sum() / energy.sum() > 0.95
    for values in explanation.attributions.values():
        highest = values[with_patch].abs().flatten(1).argmax(1)
        assert patch.flatten(1)[torch.arange(len(highest)), highest].all()


@pytest.mark.parametrize("carry", ["masked", "residual", "none"])
def test_every_way_of_carrying(ask, fitted, images, carry):
    e = ask("explain", images[:3], carry=carry)
    assert (e.mask is not None) == (carry == "masked")
    assert e.fidelity.flips.all()
    decoded = fitted.lens.decode(e.counterfactual_codes)
    expected = {
        "masked": lambda: e.inputs + e.mask * (decoded - e.inputs),
        "residual": lambda: e.inputs + decoded - e.reconstruction,
        "none": lambda: decoded,
    }[carry]()
    if carry != "none":
        expected = expected.clamp(min(fitted.spec.minimum), max(fitted.spec.maximum))
    assert torch.allclose(e.counterfactual, expected, atol=1e-5)
    assert torch.allclose(e.path[:, -1], e.inputs, atol=1e-6)  # this lens reproduces its inputs


def assert_equal(first: Explanation, second: Explanation, atol: float = 1e-5):
    for (name, a), (_, b) in zip(first._tensors(), second._tensors(), strict=True):
        assert torch.allclose(a.double(), b.double(), atol=atol), name


def test_a_row_alone_is_the_row_in_its_batch(ask, images):
    together = ask("explain", images[:7])
    for row in (0, 4):
        assert_equal(ask("explain", images[row]), together[row], 1e-4)
    assert_equal(ask("explain", images[:7], internal_batch_size=3), together, 1e-4)


def test_the_same_question_has_the_same_answer(ask, images):
    assert_equal(ask("explain", images[:3]), ask("explain", images[:3]), 0)


@pytest.mark.parametrize("kind", ["target", "contrast"])
def test_an_int_is_a_tensor_of_it(ask, images, kind):
    rows = images[1::3][:4]  # of class 1
    number = {"target": 1, "contrast": 2}[kind]
    as_int = ask("explain", rows, **{kind: number})
    assert_equal(as_int, ask("explain", rows, **{kind: torch.full((4,), number)}))
    assert getattr(as_int, kind).tolist() == [number] * 4
    assert_equal(ask("explain", rows), ask("explain", rows, target=1, contrast=0))


def test_without_a_contrast_it_is_the_reference_class_or_the_runner_up(ask, images, trained):
    found = ask("explain", images[:6])
    assert found.contrast[1:3].tolist() == [0, 0]
    assert (found.contrast[[0, 3]] > 0).all()


def test_the_counterfactual_alone_is_that_of_the_explanation(ask, images, explanation):
    assert torch.allclose(ask("counterfactual", images[:9]), explanation.counterfactual, atol=1e-5)


def test_inputs_with_history_and_arrays(ask, images, explanation):
    with_history = images[:9].clone().requires_grad_()
    found = ask("explain", with_history)
    assert with_history.grad is None
    assert not any(value.requires_grad for _, value in found._tensors())
    assert torch.allclose(ask("explain", images[:9].numpy()).edit, explanation.edit, atol=1e-5)


def test_the_explanation_keeps_its_own_inputs(ask, images):
    mine = images[:2].clone()
    found = ask("explain", mine, attributions=())
    mine.zero_()
    assert torch.equal(found.inputs, images[:2])


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_it_works_where_the_caller_has_switched_gradients_off(fitted, images, explanation, mode):
    with mode():
        found = fitted.explain(images[:3].clone())
    assert torch.allclose(found.attributions["lig"], explanation.attributions["lig"][:3], atol=1e-4)
