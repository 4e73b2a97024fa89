"""The IntroVAC backend: its networks, losses and directions, against references."""

import copy

import pytest
import torch
import torch.nn.functional as F
import toys
from small_introvac import built
from toys import linear_classifier, spec
from xlens_introvac import IntroVAC
from xlens_introvac.objective import Objective, Weights, attribute_loss, class_loss, prior_loss

from xlens.data import Attributes, as_data
from xlens.errors import UnsupportedError
from xlens.nn import step_that_reaches
from xlens.training import Trainer

SHAPES = [(1, 8, 8), (3, 37, 20), (2, 80, 64), (4, 128, 96), (5, 7, 9), (20,)]


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
