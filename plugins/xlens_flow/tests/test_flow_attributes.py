"""Attributes as conditions of the flow: guidance toward them in closed form, and edits by name on real digits."""

import pytest
import torch
from guard import unchanged
from toys import linear_classifier, spec
from xlens_flow import RectifiedFlow
from xlens_flow.guidance import terms_of, with_attributes
from xlens_flow.lens import FlowLens
from xlens_flow.velocities import Velocities

import xlens
from xlens.errors import DataError, OptionError

WIDTH, SPREAD = 3, 0.5
CENTRES = torch.tensor([[1.0, 0.0, -0.5], [-1.0, 0.3, 0.0]])
OFFSETS = torch.tensor([[0.0, 0.4, 0.2], [0.3, 0.0, -0.6]])


class Shifted(Velocities):
    """The exact velocity to a Gaussian for each class, which attributes shift; 0 where they are not observed."""

    num_attributes = 2

    def __init__(self):
        super().__init__(spec((WIDTH,)))

    def standardised(self, inputs):
        return inputs

    def restored(self, states):
        return states

    def forward(self, states, times, conditions):
        classes, values, observed = conditions.split([2, 2, 2], 1)
        assert (values[observed == 0] == 0).all()
        centre = classes @ CENTRES + values @ OFFSETS
        t = times[:, None]
        variance = (1 - t) ** 2 + (t * SPREAD) ** 2
        return centre + (t * SPREAD**2 - (1 - t)) / variance * (states - t * centre)


def test_an_attribute_moves_by_its_weight_as_far_as_its_condition_says():
    options = {"ode_steps": 48, "corrections": 0, "tolerance": 0.0, "strongest": 2.0, "depth": 1.0, "guidance": 1.0}
    lens = FlowLens(linear_classifier((WIDTH,)), spec((WIDTH,)), Shifted(), **options)
    noise = torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(0))
    weights = torch.tensor([0.0, 1.0, 0.7, -1.5])[:, None].expand(5, -1, 48)
    found = lens.decode(lens.joined(noise, weights))
    torch.testing.assert_close(
        found, CENTRES[1] + 0.7 * OFFSETS[0] - 1.5 * OFFSETS[1] + SPREAD * noise, atol=2e-3, rtol=0
    )
    assert [feature.name for feature in lens.features][-2:] == ["attribute 1", "attribute 2"]
    assert lens.features[-1].dims[-1] == lens.encode(found).shape[1] - 1
    # An input is what it is: no attribute is asked for.
    assert (lens.encode(found)[:, -2 * 48 :] == 0).all()


def test_all_weights_of_conditions_sum_to_one():
    conditions, shares = terms_of(torch.tensor([[3.0, -2.0], [0.4, 0.6], [0.0, 0.0]]))
    strengths = torch.tensor([[0.0, 2.0], [-0.5, 0.0], [1.0, -1.0]])
    conditions, shares = with_attributes(conditions, shares, strengths)
    torch.testing.assert_close(shares.sum(0), torch.ones(3))
    # With neither class nor any attribute there is no condition at all, which is all zeros.
    assert (conditions[2] == 0).all()
    assert conditions.shape == (5, 3, 6)
    assert conditions[3, 1].tolist() == pytest.approx([0.4, 0.6, -1, 0, 1, 0])


@pytest.fixture(scope="module")
def ink(digits):
    """Whether the upper half has much ink, not observed on a third of the images; and how much the left has."""
    _, images = digits
    upper = images.train[:, 0, :4].mean((1, 2))
    table = torch.stack([(upper > upper.median()).float(), images.train[:, 0, :, :4].mean((1, 2))], 1)
    table[::3, 0] = float("nan")
    return table


@pytest.fixture(scope="module")
def fitted(digits, ink):
    model, images = digits
    options = {"network": "dense", "hidden": 96, "ode_steps": 6, "batch_size": 48, "learning_rate": 3e-3}
    names = ("upper ink", "left ink")
    with unchanged(model):
        return xlens.fit(
            model, images.train, "flow", steps=600, side_info=ink, attributes=names, progress=False, **options
        )


def test_an_edit_by_name_brings_the_attribute_and_keeps_the_class(fitted, digits):
    model, images = digits
    x = images.test[:40]
    with unchanged(model):
        more, less = (fitted.edit(x, {"upper ink": amount}, carry="none") for amount in (2.0, -2.0))
        wider = fitted.edit(x, {"left ink": 1.0}, carry="none")
        plain = fitted.edit(x, {"left ink": 0.0}, carry="none")
    upper = [images_[:, 0, :4].mean() for images_ in (less, plain, more)]
    # One standard deviation over the images is .04.
    assert upper[0] + 0.01 < upper[1] < upper[2] - 0.01
    left = [one[:, 0, :, :4].mean((1, 2)) for one in (plain, wider)]
    assert ((left[1] - left[0]) > 0.01).float().mean() >= 0.9
    assert (plain - x).abs().mean() < 0.02
    decided = model(x).argmax(1)
    for edited in (more, less, wider):
        assert (model(edited).argmax(1) == decided).float().mean() >= 0.9


def test_samples_have_the_attributes_that_are_asked_for(fitted, digits):
    model, _ = digits
    drawn = [fitted.sample(40, 1, attributes={"upper ink": value}) for value in (-2.0, 2.0)]
    upper = [images[:, 0, :4].mean() for images in drawn]
    assert upper[1] > upper[0] + 0.03
    for images in drawn:
        assert (model(images).argmax(1) == 1).float().mean() >= 0.8


def test_a_counterfactual_asks_for_no_attribute_and_credits_none(fitted, digits):
    _, images = digits
    explanation = fitted.explain(images.test[:4])
    names = [feature.name for feature in fitted.lens.features]
    assert names[-2:] == ["upper ink", "left ink"]
    assert explanation.fidelity.agrees.all()
    credited = explanation.feature_contributions
    assert (credited[:, -2:] == 0).all()
    assert (credited[:, 1:-2] != 0).any()


def test_save_and_load_keep_attributes(fitted, digits, tmp_path):
    model, images = digits
    fitted.save(tmp_path / "lens")
    again = xlens.load(tmp_path / "lens", model)
    x = images.test[:3]
    torch.testing.assert_close(again.edit(x, {"left ink": 1.0}), fitted.edit(x, {"left ink": 1.0}))


def test_attributes_that_do_not_fit_are_refused(digits, ink):
    model, images = digits
    given = {"steps": 1, "progress": False}
    with pytest.raises(OptionError, match="flow: attributes are named, but there are none"):
        xlens.fit(model, images.train, "flow", attributes=("a",), **given)
    with pytest.raises(OptionError, match="flow: .*cannot be called 'everything else'"):
        xlens.fit(model, images.train, "flow", attributes=("everything else", "b"), side_info=ink, **given)
    with pytest.raises(DataError, match="flow: column 1 of side_info cannot be learned.*fewer than two values"):
        constant = torch.cat([ink[:, :1], torch.ones(len(ink), 1)], 1)
        xlens.fit(model, images.train, "flow", side_info=constant, **given)
    assert RectifiedFlow(attributes=("a",)).build(linear_classifier((5,)), spec((5,))).attribute_names == ("a",)
