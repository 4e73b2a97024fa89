"""Readings of a model's outputs: labels, numbers and grades as two classes that exclude each other."""

from __future__ import annotations

import pytest
import torch
from labelled import LABELS, Labels, Number, labelled_pictures
from torch import nn

from xlens import Classifier
from xlens.attr import LayerIntegratedGradients
from xlens.errors import DataError, ModelError

INPUTS, HAS = labelled_pictures(16, seed=0)


class Gives(nn.Module):
    """Returns what it is given."""

    def forward(self, inputs):
        return inputs


def test_the_toy_sees_its_labels():
    assert torch.equal(Labels()(INPUTS) > 0, HAS)


@pytest.mark.parametrize("squash", [False, True], ids=["logits", "probabilities"])
def test_a_label_is_its_presence_against_its_absence(squash):
    logits = torch.tensor([[1.5, -2.0, 0.5], [-1.0, 3.0, 0.25]])
    kind = "multilabel_probabilities" if squash else "multilabel"
    given = logits.sigmoid() if squash else logits
    every = Classifier(Gives(), outputs=kind, labels=["a", "b", "c"])
    torch.testing.assert_close(every(given), logits)
    torch.testing.assert_close(every.probabilities(given), logits.sigmoid())
    for k, name in enumerate("abc"):
        one = every.about(name)
        score = one(given)
        assert one.label == k
        assert one.names(2) == (f"no {name}", name)
        torch.testing.assert_close(score[:, 1] - score[:, 0], logits[:, k])
        torch.testing.assert_close(one.probabilities(given)[:, 1], logits[:, k].sigmoid())


def test_probabilities_of_labels_at_their_ends_stay_finite():
    one = Classifier(Gives(), outputs="multilabel_probabilities", label=0)
    assert bool(one(torch.tensor([[0.0, 1.0], [1.0, 0.0]])).isfinite().all())


def test_a_number_is_above_or_below_its_threshold():
    numbers = torch.tensor([[2.0], [3.5]])
    for given in (numbers, numbers[:, 0]):
        one = Classifier(Gives(), outputs="regression", threshold=3.0)
        score = one(given)
        assert (score[:, 1] - score[:, 0]).tolist() == [-1.0, 0.5]
        assert score.argmax(1).tolist() == [0, 1]
        assert one.names(2) == ("below 3", "above 3")


def test_grades_are_below_or_from_the_threshold_on():
    logits = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    one = Classifier(Gives(), outputs="ordinal", threshold=3, labels=["none", "mild", "severe", "worst"])
    # Independent of how it is done: the probabilities of the grades on each side.
    torch.testing.assert_close(one.probabilities(logits)[:, 1], logits.softmax(1)[:, 3:].sum(1))
    assert one.names(2) == ("below worst", "worst or above")
    assert Classifier(Gives(), outputs="ordinal", threshold=2).names(2) == ("below grade 2", "grade 2 or above")


def test_one_number_is_no_row_of_grades_and_what_to_say_instead_is_said():
    grades = Classifier(nn.Linear(4, 1), outputs="ordinal", threshold=1)
    with pytest.raises(ModelError, match="one logit for each grade.*outputs='regression'"):
        grades(torch.zeros(2, 4))


def test_names_of_the_two_classes_may_be_given():
    named = Classifier(Gives(), outputs="multilabel", label=1, class_names=["healthy", "rust"])
    assert named.names(2) == ("healthy", "rust")
    assert named.about(0).names(2) == ("no label 0", "label 0")


def test_what_is_asked_decides_the_fingerprint_and_plain_outputs_keep_theirs():
    net = Labels()
    asked = [
        Classifier(net),
        Classifier(net, outputs="multilabel", label=0),
        Classifier(net, outputs="multilabel", label=1),
        Classifier(net, outputs="multilabel_probabilities", label=1),
        Classifier(net, outputs="ordinal", threshold=1),
        Classifier(net, outputs="regression", threshold=1),
        Classifier(net, outputs="regression", threshold=2),
    ]
    assert len({one.fingerprint() for one in asked}) == len(asked)
    named = Classifier(net, outputs="multilabel", label="dark", labels=LABELS)
    assert named.fingerprint() == asked[2].fingerprint()


def test_replaced_keeps_everything_else():
    one = Classifier(Labels(), outputs="multilabel", labels=LABELS, label="dark")
    other = one.around(Labels())
    assert (other.reading, other.class_names) == (one.reading, one.class_names)
    assert other.model is not one.model


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ({"label": 0}, "label says nothing of outputs='logits'"),
        ({"outputs": "probabilities", "threshold": 1.0}, "threshold says nothing.*outputs='regression'"),
        ({"outputs": "regression", "threshold": 1, "labels": ["a"]}, "name the classes with class_names"),
        ({"outputs": "regression"}, "above a threshold rather than below it.*threshold=None"),
        ({"outputs": "regression", "threshold": float("nan")}, "threshold=nan"),
        ({"outputs": "ordinal", "threshold": 1.5}, "a whole number"),
        ({"outputs": "multilabel", "label": "a"}, "labels=\\[...\\] does not name them"),
        ({"outputs": "multilabel", "labels": ["rust", "miner"], "label": "rost"}, "Did you mean 'rust'"),
        ({"outputs": "multilabel", "labels": ["rust", "rust"], "label": "rust"}, "the label's number"),
        ({"outputs": "multilabel", "labels": ["rust", "miner"], "label": 2}, "0 to 1, or a name"),
        ({"outputs": "multilabel", "label": True}, "an int from 0 on"),
        ({"outputs": "multilabel", "labels": "rust", "label": 0}, "labels are not names"),
        ({"outputs": "multilabel", "label": 0, "class_names": "abc"}, "class_names are not names"),
        ({"outputs": "multilabel", "label": 0, "class_names": ["a", "b", "c"]}, "labels=\\[...\\]"),
    ],
)
def test_what_does_not_fit_together_is_refused(said, error):
    with pytest.raises(ModelError, match=error):
        Classifier(Gives(), **said)


def test_outputs_that_are_not_as_said_are_refused():
    three = torch.zeros(2, 3)
    with pytest.raises(ModelError, match="no such label.*0 to 2"):
        Classifier(Gives(), outputs="multilabel", label=3)(three)
    with pytest.raises(ModelError, match="2 names for 3 outputs"):
        Classifier(Gives(), outputs="multilabel", label=0, labels=LABELS)(three)
    with pytest.raises(ModelError, match="one number per input.*3 numbers"):
        Classifier(Gives(), outputs="regression", threshold=0)(three)
    with pytest.raises(ModelError, match="1 to 2, the index"):
        Classifier(Gives(), outputs="ordinal", threshold=3)(three)
    with pytest.raises(ModelError, match="one by one.*outputs='multilabel'"):
        Classifier(Gives()).about(0)


def test_the_absence_of_a_label_has_no_gradient_of_its_own_and_is_refused():
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    one = Classifier(net, outputs="multilabel", label=1)
    inputs = torch.rand(2, 4)
    with pytest.raises(DataError, match="class 0 has no score of its own"):
        LayerIntegratedGradients(one, "1").attribute(inputs, target=0)
    both = Classifier(net, outputs="multilabel")
    found, wanted = (LayerIntegratedGradients(f, "1").attribute(inputs, target=1) for f in (one, both))
    torch.testing.assert_close(found, wanted)


def test_the_number_of_the_toy_is_the_size_of_what_is_bright():
    above = Classifier(Number(), outputs="regression", threshold=3.0)(INPUTS).argmax(1)
    assert torch.equal(above.bool(), HAS[:, 0])
