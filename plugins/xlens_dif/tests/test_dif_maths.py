"""The DIF backend: separation, play, sparse models and health, against slow references."""

import copy
import dataclasses
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from torch import nn
from toys import linear_classifier, run_for, spec
from xlens_dif import DIF
from xlens_dif.health import Health, examine
from xlens_dif.objective import Objective, Terms, penalty
from xlens_dif.posterior import Posterior, bounded
from xlens_dif.separation import Statistic, hardly_compared, logistic_separation, mean_embedding_separation
from xlens_dif.sparse import PENALTIES, non_sparse, sparse_path

from xlens.data import as_data
from xlens.training import Trainer

TERMS = Terms(
    game="exponential",
    separation="me",
    reconstruction=4.0,
    prior=1.0,
    play=0.5,
    margin=1.25,
    fixed_margin=None,
    sharpness=0.3,
    share=0.1,
    eta=None,
    statistic=Statistic(),
    bound=3.0,
)


def slow_statistic(x, y, at, ridge):
    """Equation 1, a feature at a time."""
    h1, h2 = (np.array([[float(row @ v) for v in at] for row in rows]) for rows in (x, y))
    n1, n2 = len(h1), len(h2)
    pooled = ((n1 - 1) * np.cov(h1.T) + (n2 - 1) * np.cov(h2.T)) / (n1 + n2 - 2)
    pooled += ridge * np.trace(pooled) / len(at) * np.eye(len(at))
    mean = h1.mean(0) - h2.mean(0)
    return n1 * n2 / (n1 + n2) * mean @ np.linalg.solve(pooled, mean)


@pytest.mark.parametrize("counts", [(9, 23), (12, 12, 8, 2)])
def test_separation_is_the_statistic_between_each_class_and_the_rest(counts):
    torch.manual_seed(0)
    classes = torch.cat([torch.full((n,), c) for c, n in enumerate(counts)])[torch.randperm(sum(counts))]
    codes = torch.randn(len(classes), 5, dtype=torch.float64) + classes[:, None]
    found = mean_embedding_separation(codes, classes, torch.Generator().manual_seed(3))
    draw = torch.Generator().manual_seed(3)
    expected = []
    for c in range(len(counts)) if len(counts) > 2 else [0]:
        own, rest = (classes == c).nonzero()[:, 0], (classes != c).nonzero()[:, 0]
        if len(own) < 4:
            continue
        own, rest = (side[torch.randperm(len(side), generator=draw)] for side in (own, rest))
        a, b = len(own) // 4, len(rest) // 4
        at = torch.cat([codes[own[:a]], codes[rest[:b]]])
        expected.append(math.log1p(slow_statistic(codes[own[a:]], codes[rest[b:]], at, 1e-3)))
    assert float(found) == pytest.approx(np.mean(expected), rel=1e-6)


def test_with_eta_nu_and_gamma_it_is_equation_2():
    torch.manual_seed(0)
    codes = torch.randn(40, 3, dtype=torch.float64) + (torch.arange(40) % 2)[:, None]
    x, y, at = codes[::2], codes[1::2], torch.randn(4, 3, dtype=torch.float64)
    h1, h2 = (np.array([[0.2 * float(row @ v) for v in at] for row in rows]) for rows in (x, y))
    pooled = (19 * np.cov(h1.T) + 19 * np.cov(h2.T)) / 38 + 0.05 * np.eye(4)
    mean = h1.mean(0) - h2.mean(0)
    expected = 20 * 20 / 40 * mean @ np.linalg.solve(pooled, mean)
    assert float(Statistic(logarithm=False, nu=0.2, gamma=0.05)(x, y, at)) == pytest.approx(expected)
    assert float(Statistic(nu=0.2, gamma=0.05)(x, y, at)) == pytest.approx(math.log1p(expected))
    # As many locations as dimensions and next to no ridge: Hotelling's two-sample statistic.
    difference = (x.mean(0) - y.mean(0)).numpy()
    covariance = (19 * np.cov(x.numpy().T) + 19 * np.cov(y.numpy().T)) / 38
    hotelling = 10 * difference @ np.linalg.solve(covariance, difference)
    found = Statistic(logarithm=False, nu=3.0, gamma=1e-9)(x, y, torch.eye(3).double())
    assert float(found) == pytest.approx(hotelling, rel=1e-6)


