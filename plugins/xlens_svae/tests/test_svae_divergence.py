"""The SVAE lens's divergence, and its attributions: that what they say adds up."""

import pytest
import torch
from guard import unchanged
from torch import distributions as D

from xlens.errors import DataError, OptionError, XlensWarning
from xlens.evaluation import divergence_attributions


def normal(gaussian):
    return D.Independent(D.Normal(gaussian.mean, (0.5 * gaussian.log_variance).exp()), 1)


@pytest.mark.parametrize("part", ["class", "nuisance"])
def test_divergence_is_the_kl_between_the_posteriors(fitted, digits, part):
    x, other = digits.test[:6], digits.test[6:12]
    model = fitted.lens.model
    with torch.no_grad():
        found = fitted.lens.divergence(x, other, part)
        one, two = (normal(model.predictive(model.trunk(values))).base_dist for values in (x, other))
    dims = slice(0, 6) if part == "class" else slice(6, None)
    torch.testing.assert_close(found, D.kl_divergence(one, two)[:, dims].sum(1), rtol=1e-4, atol=1e-4)
    assert not fitted.lens.divergence(x, x, part).any()


def test_m2s_divergence_of_the_class_part_is_between_categoricals(baseline, digits):
    x, other = digits.test[:6], digits.test[6:12]
    model = baseline.lens.model
    with torch.no_grad():
        one, two = (D.Categorical(logits=model.head(model.trunk(values))) for values in (x, other))
        torch.testing.assert_close(baseline.lens.divergence(x, other, "class"), D.kl_divergence(one, two))
        assert (baseline.lens.divergence(x, other, "nuisance") > 0).all()


@pytest.mark.parametrize("part", ["class", "nuisance"])
def test_complete_methods_sum_to_the_divergence(fitted, digits, part):
    x, other = digits.test[:4], digits.test[4:12].view(4, 2, 1, 8, 8)
    with unchanged(digits.model):
        found = divergence_attributions(fitted, x, other, part, "integrated_gradients", {"n_steps": 200})
    with torch.no_grad():
        expected = fitted.lens.divergence(x.repeat_interleave(2, 0), other.flatten(0, 1), part).view(4, 2)
    assert found.complete
    assert found.attributions.shape == (4, 2, 1, 8, 8)
    torch.testing.assert_close(found.divergence, expected)
    torch.testing.assert_close(found.attributions.sum((2, 3, 4)), expected, rtol=0.02, atol=1e-3)
    sums = found.attributions.double().sum((2, 3, 4))
    torch.testing.assert_close(found.convergence_delta.double(), sums - expected.double(), rtol=0, atol=1e-3)
    # A pixel in which the variant does not differ from its baseline gets nothing.
    same = other == x[:, None]
    assert same.any()
    assert not found.attributions[same].any()


def test_divergence_attributions_are_captums_own(fitted, digits):
    from captum.attr import InputXGradient

    x, other = digits.test[:3], digits.test[3:6]
    found = divergence_attributions(fitted, x, other, "nuisance", "input_x_gradient")
    one = InputXGradient(lambda values: fitted.lens.divergence(x[1:2], values, "nuisance"))
    expected = one.attribute(other[1:2].clone().requires_grad_())[0]
    torch.testing.assert_close(found.attributions[1], expected)
    assert not found.complete


def test_gradient_shap_takes_each_rows_own_input_as_its_baseline(fitted, digits):
    x, other = digits.test[:3], digits.test[3:6]
    options = {"n_samples": 200, "stdevs": 0.0}
    together = divergence_attributions(fitted, x, other, "class", options=options)
    alone = divergence_attributions(fitted, x[1], other[1], "class", options=options)
    torch.testing.assert_close(together.attributions[1], alone.attributions[0])
    # It is an expectation over points of the path, so it sums to the divergence up to its noise.
    torch.testing.assert_close(together.attributions.sum((1, 2, 3)), together.divergence, rtol=0.3, atol=0.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"part": "z1"}, "part must be 'class' or 'nuisance', got 'z1'"),
        ({"method": "gradient_shup"}, "unknown method 'gradient_shup'.*Did you mean 'gradient_shap'"),
        ({"options": {"samples": 3}}, "Did you mean 'n_samples'"),
        ({"options": ["abs"]}, "options must be a dict"),
        ({"options": {"baselines": 0}}, "baselines cannot be set: the input is the baseline"),
        ({"method": "deep_lift"}, "'deep_lift' has no rules for what a divergence is made of"),
        ({"method": "deep_lift", "part": "z1"}, "part must be.*; 'deep_lift' has no rules"),
    ],
)
def test_what_cannot_be_attributed_is_named(fitted, digits, arguments, message):
    with pytest.raises(OptionError, match=message):
        divergence_attributions(fitted, digits.test[:1], digits.test[1:2], **arguments)


@pytest.mark.parametrize("method", ["integrated_gradients", "shapley_value_sampling", "shapley_values"])
def test_every_method_that_promises_the_sum_keeps_it(fitted, digits, method):
    from xlens.attr.captum_methods import captum_names, promises_completeness
    from xlens.explaining.divergences import _NO_RULE

    every = {m for m in captum_names() if promises_completeness(m) and not m.startswith("layer_")}
    assert every - set(_NO_RULE) == {"integrated_gradients", "shapley_value_sampling", "shapley_values"}
    options = {"n_steps": 200} if method == "integrated_gradients" else {}
    found = divergence_attributions(fitted, digits.test[:2], digits.test[2:4], "class", method, options)
    assert found.complete
    assert (found.convergence_delta.abs() / found.divergence).max() < 0.02


def test_a_promised_sum_that_is_missed_is_said(fitted, digits):
    with pytest.warns(XlensWarning, match="2 of 2 attributions by 'integrated_gradients' miss their sum"):
        found = divergence_attributions(
            fitted, digits.test[:2], digits.test[2:4], "class", "integrated_gradients", {"n_steps": 1}
        )
    assert (found.convergence_delta.abs() > 0.05 * found.divergence).all()


@pytest.mark.parametrize("variants", ["abc", None, [[1.0], [1.0, 2.0]], "invariances"])
def test_variants_are_tensors(fitted, digits, variants):
    variants = fitted.invariances(digits.test[:1], 2) if variants == "invariances" else variants
    with pytest.raises(DataError, match="variants are no tensor or array.*invariances.inputs, n..variants"):
        divergence_attributions(fitted, digits.test[:1], variants)


@pytest.mark.filterwarnings("ignore::xlens.errors.XlensWarning")
def test_no_number_of_a_divergence_is_infinite(fitted, digits):
    with pytest.raises(DataError, match="a number is not finite"):
        divergence_attributions(fitted, digits.test[:1], digits.test[:1] + 1e22, method="saliency")


def test_variants_have_to_fit_their_inputs(fitted, digits):
    with pytest.raises(DataError, match=r"\(2, \*S\) or \(2, n, \*S\)"):
        divergence_attributions(fitted, digits.test[:2], digits.test[:3])
