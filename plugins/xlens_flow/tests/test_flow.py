"""The flow backend: shapes, refusals, a fit that failed says so, and that it learns real digits."""

import pytest
import torch
import xlens_flow
from guard import unchanged
from toys import linear_classifier, spec
from xlens_flow import FlowLens, RectifiedFlow
from xlens_flow.networks import Flow

import xlens
from xlens.errors import DataError, OptionError, UnsupportedError, XlensWarning

SHAPES = [(1, 8, 8), (1, 8, 30), (3, 37, 20), (2, 64, 64), (3, 6, 7), (20,)]
QUICK = {
    "network": "dense",
    "hidden": 96,
    "ode_steps": 6,
    "batch_size": 64,
    "learning_rate": 3e-3,
    "progress": False,
}


@pytest.fixture(scope="module")
def fitted(digits):
    model, images = digits
    with unchanged(model):
        return xlens.fit(model, images.train, "flow", steps=300, **QUICK)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "x".join(map(str, s)))
def test_any_shape_has_codes_that_decode_to_it(shape):
    lens = RectifiedFlow(width=4, hidden=8, ode_steps=2).build(linear_classifier(shape), spec(shape)).eval()
    # Nothing is learned yet, and the last layer is silent: noise and data are the same but for their units.
    inputs = torch.rand(3, *shape)
    with torch.no_grad():
        codes = lens.encode(inputs)
        assert codes.shape == (3, torch.Size(shape).numel() + 2 * 2)
        torch.testing.assert_close(lens.decode(codes), inputs)


def test_images_get_convolutions_unless_they_are_too_small():
    def kind(shape, **options):
        return type(RectifiedFlow(**options).build(linear_classifier(shape), spec(shape)).flow.network).__name__

    assert [kind((1, 8, 8)), kind((1, 7, 9)), kind((20,))] == ["_UNet", "_Dense", "_Dense"]
    assert kind((1, 8, 8), network="dense") == "_Dense"
    with pytest.raises(UnsupportedError, match="sides of at least 8 pixels.*set network='dense'"):
        kind((20,), network="convolutional")
    with pytest.raises(OptionError, match="Did you mean 'depth'"):
        RectifiedFlow(dept=3)


def test_time_and_condition_reach_the_velocity():
    torch.manual_seed(0)
    for shape in ((1, 8, 8), (20,)):
        flow = Flow(spec(shape), dense=len(shape) == 1, hidden=16, width=8)
        for parameter in flow.parameters():
            torch.nn.init.normal_(parameter, 0, 0.2)
        states, times = torch.randn(1, *shape).expand(4, *shape), torch.tensor([0.2, 0.7, 0.2, 0.2])
        conditions = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
        with torch.no_grad():
            found = flow(states, times, conditions)
        assert all((found[0] - other).abs().max() > 1e-3 for other in found[1:])


def test_it_learns_digits(fitted, digits):
    model, images = digits
    with unchanged(model):
        explanation = fitted.explain(images.test[:12], n_steps=4)
        error = xlens_flow.inversion_error(fitted, images.test)
    assert fitted.mask is None
    figures = explanation.fidelity
    assert figures.agrees.all()
    assert figures.flips.float().mean() >= 0.8
    assert error.mean() <= 1e-3
    # What is kept at the fit is of the same size as what is found on other inputs.
    assert 0.1 <= float(fitted.lens.inversion_error) / float(error.mean()) <= 10
    summed = explanation.attributions["lig"].flatten(1).sum(1)
    whole = explanation.scores - explanation.counterfactual_scores
    assert ((summed - whole).abs() <= 0.02 * whole.abs() + 1e-3).float().mean() >= 0.9
    for c in (0, 1):
        assert (model(fitted.sample(60, c)).argmax(1) == c).float().mean() >= 0.8


def test_the_more_weight_the_more_the_classifier_sees_of_a_class(fitted, digits):
    model, images = digits
    shown = images.test[:16]
    frames = fitted.traverse(shown, f"evidence for {fitted.classifier.names(2)[1]}", [0.0, 1.0, 3.0])
    scores = torch.stack([(m := model(frames[:, i]))[:, 1] - m[:, 0] for i in range(3)])
    assert (scores.mean(1).diff() > 0).all()


def test_a_mask_is_fitted_where_one_is_asked_for(digits):
    model, images = digits
    few = xlens.MaskOptions(steps=2, pool=16)
    with pytest.warns(XlensWarning, match="not sound"):
        explainer = xlens.fit(model, images.train, "flow", steps=1, mask=few, **QUICK)
    assert explainer.mask is not None
    assert explainer.counterfactual(images.test[:2]).shape == (2, 1, 8, 8)


def test_a_fit_that_failed_says_so(digits):
    model, images = digits
    with pytest.warns(XlensWarning, match="not sound: .*counterfactuals change.*Raise steps"):
        xlens.fit(model, images.train, "flow", steps=1, **QUICK)


def test_calls_of_its_own_refuse_other_lenses(digits, fitted):
    model, images = digits
    other = xlens.fit(
        model, images.train, "svae", steps=1, hidden=8, mask=xlens.MaskOptions(steps=1, pool=8), progress=False
    )
    with pytest.raises(UnsupportedError, match=FlowLens.__name__):
        xlens_flow.inversion_error(other, images.test)
    with pytest.raises(DataError, match="shape"):
        xlens_flow.inversion_error(fitted, images.test[..., 1:])