def test_separation_pulls_apart_and_leaves_the_prototypes_alone():
    torch.manual_seed(0)
    classes = torch.arange(40) % 2
    codes = torch.randn(40, 3, requires_grad=True)
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.SGD([codes], 0.5)
    before = float(mean_embedding_separation(codes.detach(), classes, generator))
    for _ in range(50):
        optimizer.zero_grad()
        (-mean_embedding_separation(codes, classes, generator)).backward()
        # A quarter of each class serves as locations, and gets no gradient.
        assert int((codes.grad.abs().sum(1) == 0).sum()) == 10
        optimizer.step()
    assert float(mean_embedding_separation(codes.detach(), classes, generator)) > before + 2
    assert mean_embedding_separation(codes[:6], torch.tensor([0, 0, 0, 1, 1, 1]), generator) is None


def test_classes_of_which_batches_hold_too_little_are_known():
    certain = F.one_hot(torch.tensor([0] * 96 + [1] * 4), 3).float()
    assert hardly_compared(certain, 64) == [1]
    assert hardly_compared(certain, 100) == []
    assert hardly_compared(certain, 2) == [0, 1]
    # Where classes are drawn, f's doubt about the others brings more of them.
    assert hardly_compared(0.9 * certain + 0.05, 64) == []


def test_the_logistic_separation_has_fixed_planes():
    torch.manual_seed(0)
    codes = torch.randn(20, 6)
    binary = torch.arange(20) % 2
    expected = F.softplus(-(2.0 * binary - 1) * codes.sum(1)).mean() / math.log(2)
    torch.testing.assert_close(logistic_separation(codes, binary, 2), expected)
    classes = torch.arange(20) % 3
    logits = torch.stack([codes[:, :2].sum(1), codes[:, 2:4].sum(1), codes[:, 4:].sum(1)], 1)
    expected = F.nll_loss(logits.log_softmax(1), classes) / math.log(3)
    torch.testing.assert_close(logistic_separation(codes, classes, 3), expected)
    assert float(logistic_separation(torch.zeros(20, 6), classes, 3)) == pytest.approx(1)


def test_what_a_fake_costs():
    fake, real = torch.tensor([2.0, 9.0, 30.0]), torch.tensor([8.0, 12.0])
    margin = dataclasses.replace(TERMS, game="margin")
    fixed = dataclasses.replace(margin, fixed_margin=20.0)
    assert float(penalty(fake, real, fixed)) == pytest.approx(np.mean([18, 11, 0]))
    assert float(penalty(fake, 9 * real, fixed)) == pytest.approx(np.mean([18, 11, 0]))
    assert float(penalty(fake, real, margin)) == pytest.approx(np.mean([10.5, 3.5, 0]))
    # exp(.3 (10 - KL)) / .3, and its tangent beyond an exponent of .5.
    expected = [math.exp(0.5) * (1 + 0.3 * 8 - 0.5), math.exp(0.3), math.exp(-6)]
    assert float(penalty(fake, real, TERMS)) == pytest.approx(np.mean(expected) / 0.3, rel=1e-6)
    for terms in (margin, TERMS):
        real.requires_grad_()
        (gradient,) = torch.autograd.grad(penalty(real[:1] - 1, real, terms), real)
        # The usual KL of real inputs is a mark, which nothing moves: only the fake itself is lifted.
        assert gradient[0] < 0
        assert gradient[1] == 0


def test_the_posterior_is_bounded_and_its_kl_is_the_textbooks():
    torch.manual_seed(0)
    posterior = Posterior(torch.randn(4, 3), torch.randn(4, 3))
    normal = torch.distributions.Normal(posterior.mean, (0.5 * posterior.log_variance).exp())
    prior = torch.distributions.Normal(0.0, 1.0)
    torch.testing.assert_close(posterior.kl(), torch.distributions.kl_divergence(normal, prior).sum(1))
    raw = torch.tensor([-50.0, -1.0, 0.01, 50.0])
    torch.testing.assert_close(bounded(raw, 3.0), torch.tensor([-3.0, -3 * math.tanh(1 / 3), 0.01, 3.0]))


