"""Explaining: what comes back, that it is right, and that a lens that fails says so."""

from __future__ import annotations

import dataclasses
import warnings

import pytest
import torch
import toys
from guard import unchanged

import xlens
from xlens.errors import DataError, OptionError, UnsupportedError, UntrustworthyWarning
from xlens.explanation import Explanation


@pytest.fixture(scope="module")
def explanation(fitted, images):
    return fitted.explain(images[:9], attributions=("lig", "ig_counterfactual"))


@pytest.fixture
def ask(fitted, trained):
    """Call a method of the fitted explainer under guard."""

    def ask(method, *args, of=fitted, **kwargs):
        with unchanged(trained):
            return getattr(of, method)(*args, **kwargs)

    return ask


def margins(model, inputs, target, contrast):
    """Score f by hand, in eval mode, beside the model's own state."""
    from copy import deepcopy

    logits = deepcopy(model).eval()(inputs).detach()
    return torch.stack([row[t] - row[c] for row, t, c in zip(logits, target, contrast, strict=True)])


# --- what comes back ------------------------------------------------------------------------------


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
        assert torch.allclose(getattr(e, name), margins(trained, inputs, e.target, e.contrast), atol=1e-4), name
    for k in range(e.path.shape[1]):
        assert torch.allclose(e.path_scores[:, k], margins(trained, e.path[:, k], e.target, e.contrast), atol=1e-4)


def test_attributions_are_complete_and_the_delta_says_how_far(explanation):
    difference = explanation.scores - explanation.counterfactual_scores
    for name, values in explanation.attributions.items():
        delta = values.flatten(1).sum(1) - difference
        assert torch.allclose(explanation.convergence_delta[name], delta, atol=1e-3)
        assert (delta.abs() <= 0.02 * difference.abs() + 1e-3).all()


def test_feature_contributions_sum_to_the_lens_own_change(explanation, trained, fitted):
    e = explanation
    start = margins(trained, fitted.lens.decode(e.counterfactual_codes), e.target, e.contrast)
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


def test_the_mask_confines_a_lens_that_changes_everything(trained, images, labels, monkeypatch):
    monkeypatch.setattr("xlens.training.edit_mask._STEPS", 120)
    sloppy = xlens.fit(trained, toys.pictures(96, 0)[0], toys.Toy(kind="sloppy"), progress=False)
    with_patch = labels[:30] > 0
    found = sloppy.explain(images[:30], attributions=())
    patch = toys.patch_of(images[:30])[with_patch]

    def share(change):
        energy = change[with_patch].square()
        return float((energy * patch).sum() / energy.sum())

    whole = sloppy.lens.decode(found.counterfactual_codes) - found.inputs
    assert share(whole) < 0.92
    assert share(found.edit) > 0.97
    assert found.fidelity.flips[with_patch].float().mean() > 0.9
    assert (found.fidelity.coverage < 0.8).all()


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


def test_indexing_and_iteration(explanation):
    assert len(explanation) == 9
    assert [len(one) for one in explanation] == [1] * 9
    for part, rows in ((explanation[4], [4]), (explanation[-1], [8]), (explanation[2:5], [2, 3, 4])):
        assert torch.equal(part.inputs, explanation.inputs[rows])
        assert torch.equal(part.attributions["lig"], explanation.attributions["lig"][rows])
        assert torch.equal(part.fidelity.mse, explanation.fidelity.mse[rows])
        assert part.problems == tuple(explanation.problems[row] for row in rows)
    assert torch.equal(explanation[torch.tensor(3)].inputs, explanation.inputs[3:4])
    for out_of_range in (9, -10):
        with pytest.raises(IndexError):
            explanation[out_of_range]


def test_it_is_frozen_short_in_print_and_moves(explanation, monkeypatch):
    with pytest.raises(dataclasses.FrozenInstanceError):
        explanation.scores = None
    expected = "Explanation(9 of 1x8x8; attributions: lig, ig_counterfactual; trustworthy: 9/9)"
    assert repr(explanation) == expected
    monkeypatch.setattr("xlens.explanation._finite", lambda value: True)  # "meta" holds no values
    moved = explanation.to("meta")
    assert moved.fidelity.ssim.device.type == moved.attributions["lig"].device.type == "meta"
    assert explanation.to("cpu").class_names == explanation.class_names


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scores": torch.zeros(8)}, r"scores is \(8,\), not \(9,\)"),
        ({"mask": torch.zeros(9, 8, 8)}, r"mask is \(9, 8, 8\), not \(9, 1, 8, 8\)"),
        ({"attributions": {"lig": torch.zeros(9, 8, 8)}}, r"attributions\['lig'\]"),
        ({"path_scores": torch.full((9, 11), torch.nan)}, "path_scores is not finite"),
        ({"problems": ()}, "problems has 0 entries, not 9"),
    ],
)
def test_parts_that_do_not_fit_are_refused(explanation, changes, message):
    with pytest.raises(DataError, match=message):
        dataclasses.replace(explanation, **changes)


