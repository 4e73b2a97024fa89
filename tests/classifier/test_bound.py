"""The check that a classifier is still what a lens was fitted around."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch

from xlens import Classifier
from xlens.classifier.bound import Bound
from xlens.errors import XlensWarning


def test_it_holds_until_a_weight_is_written_and_again_when_it_is_put_back(trained):
    model = copy.deepcopy(trained)
    bound = Bound(Classifier(model))
    assert bound.fingerprint == Classifier(trained).fingerprint()
    before = model.head.weight.detach().clone()
    with torch.no_grad():
        model.head.weight.add_(1.0)
    assert not bound.holds()
    with torch.no_grad():
        model.head.weight.copy_(before)
    assert bound.holds()


def test_the_fingerprint_is_taken_again_only_after_a_write(trained, monkeypatch):
    model = copy.deepcopy(trained)
    bound = Bound(Classifier(model))
    taken = []
    take = Classifier.fingerprint
    monkeypatch.setattr(Classifier, "fingerprint", lambda one: taken.append(one) or take(one))
    for _ in range(3):
        assert bound.holds()
    assert not taken
    with torch.no_grad():
        model.head.weight.mul_(1.0)
    assert bound.holds()
    assert len(taken) == 1


def test_it_warns_with_who_asked_and_only_where_it_does_not_hold(trained):
    model = copy.deepcopy(trained)
    bound = Bound(Classifier(model))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bound.warn("save")
    with torch.no_grad():
        model.head.bias.add_(1.0)
    with pytest.warns(XlensWarning, match="save: the classifier has changed since this lens was fitted around it"):
        bound.warn("save")
