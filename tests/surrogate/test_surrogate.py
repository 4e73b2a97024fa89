"""A surrogate: what it learns, when it asks the classifier, and that it is said where it says something else."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from torch import nn

import xlens
from xlens.classifier.answering import answered_by
from xlens.classifier.passes import counted
from xlens.contracts import Run, Spec
from xlens.data import as_data
from xlens.surrogate import Surrogate, SurrogateOptions, begin_surrogate
from xlens.surrogate.fidelity import fidelity_of

SHAPE = (2, 4, 4)
QUICK = SurrogateOptions(width=8, steps=100, batch_size=16, mixtures=32, learning_rate=5e-3, ask_every=5, asked=3)


class Sum(nn.Module):
    """One logit: the first channel's mean, which turns round where it is large."""

    def __init__(self, largest=1e9):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(4.0))
        self.largest = largest

    def forward(self, latents):
        mean = latents[:, 0].mean((1, 2))
        return self.gain * torch.where(mean < self.largest, mean, -mean)


def latents(n, seed=0, around=0.0):
    generator = torch.Generator().manual_seed(seed)
    level = torch.randn(n, 1, 1, 1, generator=generator)
    return around + level + 0.3 * torch.randn(n, *SHAPE, generator=generator)


def begun(model, options=QUICK):
    values = latents(96)
    spec = Spec(
        shape=SHAPE, num_classes=2, minimum=(-4.0,) * 2, maximum=(4.0,) * 2, mean=(0.0,) * 2, std=(1.0,) * 2,
        class_margins=((0.0, 1.0), (1.0, 0.0)),
    )  # fmt: skip
    classifier = xlens.Classifier(model)
    with torch.no_grad():
        logits = classifier(values)
    run = Run(seed=0, device=torch.device("cpu"), spec=spec, logits=logits, progress=False)
    return classifier, begin_surrogate(classifier, as_data(values), run, options)


def trained(classifier, surrogate, steps, around):
    """Ask as a lens does that is trained for so many steps."""
    with surrogate.answering():
        for step in range(steps):
            classifier(latents(8, 100 + step, around).requires_grad_()).sum().backward()
            surrogate.after_step()


def share_agreed(surrogate, classifier, inputs):
    with torch.no_grad():
        return float((surrogate.network(inputs).argmax(1) == classifier(inputs).argmax(1)).float().mean())


def test_it_learns_what_the_classifier_says_of_inputs_that_it_was_not_told_about():
    classifier, surrogate = begun(Sum())
    assert share_agreed(surrogate, classifier, latents(200, 1)) > 0.93


def test_the_classifier_is_asked_as_often_as_was_said_and_never_for_a_gradient():
    classifier, surrogate = begun(Sum())
    with counted(classifier) as passes:
        trained(classifier, surrogate, 22, 0.0)
    assert passes.facts() == {"forward": 4 * 3, "backward": 0}
    with counted(xlens.Classifier(classifier.model)) as passes:
        begin = begun(classifier.model)
    # The data, whose answers a survey brings, and mixtures.
    assert passes.facts() == {"forward": 96 + 32, "backward": 0}
    assert isinstance(begin[1], Surrogate)


def test_gradients_are_the_surrogates_own_and_leave_both_as_they_were():
    classifier, surrogate = begun(Sum())
    asked = latents(3).requires_grad_()
    with surrogate.answering():
        classifier(asked)[:, 1].sum().backward()
    expected = latents(3).requires_grad_()
    surrogate.network(expected)[:, 1].sum().backward()
    assert torch.equal(asked.grad, expected.grad)
    assert classifier.model.gain.grad is None
    assert all(parameter.grad is None for parameter in surrogate.network.parameters())


def test_it_follows_the_lens_to_where_no_data_are():
    classifier, surrogate = begun(Sum(largest=3.0))
    beyond = latents(200, 2, around=5.0)
    before = share_agreed(surrogate, classifier, beyond)
    trained(classifier, surrogate, 150, 5.0)
    assert before < 0.3
    assert share_agreed(surrogate, classifier, beyond) > 0.9
    assert surrogate.fidelity.agreement > 0.85
    assert surrogate.holds == (surrogate.fidelity.agreement >= 0.9)


def test_what_it_is_told_does_not_flatter_it():
    """Answers are compared before they are learned from, so a classifier without rule is not agreed with."""

    class Noise(nn.Module):
        def forward(self, inputs):
            return (inputs.flatten(1).sum(1, keepdim=True) * 9973).remainder(1) - 0.5

    classifier, surrogate = begun(Noise())
    trained(classifier, surrogate, 100, 0.0)
    assert surrogate.fidelity.compared == 10 * 3
    assert surrogate.fidelity.agreement < 0.75
    assert not surrogate.holds


def test_what_was_never_compared_is_not_trusted():
    _, surrogate = begun(Sum())
    assert surrogate.fidelity.compared == 0
    assert not surrogate.holds
    assert json.dumps(surrogate.fidelity.facts(), allow_nan=False)


def test_the_users_model_answers_again_afterwards_also_after_an_error():
    classifier, surrogate = begun(Sum())
    own = classifier.model
    with pytest.raises(RuntimeError, match="stop"), surrogate.answering():
        assert classifier.model is surrogate.network
        raise RuntimeError("stop")
    assert classifier.model is own
    # Of one logit two are made again.
    assert torch.equal(classifier(latents(2))[:, 0], torch.zeros(2))
    assert not surrogate.network._forward_pre_hooks


def test_a_model_that_returns_probabilities_is_answered_for_in_logits():
    classifier = xlens.Classifier(nn.Sequential(nn.Linear(3, 2), nn.Softmax(1)), outputs="probabilities")
    answers = nn.Linear(3, 2)
    with answered_by(classifier, answers):
        assert torch.allclose(classifier(torch.ones(1, 3)), answers(torch.ones(1, 3)))
    assert float(classifier(torch.ones(1, 3)).detach().exp().sum()) == pytest.approx(1)


def test_state_goes_on_where_it_was():
    classifier, whole = begun(Sum())
    trained(classifier, whole, 10, 1.0)
    state = copy.deepcopy(whole.state())
    other_classifier, other = begun(Sum())
    other.load(state)
    for one, surrogate in ((classifier, whole), (other_classifier, other)):
        trained(one, surrogate, 10, 2.0)
    pairs = zip(whole.network.parameters(), other.network.parameters(), strict=True)
    assert all(torch.equal(one, two) for one, two in pairs)
    assert whole.fidelity == other.fidelity


def test_fidelity_by_hand():
    true = torch.tensor([[0.0, 3.0], [0.0, 1.0], [2.0, 0.0], [0.0, 2.0]])
    said = torch.tensor([[0.0, 1.0], [1.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
    found = fidelity_of(said, true)
    assert (found.agreement, found.usual, found.score_gap, found.compared) == (0.75, 0.75, 0.5, 4)
    assert "agrees with the classifier on 0.750 of 4 images" in str(found)