def test_fidelity_as_a_table(explanation):
    table = explanation.fidelity.to_markdown().splitlines()
    assert len(table) == 2 + len(dataclasses.fields(explanation.fidelity))
    assert "| flips | 1.000 | 1.000 |" in table


# --- arguments ------------------------------------------------------------------------------------


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


def with_nan(images):
    spoilt = images[:4].clone()
    spoilt[2, 0, 3, 3] = torch.nan
    return spoilt


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"target": 3}, DataError, "target is not a class. Given: 3. Allowed: an int from 0 to 2"),
        ({"target": -1}, DataError, "target is not a class"),
        ({"contrast": 7}, DataError, "contrast is not a class"),
        ({"target": torch.tensor([0, 1])}, DataError, r"4 of them as a tensor \(4,\)"),
        ({"target": 1.0}, DataError, "target is not a class"),
        ({"target": True}, DataError, "target is not a class"),
        ({"target": "cat"}, DataError, "target is not a class. Given: 'cat'"),
        ({"target": 1, "contrast": 1}, DataError, "same class. Given: class 1 for input 0"),
        ({"attributions": ("lgi",)}, OptionError, "unknown attribution 'lgi'. Did you mean 'lig'"),
        ({"attributions": "lig"}, OptionError, "a sequence of names, got 'lig'"),
        ({"attributions": None}, OptionError, "a sequence of names, got None"),
        ({"carry": "mask"}, OptionError, "'masked', 'residual', 'none' or None, got 'mask'"),
        ({"n_steps": 0}, OptionError, "n_steps must be an int >= 1, got 0"),
        ({"tolerance": 0}, OptionError, r"tolerance must be in \(0, 1\], got 0"),
        ({"tolerance": "small"}, OptionError, "tolerance must be"),
        ({"internal_batch_size": 0}, OptionError, "internal_batch_size must be"),
        ({"internal_batch_size": 2.5}, OptionError, "internal_batch_size must be"),
    ],
)
def test_wrong_arguments_are_named(ask, images, options, error, message):
    with pytest.raises(error, match=message):
        ask("explain", images[:4], **options)


def test_all_wrong_options_are_in_one_error(ask, images):
    with pytest.raises(OptionError) as caught:
        ask("explain", images, n_steps=0, tolerance=2, carry="x", attributions=("y",))
    assert all(word in str(caught.value) for word in ("n_steps", "tolerance", "carry", "attribution"))


@pytest.mark.parametrize("method", ["explain", "counterfactual"])
def test_wrong_inputs_are_named(ask, images, method):
    with pytest.raises(DataError, match="input 2 has values that are not finite"):
        ask(method, with_nan(images))
    with pytest.raises(DataError, match=r"Given: \(4, 3, 8, 8\). Allowed: \(N, 1, 8, 8\)"):
        ask(method, images[:4].expand(4, 3, 8, 8))
    with pytest.raises(DataError, match="no inputs"):
        ask(method, images[:0])


# --- lenses that fail -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lens", "message"),
    [
        (toys.BlindLens, "another class in the lens's reconstruction"),
        (toys.StuckLens, "does not change f's decision"),
    ],
)
def test_a_lens_that_fails_says_so(ask, fitted, images, lens, message):
    broken = toys.explainer_with(lens(), fitted)
    with pytest.warns(UntrustworthyWarning, match="explanations do not hold.*See explanation.problems"):
        found = ask("explain", images[:4], of=broken)
    assert not found.trustworthy.all()
    for held, problems in zip(found.trustworthy.tolist(), found.problems, strict=True):
        assert held == (not problems)
    assert any(message in line for problems in found.problems for line in problems)


def test_a_faithful_lens_gives_no_warning(ask, images):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ask("explain", images[:4])


def test_an_incomplete_integral_is_a_problem(ask, images, monkeypatch):
    monkeypatch.setattr("xlens.attr.chords._DEEPEST", 0)
    with pytest.warns(UntrustworthyWarning):
        found = ask("explain", images[:8], n_steps=1, tolerance=1e-4)
    assert any("lig is incomplete by" in line for problems in found.problems for line in problems)


def test_nan_never_reaches_a_result(ask, fitted, images):
    with pytest.raises(DataError, match="not finite"):
        ask("explain", images[:2], of=toys.explainer_with(toys.NanLens(), fitted))


# --- the rest of what an explainer can do --------------------------------------------------------------