class Sloping(nn.Module):
    """An encoder of two linear maps."""

    def __init__(self):
        super().__init__()
        self.mean, self.spread = nn.Linear(6, 3), nn.Linear(6, 3)

    def forward(self, inputs):
        return self.mean(inputs), self.spread(inputs)


@pytest.mark.parametrize("game", ["exponential", "margin", "none"])
def test_one_step_is_the_step_of_the_losses_written_out(game):
    """Parameters after one step of SGD, against gradients of the whole losses taken at once."""
    terms = dataclasses.replace(TERMS, game=game, separation="logistic")
    torch.manual_seed(0)
    networks = {"encoder": Sloping(), "decoder": nn.Linear(3, 6)}
    inputs, classes = torch.rand(8, 6), torch.arange(8) % 2
    encoder, decoder = (copy.deepcopy(network) for network in networks.values())
    optimizers = {name: torch.optim.SGD(network.parameters(), 1e-3) for name, network in networks.items()}
    run = run_for(torch.rand(8, 1, 6))
    trainer = Trainer(run, "dif", networks=networks, optimizers=optimizers, steps=1)
    span = torch.full((1, 1), 2.0)
    objective = Objective(trainer, terms, span, num_classes=2, classes_of=lambda batch: classes)
    noise = trainer.generator.get_state()
    trainer.fit(as_data(inputs), lambda batch: objective(dataclasses.replace(batch, inputs=inputs)), batch_size=8)
    draw = torch.Generator()
    draw.set_state(noise)
    after = {id(n): [p.detach().clone() for p in n.parameters()] for n in networks.values()}
    stepped = networks["encoder"]
    posterior = Posterior(*encoder(inputs))
    raw = posterior.mean + torch.randn(8, 3, generator=draw) * (posterior.log_variance / 2).exp()
    codes = 3 * torch.tanh(raw / 3)
    decoded = decoder(codes)
    error = ((decoded - inputs) / 2).square().sum(1).mean()
    separated = 0.1 * 4 * error.detach() * logistic_separation(codes, classes, 2)
    loss = posterior.kl().mean() + 4 * error + separated
    if game == "none":
        loss_decoder = loss
    else:
        drawn = 3 * torch.tanh(torch.randn(8, 3, generator=draw) / 3)
        fakes = torch.cat([decoded, decoder(drawn)])
        loss = loss + 0.5 * penalty(Posterior(*encoder(fakes.detach())).kl(), posterior.kl(), terms)
        # The decoder is judged by the encoder that has just learned.
        loss_decoder = 4 * error + 0.5 * Posterior(*stepped(fakes)).kl().mean()
    wanted_decoder = torch.autograd.grad(loss_decoder, list(decoder.parameters()), retain_graph=True)
    wanted_encoder = torch.autograd.grad(loss, list(encoder.parameters()))
    pairs = ((encoder, wanted_encoder, "encoder"), (decoder, wanted_decoder, "decoder"))
    for network, wanted, name in pairs:
        for parameter, gradient, moved in zip(network.parameters(), wanted, after[id(networks[name])], strict=True):
            torch.testing.assert_close((parameter - moved) / 1e-3, gradient, atol=2e-3, rtol=1e-3)


def test_with_a_fixed_eta_what_is_lowered_is_minus_eta_lambda():
    terms = dataclasses.replace(TERMS, game="none", eta=0.25, statistic=Statistic(False, 1.0, 0.1))
    torch.manual_seed(0)
    networks = {"encoder": Sloping(), "decoder": nn.Linear(3, 6)}
    trainer = Trainer(run_for(torch.rand(16, 1, 6)), "dif", networks=networks, optimizers={}, steps=1)
    classes = torch.arange(16) % 2
    objective = Objective(trainer, terms, torch.ones(1, 1), num_classes=2, classes_of=lambda batch: classes)
    codes, losses = torch.randn(16, 3), {}
    for error in (torch.tensor(1.0), torch.tensor(50.0)):  # however large the reconstruction is
        trainer.generator.manual_seed(1)
        found = objective._separate(codes, None, error, losses)
        wanted = mean_embedding_separation(codes, classes, torch.Generator().manual_seed(1), terms.statistic)
        torch.testing.assert_close(found, -0.25 * wanted)


