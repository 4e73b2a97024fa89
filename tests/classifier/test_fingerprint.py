"""The fingerprint: the same for equal models, another one for any other."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from xlens import Classifier


def test_equal_models_have_one_fingerprint(trained):
    model = copy.deepcopy(trained).eval()
    assert Classifier(model).fingerprint() == Classifier(trained).fingerprint()


def flip_a_bit(model):
    with torch.no_grad():
        model.head.weight.view(torch.int32)[0, 0] ^= 1


@pytest.mark.parametrize(
    "change",
    [flip_a_bit, lambda m: m.body[1].running_var.add_(1e-3), lambda m: m.double(),
     lambda m: m.body.__setitem__(4, nn.Sigmoid())],
)  # fmt: skip
def test_the_fingerprint_sees_a_changed_model(trained, change):
    model = copy.deepcopy(trained)
    change(model)
    assert Classifier(model).fingerprint() != Classifier(trained).fingerprint()


def test_the_fingerprint_sees_layer_and_outputs(trained):
    kinds = [
        Classifier(trained),
        Classifier(trained, layer="head"),
        Classifier(trained, layer="body.3"),
        Classifier(trained, outputs="probabilities"),
    ]
    assert len({kind.fingerprint() for kind in kinds}) == 4
