"""Likelihoods against closed forms and slow Jacobians, and the flow as a second opinion on a classifier."""

import math

import pytest
import torch
import torch.nn.functional as F
import xlens_flow
from guard import unchanged
from toys import spec
from xlens_flow.likelihood import all_directions, log_likelihoods, random_directions
from xlens_flow.networks import Flow
from xlens_flow.ode import backward
from xlens_flow.velocities import Velocities

import xlens
from xlens.errors import OptionError

WIDTH = 5
CPU = torch.device("cpu")


class Normal(Velocities):
    """The exact velocity of a rectified flow to one Gaussian for each class, of its own mean and spread."""

    means = torch.tensor([[0.5, 0.0, -1.0, 0.2, 0.1], [-0.5, 1.0, 0.3, 0.0, 0.0]])
    spreads = torch.tensor([[0.5], [1.5]])

    def __init__(self):
        super().__init__(spec((WIDTH,)))

    def forward(self, states, times, conditions):
        t, mean, spread = times[:, None], conditions @ self.means, conditions @ self.spreads
        return mean + (t * spread**2 - (1 - t)) / ((1 - t) ** 2 + (t * spread) ** 2) * (states - t * mean)


def test_likelihoods_of_a_linear_flow_are_those_of_its_gaussians():
    flow = Normal()
    x = torch.randn(7, WIDTH, generator=torch.Generator().manual_seed(0)) * flow.scale + flow.middle
    assert float(flow.scale.max()) != 1  # densities are per unit of the data, not of the flow
    for c in (0, 1):
        classes = F.one_hot(torch.tensor(c), 2).float().expand(7, 2)
        found = log_likelihoods(flow, x, classes, 128, all_directions((WIDTH,), CPU)).mean(1)
        normal = torch.distributions.Normal(flow.restored(flow.means[c]), flow.scale * flow.spreads[c])
        torch.testing.assert_close(found, normal.log_prob(x).sum(1), atol=5e-3, rtol=0)


@pytest.fixture(scope="module")
def rough():
    """A network of random weights, whose velocity is anything but linear."""
    torch.manual_seed(0)
    flow = Flow(spec((WIDTH,)), dense=True, hidden=24, width=8)
    for parameter in flow.parameters():
        torch.nn.init.normal_(parameter, 0, 0.25)
    return flow.requires_grad_(False)


def test_likelihoods_are_what_the_whole_jacobian_says(rough):
    x = torch.rand(3, WIDTH, generator=torch.Generator().manual_seed(1))
    condition = torch.tensor([[0.3, 0.7]])

    def noise_of(one):
        def velocity(states, time, step, rows):
            return rough(states, states.new_full((1,), time), condition)

        return backward(velocity, rough.standardised(one[None]), 200)[0]

    found = log_likelihoods(rough, x, condition.expand(3, 2), 200, all_directions((WIDTH,), CPU)).mean(1)
    for one, value in zip(x, found, strict=True):
        noise = noise_of(one)
        jacobian = torch.autograd.functional.jacobian(noise_of, one)
        slow = -noise.square().sum() / 2 - WIDTH / 2 * math.log(2 * math.pi) + jacobian.slogdet().logabsdet
        torch.testing.assert_close(value, slow, atol=2e-3, rtol=0)


def test_hutchinsons_estimate_is_unbiased_and_as_uncertain_as_it_says(rough):
    x, conditions = torch.rand(4, WIDTH, generator=torch.Generator().manual_seed(2)), torch.eye(2)[[0, 1, 0, 1]]
    exact = log_likelihoods(rough, x, conditions, 24, all_directions((WIDTH,), CPU)).mean(1)
    probes = random_directions(200, (WIDTH,), torch.Generator().manual_seed(0))
    found = log_likelihoods(rough, x, conditions, 24, probes)
    error = found.std(1) / 200**0.5
    assert (error > 1e-4).all()
    assert ((found.mean(1) - exact).abs() / error).max() < 4


@pytest.fixture(scope="module")
def fitted(digits):
    model, images = digits
    options = {"network": "dense", "hidden": 96, "ode_steps": 6, "batch_size": 64, "learning_rate": 3e-3}
    return xlens.fit(model, images.train, "flow", steps=300, progress=False, **options)


def test_the_likeliest_digit_is_the_right_one(fitted, digits):
    model, images = digits
    x, labels = images.test[:40], images.test_labels[:40]
    with unchanged(model):
        found = xlens_flow.generative_classifier(fitted, x, probes=4, steps=8)
    assert (found.likeliest == labels).float().mean() >= 0.9
    assert found.log_likelihoods.shape == (40, 2)
    assert (found.decided == model(x).argmax(1)).all()
    # Its own difference, of the decided class and the other, and how sure it is of it.
    other = found.log_likelihoods.gather(1, 1 - found.decided[:, None]) - found.log_likelihoods.gather(
        1, found.decided[:, None]
    )
    torch.testing.assert_close(found.differences, -other[:, 0], atol=1e-3, rtol=1e-4)
    assert (found.standard_errors > 0).all()
    assert (found.standard_errors < found.differences.abs().median()).float().mean() >= 0.9


def test_it_says_where_it_disagrees(fitted, digits):
    model, images = digits
    x = images.test[:6]
    # A classifier that says the opposite of what the flow was fitted on.
    with torch.no_grad():
        flipped = torch.nn.Sequential(model, torch.nn.Linear(2, 2, bias=False))
        flipped[1].weight.copy_(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    before = xlens_flow.generative_classifier(fitted, x, probes=2, steps=4)
    fitted.lens._classifier[0] = xlens.Classifier(flipped)
    try:
        found = xlens_flow.generative_classifier(fitted, x, probes=2, steps=4)
    finally:
        fitted.lens._classifier[0] = fitted.classifier
    assert before.disagrees.float().mean() <= 0.34
    assert found.disagrees.float().mean() >= 0.66
    first = int(found.disagrees.nonzero()[0, 0])
    assert found.verdict()[0].startswith(f"input {first}: the classifier says ")
    assert found.verdict()[-1].endswith("of the inputs")
    assert len(found.verdict()) == int(found.disagrees.sum()) + 1


def test_what_it_cannot_compare_is_refused(fitted, digits):
    _, images = digits
    x = images.test[:2]
    for wrong in ((0,), (0, 0), (0, 2)):
        with pytest.raises(OptionError, match="classes are wrong.*two or more different ones of 0 to 1"):
            xlens_flow.generative_classifier(fitted, x, classes=wrong)
    with pytest.raises(OptionError, match="one probe has no standard error"):
        xlens_flow.generative_classifier(fitted, x, probes=1)
    with pytest.raises(OptionError, match="steps must be an int >= 1"):
        xlens_flow.generative_classifier(fitted, x, steps=0)
    exact = xlens_flow.generative_classifier(fitted, x[:1], probes=None, steps=2)
    assert float(exact.standard_errors) == 0