def test_the_separation_weighs_a_tenth_of_the_reconstruction_whatever_its_size():
    """Its gradient is that of eta Lambda, with eta Lambda a tenth of the reconstruction term."""
    classes = torch.arange(40) % 2

    class Trainerless:
        def __init__(self):
            self.generator = torch.Generator().manual_seed(0)

    torch.manual_seed(0)
    codes = (torch.randn(40, 4) + 3 * classes[:, None]).requires_grad_()
    for factor in (1.0, 30.0):
        objective = Objective(Trainerless(), TERMS, torch.ones(1), num_classes=2, classes_of=lambda _: classes)
        term = objective._separate(codes, None, torch.tensor(5.0 * factor), {})
        (found,) = torch.autograd.grad(term, codes)
        log = mean_embedding_separation(codes, classes, torch.Generator().manual_seed(0))
        statistic = log.expm1()
        eta = 0.1 * 4 * 5 * factor / float(statistic.detach())
        (wanted,) = torch.autograd.grad(-eta * statistic, codes)
        torch.testing.assert_close(found, wanted, rtol=0.03, atol=1e-6)


@pytest.mark.parametrize("k", [2, 3])
def test_the_sparse_path_is_at_its_minimum(k):
    """The conditions that hold at the minimum of a convex loss with an L1 penalty, and nowhere else."""
    generator = np.random.default_rng(0)
    codes = generator.normal(size=(300, 6)) * [1, 2, 0.5, 1, 3, 1] + 1.5
    classes = (codes[:, 0] + 0.7 * codes[:, 2] + generator.logistic(size=300) > 2.0).astype(int)
    if k == 3:
        classes += (codes[:, 1] > 3.5).astype(int)
    weights, intercepts = sparse_path(torch.tensor(codes), torch.tensor(classes), k)
    assert weights.shape == (len(PENALTIES), k, 6)
    for index, strength in enumerate(PENALTIES):
        for c in range(k):
            w, b = weights[index, c].numpy(), float(intercepts[index, c])
            surplus = 1 / (1 + np.exp(-(codes @ w + b))) - (classes == c)
            slope = surplus @ codes / 300
            assert abs(surplus.mean()) < 1e-5
            np.testing.assert_allclose(slope[w != 0], -strength * np.sign(w[w != 0]), atol=1e-5)
            assert (np.abs(slope[w == 0]) <= strength + 1e-5).all()
    assert (weights[-1] == 0).sum() > (weights[0] == 0).sum()
    if k == 2:
        assert torch.equal(weights[:, 0], -weights[:, 1])
        reference = LogisticRegression(C=1e9, tol=1e-9, max_iter=5000).fit(codes, classes)
        np.testing.assert_allclose(weights[0, 1].numpy(), reference.coef_[0], atol=1e-3)
        np.testing.assert_allclose(float(intercepts[0, 1]), reference.intercept_[0], atol=2e-3)
        assert non_sparse(weights[-1, 1]) < non_sparse(weights[0, 1])


def test_classes_that_a_plane_divides_end_too():
    codes = torch.linspace(-1, 1, 40)[:, None].double()
    weights, _ = sparse_path(codes, (codes[:, 0] > 0).long(), 2)
    assert weights.isfinite().all()
    assert (weights[:, 1, 0] > 0).all()


def test_the_health_test_can_fail():
    class Flat(nn.Module):
        """Gives what is close to zero a small KL."""

        def forward(self, inputs):
            return inputs.flatten(1), torch.zeros(len(inputs), 4)

    data = as_data(torch.randn(300, 4))

    def health(decoder, played=True):
        return examine(Flat(), decoder, data, torch.ones(1, 4), seed=0, bound=3.0, played=played)

    class Scaled(nn.Module):
        def __init__(self, factor):
            super().__init__()
            self.factor = factor

        def forward(self, codes):
            return self.factor * codes

    assert not health(Scaled(1.5)).problems
    (problem,) = health(Scaled(0.5)).problems
    assert "does not tell them apart" in problem
    assert not health(Scaled(0.5), played=False).problems
    assert any("as far off as the mean input" in problem for problem in health(Scaled(-1.0)).problems)
    assert len(Health(float("nan"), 1.0, float("nan"), True).problems) == 2


class Copy(nn.Module):
    """An encoder whose code is the input."""

    def forward(self, inputs):
        return inputs, torch.zeros_like(inputs)