def test_it_is_an_explainer(fitted):
    assert isinstance(fitted, xlens.Explainer)
    assert repr(fitted) == "Explainer(toy, Classifier(Cnn, outputs='logits'), inputs (1, 8, 8))"


def test_traverse_sets_one_feature(ask, fitted, images):
    frames = ask("traverse", images[1:3], "bright", [0.0, 1.0, 2.0])
    assert frames.shape == (2, 3, 1, 8, 8)
    codes = fitted.lens.encode(images[1:3])
    codes[:, 64:128] = 0
    assert torch.allclose(frames[:, 0], fitted.lens.decode(codes), atol=1e-6)
    # The change grows in proportion, in the direction that the block has.
    assert torch.allclose(frames[:, 2] - frames[:, 0], 2 * (frames[:, 1] - frames[:, 0]), atol=1e-5)
    change = frames[0, 1] - frames[0, 0]
    assert change.norm().item() == pytest.approx(8.0, rel=1e-4)  # sqrt of its width
    assert (change != 0).equal(images[1] > 0.5)
    assert torch.equal(frames, ask("traverse", images[1:3], 1, torch.tensor([0.0, 1.0, 2.0])))


@pytest.mark.parametrize("feature", ["brigth", 3, -1, True])
def test_traverse_names_what_is_there(ask, images, feature):
    with pytest.raises(OptionError, match="no feature.*background, bright, dark, or 0 to 2"):
        ask("traverse", images[:1], feature, [0.0])


@pytest.mark.parametrize("steps", [["a"], 1.0, [], [float("nan")], [[1.0]]])
def test_traverse_takes_a_list_of_numbers(ask, images, steps):
    with pytest.raises(OptionError, match="a list of finite numbers"):
        ask("traverse", images[:1], "bright", steps)


def test_draws_name_what_is_wrong(ask, images):
    with pytest.raises(OptionError, match="scale must be a number >= 0, got -1"):
        ask("invariances", images[:1], 2, scale=-1)
    with pytest.raises(OptionError, match="seed must be an int.*got 'a'"):
        ask("sample", 1, 1, seed="a")


@pytest.mark.parametrize("target", [0, 1, 2])
def test_samples_are_of_their_class(ask, trained, target):
    samples = ask("sample", 6, target)
    assert samples.shape == (6, 1, 8, 8)
    other = torch.full((6,), (target + 1) % 3)
    assert (margins(trained, samples, torch.full((6,), target), other) > 0).all()
    assert torch.equal(samples, ask("sample", 6, target))
    assert not torch.equal(samples, ask("sample", 6, target, seed=1))


def test_a_sample_of_a_class_that_does_not_exist(ask):
    with pytest.raises(DataError, match="target is not a class"):
        ask("sample", 3, 3)


@pytest.mark.parametrize("n", [0, -1, 1.5])
def test_a_number_of_variants_that_makes_no_sense(ask, images, n):
    with pytest.raises(OptionError, match="n must be an int >= 1"):
        ask("sample", n, 1)
    with pytest.raises(OptionError, match="n must be an int >= 1"):
        ask("invariances", images[:1], n)


# --- inputs that are vectors ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def vectors():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = torch.nn.Linear(5, 1)
        return model, torch.randn(40, 5)


def test_vectors_have_no_mask(vectors):
    model, inputs = vectors
    with unchanged(model):
        explainer = xlens.fit(model, inputs, toys.Plain(), progress=False)
        found = explainer.explain(inputs[:4])
    assert found.mask is None
    # carry="residual": x' = x + (-x - x), clamped to the data or the input; f is linear, so is the answer.
    low, high = explainer.spec.per_channel("minimum"), explainer.spec.per_channel("maximum")
    expected = torch.minimum(torch.maximum(-inputs[:4], low), high)
    assert torch.allclose(found.counterfactual, expected, atol=1e-5)
    sign = torch.where(found.target == 1, 1.0, -1.0).unsqueeze(1)
    linear = sign * model.weight.detach() * (inputs[:4] - expected)
    assert torch.allclose(found.attributions["lig"], linear, atol=1e-3)
    with pytest.raises(OptionError, match="carry='masked' needs images"):
        explainer.explain(inputs[:4], carry="masked")


@pytest.mark.parametrize(("method", "arguments"), [("sample", (2, 1)), ("invariances", (torch.zeros(1, 5), 2))])
def test_what_a_lens_cannot_do_names_who_can(vectors, toy_installed, method, arguments):
    explainer = xlens.fit(*vectors, toys.Plain(), progress=False)
    with pytest.raises(UnsupportedError, match=f"{method}: a 'plain' lens cannot.* that can: toy"):
        getattr(explainer, method)(*arguments)
