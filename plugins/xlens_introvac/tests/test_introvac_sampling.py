"""Samples of the IntroVAC lens: its chains against a known posterior, its calibration, and what it refuses."""

import math

import pytest
import torch
import torch.nn.functional as F
from small_introvac import built
from torch import nn
from xlens_introvac import IntroVAC
from xlens_introvac.backend import _SCHEDULES
from xlens_introvac.calibration import calibrate
from xlens_introvac.langevin import SamplingError, langevin, split_r_hat

import xlens
from xlens.errors import OptionError, XlensWarning


def test_langevin_finds_mean_and_covariance_of_a_known_posterior():
    # Prior N(0, I), one observation b = a.z + noise of variance s: the posterior is Gaussian.
    a, b, s = torch.tensor([1.0, 2.0, -0.5]), 3.0, 0.5
    precision = torch.eye(3) + torch.outer(a, a) / s
    covariance = precision.inverse()
    mean = covariance @ a * b / s

    def potential(z):
        return z.square().sum(1) / 2 + (z @ a - b).square() / (2 * s)

    generator = torch.Generator().manual_seed(0)
    start = torch.randn(40_000, 3, generator=generator)
    found = langevin(potential, start, step=0.08, steps=400, generator=generator)
    # Each entry within 2% of itself, on top of three standard errors of so many independent draws.
    variances = covariance.diagonal()
    error = (variances / len(start)).sqrt()
    assert ((found.codes.mean(0) - mean).abs() <= 0.02 * mean.abs() + 3 * error).all()
    error = ((torch.outer(variances, variances) + covariance.square()) / len(start)).sqrt()
    assert ((found.codes.T.cov() - covariance).abs() <= 0.02 * covariance.abs() + 3 * error).all()
    assert 0.5 < found.acceptance < 0.99
    assert found.r_hat < 1.2
    # The plain iteration has a known bias, which the test removes: its variance is 1 / (p (1 - a p / 2)).
    plain = langevin(potential, start, step=0.08, steps=120, generator=generator, metropolis=False)
    steepest = F.normalize(a, dim=0)
    p = float(steepest @ precision @ steepest)
    variance = float((plain.codes @ steepest).var())
    assert variance == pytest.approx(1 / (p * (1 - 0.08 * p / 2)), rel=0.03)
    assert variance > 1.3 * float((found.codes @ steepest).var())


def test_the_density_given_attributes_is_that_of_independent_readings():
    lens = built(attributes=2)
    lens.head.attribute_bias.copy_(torch.tensor([0.3, -0.2]))
    z, s = torch.randn(5, 7), lens.sharpness
    read = lens.head.read_attributes(z)
    yes, number = torch.distributions.Bernoulli(logits=read[:, 0]), torch.distributions.Normal(read[:, 1], 1.0)
    log_p = yes.log_prob(torch.zeros(5)) + number.log_prob(torch.tensor(1.5)) + 0.5 * math.log(2 * math.pi)
    asked = {"attribute 0": False, "attribute 1": 1.5}
    torch.testing.assert_close(lens.potential(z, None, asked), -s * log_p + z.square().sum(1) / 2)
    classes = lens.class_logits(z).log_softmax(1)[:, 2]
    torch.testing.assert_close(lens.potential(z, 2, asked), -s * (log_p + classes) + z.square().sum(1) / 2)
    torch.testing.assert_close(lens.potential(z, 2, {}), lens.potential(z, 2))


def test_chains_given_attributes_have_the_moments_of_the_known_posterior():
    """Two measured attributes: a Gaussian prior and linear readings, whose posterior is Gaussian."""
    lens = built(attributes=2, sharpness=1.0, langevin_steps=400, langevin_step=0.2)
    w, wanted = lens.head.attributes.copy_(torch.randn(2, 7)), torch.tensor([2.0, -1.0])
    precision = torch.eye(7) + w.T @ w
    mean = torch.linalg.solve(precision, w.T @ wanted)
    chains = langevin(
        lambda z: lens.potential(z, None, {"attribute 0": 2.0, "attribute 1": -1.0}),
        torch.randn(3000, 7),
        step=0.2,
        steps=300,
        generator=torch.Generator().manual_seed(0),
    )
    torch.testing.assert_close(chains.codes.mean(0), mean, atol=0.08, rtol=0)
    torch.testing.assert_close(chains.codes.T.cov(), torch.linalg.inv(precision), atol=0.1, rtol=0)


