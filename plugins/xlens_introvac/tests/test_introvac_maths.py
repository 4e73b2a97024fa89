"""The IntroVAC backend: its networks, losses, sampler and directions, against references."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
import toys
from torch import nn
from toys import linear_classifier, spec
from xlens_introvac import IntroVAC
from xlens_introvac.backend import _SCHEDULES
from xlens_introvac.calibration import calibrate
from xlens_introvac.langevin import SamplingError, langevin, split_r_hat
from xlens_introvac.objective import Objective, Weights, attribute_loss, class_loss, prior_loss

import xlens
from xlens.data import Attributes, as_data
from xlens.errors import OptionError, UnsupportedError, XlensWarning
from xlens.nn import step_that_reaches
from xlens.training import Trainer

SHAPES = [(1, 8, 8), (3, 37, 20), (2, 80, 64), (4, 128, 96), (5, 7, 9), (20,)]


def built(k=3, attributes=0, code=7, **options):
    torch.manual_seed(1)
    lens = IntroVAC(code=code, hidden=16, **options).build(linear_classifier((6,), k), spec((6,), k))
    lens.head.add_attributes(attributes)
    return lens.eval().requires_grad_(False)


# --- networks and options ------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "x".join(map(str, s)))
@pytest.mark.parametrize("network", ["auto", "dense", "convolutional"])
def test_any_shape(shape, network):
    backend = IntroVAC(network=network, hidden=16, width=4, code=5)
    if network == "convolutional" and (len(shape) < 3 or min(shape[1:]) < 8):
        with pytest.raises(UnsupportedError, match="set network='dense'"):
            backend.build(linear_classifier(shape), spec(shape))
        return
    lens = backend.build(linear_classifier(shape), spec(shape)).eval()
    inputs = torch.rand(3, *shape) * 3 - 1
    codes = lens.encode(inputs)
    decoded = lens.decode(codes * 50)
    assert codes.shape == (3, 5)
    assert decoded.shape == inputs.shape
    assert decoded.min() >= -1.5
    assert decoded.max() <= 2.0
    torch.testing.assert_close(lens.encode(inputs[1:2]), codes[1:2])


# --- losses against slow references ----------------------------------------------------------------------


def slow_bce(logit, wanted):
    p = 1 / (1 + torch.exp(-logit.double()))
    return -(wanted * p.log() + (1 - wanted) * (1 - p).log())


def slow_class_loss(logits, probabilities):
    rows = []
    for row, wanted in zip(logits, probabilities, strict=True):
        rows.append(sum(slow_bce(row[c], wanted[c]) for c in range(len(wanted))) + slow_bce(row[-1], 0.0))
    return sum(rows) / len(rows)


def test_losses_are_those_of_slow_references():
    torch.manual_seed(0)
    mean, log_variance = torch.randn(5, 4), torch.randn(5, 4)
    normal = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    expected = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).mean()
    torch.testing.assert_close(prior_loss(mean, log_variance), expected)
    logits, probabilities = torch.randn(6, 4), torch.rand(6, 3).softmax(1)
    torch.testing.assert_close(class_loss(logits, probabilities).double(), slow_class_loss(logits, probabilities))


def test_attributes_that_were_not_observed_do_not_count():
    nan = float("nan")
    table = torch.tensor([[1.0, 10.0], [nan, 14.0], [0.0, nan], [1.0, 18.0]])
    attributes = Attributes.of(table)
    assert attributes.binary.tolist() == [True, False]
    observed = attributes.values[[0, 1, 3], 1]
    torch.testing.assert_close(observed, torch.tensor([-1.0, 0.0, 1.0]) * 1.5**0.5)
    torch.manual_seed(0)
    read = torch.randn(4, 2, requires_grad=True)
    loss = attribute_loss(read, attributes.values, attributes.binary)
    logistic = sum(slow_bce(read[i, 0], table[i, 0].double()) for i in (0, 2, 3)) / 3
    squared = sum(0.5 * (read[i, 1] - attributes.values[i, 1]) ** 2 for i in (0, 1, 3)) / 3
    torch.testing.assert_close(loss.double(), logistic + squared)
    loss.backward()
    assert (read.grad != 0).tolist() == [[True, True], [False, True], [True, False], [True, True]]


def test_columns_far_from_zero_are_standardised_without_loss():
    # Seconds since 1970, a second apart: float32 holds none of the differences.
    table = torch.tensor([[1.7e9], [1.7e9 + 1], [1.7e9 + 2], [float("nan")]], dtype=torch.float64)
    values = Attributes.of(table).values
    assert values.dtype == torch.float32
    torch.testing.assert_close(values[:3, 0], torch.tensor([-1.0, 0.0, 1.0]) * 1.5**0.5)
    # What float32 does hold, years, keeps its mean and spread to float32's own accuracy.
    years = torch.arange(1900.0, 2020.0).repeat(1000)[:, None]
    found = Attributes.of(years).values
    assert float(found.double().mean().abs()) < 1e-6
    assert float(found.double().square().mean()) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(
    ("introspection", "classed", "share", "known"),
    [
        (True, False, None, None),
        (True, True, None, None),
        (True, True, 1e3, None),
        (True, True, 0.01, None),
        (False, False, None, None),
        (True, False, None, False),
        (True, False, None, True),
    ],
)
def test_one_step_gives_each_network_its_own_gradient(introspection, classed, share, known):
    """With `known`, one attribute is observed on half of the inputs, and takes part in the game or not."""
    torch.manual_seed(0)
    inputs, wanted = torch.rand(6, 6) * 2 - 1, torch.rand(6, 3).softmax(1)
    lens = built(attributes=0 if known is None else 1).requires_grad_(True)
    table = torch.tensor([[1.0], [0.0], [float("nan")]] * 2)
    names = ("encoder", "decoder", "head")
    reference = {name: copy.deepcopy(getattr(lens, name)) for name in names}
    rate, w = 0.05, Weights(reconstruction=7.0, classes=2.0, attributes=0.9, prior=0.5, detect=0.3, fool=1.7)
    judges = [*lens.encoder.parameters(), *lens.head.parameters()]
    trainer = Trainer(
        toys.run_for(inputs),
        "test",
        networks={name: getattr(lens, name) for name in names},
        optimizers={
            "encoder": torch.optim.SGD(judges, rate),
            "decoder": torch.optim.SGD(lens.decoder.parameters(), rate),
        },
        steps=1,
    )
    objective = Objective(
        trainer,
        w,
        torch.full((1, 6), 2.0),
        introspection=introspection,
        share=share,
        classed_samples=classed,
        attributes=None if known is None else Attributes.of(table),
        attribute_game=bool(known),
        probabilities_of=lambda batch: wanted[batch.index],
    )
    seen = []
    trainer.fit(as_data(inputs), lambda batch: (seen.append(batch), objective(batch))[1], batch_size=6)
    x, y = seen[0].inputs, wanted[seen[0].index]
    generator = torch.Generator().manual_seed(0)
    noise, drawn = (torch.randn(6, 7, generator=generator) for _ in range(2))
    encoder, decoder, head = (reference[name] for name in names)

    def error(images):
        return w.reconstruction * (images - x).abs().mean() / 2

    def fakeness(images):
        return head(encoder(images)[0])[:, -1]

    def misread(codes):
        rows = [
            slow_bce(head.read_attributes(codes)[i, 0], table[j, 0])
            for i, j in enumerate(seen[0].index)
            if j % 3 < 2
        ]
        return torch.stack(rows).mean()

    mean, log_variance = encoder(x)
    codes = mean + noise * (log_variance / 2).exp()
    loss = w.classes * class_loss(head(codes), y) + w.prior * prior_loss(mean, log_variance) + error(decoder(codes))
    if known is not None:
        loss = loss + w.attributes * misread(codes)
    if introspection:
        for images in (decoder(codes.detach()), decoder(drawn)):
            loss = loss + w.detect * slow_bce(fakeness(images.detach()), 1.0).mean()
    of_head = head.parameters() if known is not None else [head.classes]
    ours = [*encoder.parameters(), *of_head]
    ours = [p for p in dict.fromkeys(ours) if p.numel()]
    theirs = list(decoder.parameters())
    gradients = torch.autograd.grad(loss, [*ours, *theirs])
    with torch.no_grad():
        for parameter, gradient in zip(ours, gradients, strict=False):
            parameter -= rate * gradient
    if introspection:
        made = decoder(codes.detach())
        fool = slow_class_loss(head(encoder(made)[0]), y) + slow_bce(fakeness(decoder(drawn)), 0.0).mean()
        if known:
            fool = fool + misread(encoder(made)[0])
        if classed:
            read, own = head(encoder(decoder(drawn))[0])[:, :3], head(drawn)[:, :3].softmax(1).detach()
            fool = fool + sum(slow_bce(read[:, c], own[:, c]).mean() for c in range(3))
        kept = torch.autograd.grad(error(made), theirs, retain_graph=True)
        played = torch.autograd.grad(w.fool * fool, theirs)
        ratio = torch.cat([g.flatten() for g in played]).norm() / torch.cat([g.flatten() for g in kept]).norm()
        assert 0.01 < ratio < 1e3
        # Where the game pulls harder than its share, it is weakened to just that.
        factor = share / ratio if share == 0.01 else 1.0
        gradients = [k + factor * p for k, p in zip(kept, played, strict=True)]
    with torch.no_grad():
        for parameter, gradient in zip(theirs, gradients[-len(theirs) :], strict=True):
            parameter -= rate * gradient
    for name in names:
        pairs = zip(getattr(lens, name).parameters(), reference[name].parameters(), strict=True)
        for got, expected in pairs:
            torch.testing.assert_close(got, expected, atol=2e-5, rtol=1e-4)


# --- sampling ----------------------------------------------------------------------------------------------


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


# --- directions and counterfactuals -------------------------------------------------------------------------


def test_turning_changes_nothing_but_gives_classes_and_attributes_their_own_dimensions():
    lens = built(k=4, attributes=2, code=9)
    inputs = torch.rand(5, 6)
    before = lens.encode(inputs), lens.decode(lens.encode(inputs)), lens.head(lens.encode(inputs))
    read = lens.head.read_attributes(lens.encode(inputs))
    lens.turn()
    codes = lens.encode(inputs)
    torch.testing.assert_close(lens.basis.T @ lens.basis, torch.eye(9), atol=1e-5, rtol=0)
    assert (codes - before[0]).abs().max() > 0.01
    torch.testing.assert_close(lens.decode(codes), before[1], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(lens.head(codes), before[2], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(lens.head.read_attributes(codes), read, atol=1e-5, rtol=1e-5)
    differences = lens.head.classes[1:4] - lens.head.classes[:1]
    torch.testing.assert_close(differences[:, 3:], torch.zeros(3, 6), atol=1e-5, rtol=0)
    torch.testing.assert_close(lens.head.attributes[:, 5:], torch.zeros(2, 4), atol=1e-5, rtol=0)
    assert (lens.head.attributes.diagonal(offset=3) > 0).all()
    dims = sorted(d for feature in lens.features for d in feature.dims)
    assert dims == list(range(9))
    assert [f.role for f in lens.features] == ["nuisance", "class", "attribute", "attribute"]


def test_a_direction_raises_its_own_class_against_the_others():
    lens = built(k=3, attributes=1)
    directions = lens.directions
    assert list(directions) == [
        "evidence for class 0",
        "evidence for class 1",
        "evidence for class 2",
        "attribute 0",
    ]
    for c in range(3):
        direction = directions[f"evidence for class {c}"]
        assert direction.norm() == pytest.approx(1.0, abs=1e-5)
        change = lens.head(direction[None])[0, :3]
        own, rest = change[c], (change.sum() - change[c]) / 2
        # No unit vector raises the margin over the mean of the others more than this one.
        other = F.normalize(torch.randn(500, 7), dim=1)
        gains = lens.head(other)[:, :3]
        assert own - rest >= (gains[:, c] - (gains.sum(1) - gains[:, c]) / 2).max()


def test_classes_of_the_same_name_keep_a_direction_each():
    lens = built(k=3)
    lens.classifier.class_names = ("cat", "dog", "cat")
    names = ["evidence for cat (class 0)", "evidence for dog", "evidence for cat (class 2)"]
    assert list(lens.directions) == names
    two = built(k=2)
    two.classifier.class_names = ("cat", "cat")
    assert [feature.name for feature in two.features][1] == list(two.directions)[1] == "evidence for cat (class 1)"


def test_the_step_is_the_smallest_that_reaches_or_else_the_best():
    goals = torch.tensor([2.3, 0.0, 99.0, 5.0])

    def score(rows, steps):
        # The third never reaches; its best is at 3. The fourth reaches, and falls again.
        value = torch.where(rows == 2, -(steps - 3).abs(), steps)
        return value, (value >= goals[rows]) & (rows != 2)

    steps, reached = step_that_reaches(score, 4, 8.0, torch.device("cpu"))
    assert reached.tolist() == [True, True, False, True]
    assert steps[1:].tolist() == [0.0, 3.0, 5.0]
    assert 2.3 <= steps[0] <= 2.3 + 1 / 16