class Times(nn.Module):
    """A decoder that multiplies each value by a factor."""

    def __init__(self, *factors):
        super().__init__()
        self.factors = torch.tensor(factors)

    def forward(self, codes):
        return self.factors * codes


def test_the_health_test_looks_at_all_classes_of_sorted_data():
    """Two classes of 3,000, one after the other: more than are looked at."""
    generator = torch.Generator().manual_seed(0)
    inputs = 0.1 * torch.randn(6000, 4, generator=generator)
    inputs[:3000] -= 1
    inputs[3000:] += 1
    found = [
        examine(Copy(), Times(*[0.9] * 4), as_data(rows), torch.ones(1, 4), seed=0, bound=50.0, played=True)
        for rows in (inputs, inputs[torch.randperm(6000, generator=generator)], list(inputs.split(100)))
    ]
    for health in found:
        # (1 - .9)^2 of 1.01, the mean square around 0 of either class; half of 4.04 is the KL.
        assert health.error == pytest.approx(0.01, rel=0.02)
        assert health.real_kl == pytest.approx(2.02, rel=0.02)


def test_the_health_test_weighs_every_channel_by_its_range():
    inputs = torch.randn(400, 2, generator=torch.Generator().manual_seed(0)) + 10
    inputs = inputs * torch.tensor([1e4, 1.0])
    span = inputs.amax(0, keepdim=True) - inputs.amin(0, keepdim=True)

    def error(*factors):
        decoder = nn.Sequential(Minus(inputs.mean(0)), Times(*factors), Minus(-inputs.mean(0)))
        return examine(Copy(), decoder, as_data(inputs), span, seed=0, bound=1e9, played=False).error

    class Minus(nn.Module):
        def __init__(self, middle):
            super().__init__()
            self.middle = middle

        def forward(self, codes):
            return codes - self.middle

    variances = (inputs / span).var(0, correction=0).double()
    for column, factors in enumerate(((0.0, 1.0), (1.0, 0.0))):
        # A column that is not reproduced at all costs its share of the spread in ranges.
        assert error(*factors) == pytest.approx(float(variances[column] / variances.sum()), rel=0.1)


def test_the_sparse_path_sees_both_of_two_classes_that_alternate():
    """More rows than are used, of which every second is of one class."""
    generator = torch.Generator().manual_seed(0)
    classes = torch.arange(40_000) % 2
    codes = torch.randn(len(classes), 2, generator=generator) + 2 * classes[:, None]
    weights, intercepts = sparse_path(codes, classes, 2)
    # Two Gaussians of unit variance: w = 2, b = -(4 + 4) / 2.
    assert weights[0, 1].tolist() == pytest.approx([2, 2], rel=0.1)
    assert float(intercepts[0, 1]) == pytest.approx(-4, rel=0.1)


def test_a_rare_class_takes_no_feature_from_another_and_an_absent_one_has_none():
    """Class 3 has two rows, whose weights only the weakest penalty leaves; class 4 none."""
    generator = torch.Generator().manual_seed(0)
    classes = torch.arange(3002) % 3
    codes = 0.5 * torch.randn(3002, 8, generator=generator)
    codes[torch.arange(3002), classes] += 1
    classes[3000:] = 3
    codes[3000:] = torch.tensor([0.6, 0.6, -0.9, 0.3, -0.2, 0.1, 0.2, 0.1])
    lens = DIF(code=8, hidden=8).build(linear_classifier((5,), 5), spec((5,), 5))
    lens.find_features(codes, classes)
    assert not lens.weights[1:, 3].any()
    largest = lens.selecting_weights.abs().argmax(1)
    # Its strongest weight is where class 2 has its own.
    assert largest[:4].tolist() == [0, 1, 2, 2]
    assert float(lens.selecting_weights[3, 2].abs()) > float(lens.selecting_weights[2, 2])
    owners = {part.dims[0]: part.class_index for part in lens.features if part.class_index is not None}
    assert {dim: owners[dim] for dim in (0, 1, 2)} == {0: 0, 1: 1, 2: 2}
    assert 4 not in owners.values()
    assert not lens.weights[:, 4].any()
    assert all(weight > 0 for weight in lens.feature_weights.values())