def test_the_papers_rate_is_halved_three_times():
    epochs = [IntroVAC.paper().schedule, *(_SCHEDULES["halved"](e / 150) for e in (0, 59, 60, 90, 119, 120, 149))]
    assert epochs == ["halved", 1, 1, 0.5, 0.25, 0.25, 0.125, 0.125]
    assert _SCHEDULES["constant"](0.99) == 1


def test_chains_that_diverge_are_said_and_not_returned():
    lens = built(metropolis=False, langevin_step=3.0)
    with pytest.raises(SamplingError, match=r"diverged.*step of 3\..*lower langevin_step, or set metropolis=True"):
        lens.sample(4, 1, torch.Generator().manual_seed(0))
    # The Metropolis test rejects what would not come back.
    lens.metropolis = True
    assert lens.draw(4, 1, torch.Generator().manual_seed(0)).codes.isfinite().all()
    lens.metropolis, lens.langevin_step = False, 0.05
    assert lens.draw(4, 1, torch.Generator().manual_seed(0)).codes.abs().max() < 10


def test_decodings_on_which_f_gives_no_number_come_last():
    lens = built()
    first, second = lens.classifier.model[1].weight.data[:2].clone()

    class Patchy(nn.Module):
        def forward(self, inputs):
            lost = inputs[:, :1] > inputs[:, :1].median()
            return torch.where(lost, torch.nan, inputs[:, 1:4])

    lens._classifier = [xlens.Classifier(Patchy())]
    drawn = lens.draw(8, 1, torch.Generator().manual_seed(0))
    assert lens.classifier(drawn.inputs).shape == (8, 3)
    assert drawn.accepted_by_classifier <= 0.5
    assert len(drawn.inputs) == 8


@pytest.mark.parametrize(("n", "target"), [(0, 1), (2.0, 1), (True, 1), (3, 3), (3, -1), (3, "1"), (3, True)])
def test_draw_refuses_what_is_no_number_or_class(n, target):
    with pytest.raises(OptionError, match="draw: (n|target) is wrong.*an int"):
        built().draw(n, target, torch.Generator().manual_seed(0))


def test_a_row_is_its_own_chain():
    """A potential is per row: the force on one sample does not depend on how many others there are."""
    lens = built(sharpness=2.0)
    codes = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    together = lens.potential(codes, 1)
    alone = torch.cat([lens.potential(codes[i : i + 1], 1) for i in range(5)])
    torch.testing.assert_close(together, alone)
    p = lens.head(codes)[:, :-1].softmax(1)[:, 1]
    torch.testing.assert_close(together, -2 * p.log() + codes.square().sum(1) / 2)


def test_calibration_finds_the_scale_and_offsets_that_made_the_answers():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(20_000, 3, generator=generator)
    offsets = torch.tensor([1.0, -0.5, -0.5])
    answers = torch.multinomial((2.5 * logits + offsets).softmax(1), 1, generator=generator)[:, 0]
    scale, found = calibrate(logits, answers)
    assert scale == pytest.approx(2.5, rel=0.05)
    torch.testing.assert_close(found - found.mean(), offsets, atol=0.08, rtol=0)
    # A class that never occurs gets a finite offset that keeps it away.
    _, found = calibrate(logits, answers.clamp(max=1))
    assert found.isfinite().all()
    assert found[2] < found[:2].min() - 1


def test_r_hat_sees_chains_that_have_not_met():
    generator = torch.Generator().manual_seed(0)
    mixed = torch.randn(400, 6, 2, generator=generator)
    assert split_r_hat(mixed) < 1.02
    assert split_r_hat(mixed + torch.arange(6.0).view(1, 6, 1)) > 1.5
    assert split_r_hat(mixed + torch.linspace(0, 4, 400).view(-1, 1, 1)) > 1.3


def test_a_class_that_is_never_reached_is_said():
    lens = built()
    lens.classifier.model[1].weight.data.zero_()
    lens.classifier.model[1].bias.data.copy_(torch.tensor([0.0, 0.0, 9.0]))
    with pytest.warns(XlensWarning, match="classifier puts only 0% of the decodings in class 1; 4 of 4 samples"):
        samples = lens.sample(4, 1, torch.Generator().manual_seed(0))
    assert samples.shape == (4, 6)
