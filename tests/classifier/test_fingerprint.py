"""The fingerprint: the same for equal models, another one for any other."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from xlens import Classifier
from xlens.classifier.read import settings_of


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


class Cooled(nn.Module):
    """Keeps a setting in several forms, of which each of those below reads one, and others that decide nothing."""

    def __init__(self, temperature=2.0):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Linear(2, 2)
        self.temperature, self.scales, self.settings = temperature, [1, temperature], {"by": temperature}
        self.seen = self.epoch = self.lr = 0

    @property
    def cold(self):
        return self.temperature

    def by_method(self, x):
        return x / self.temperature

    def training_step(self, x):
        self.epoch += 1
        return self.lr * self(x).sum()

    def forward(self, x):
        self.seen += len(x)
        return self.net(x)


class InForward(Cooled):
    def forward(self, x):
        return super().forward(x) / self.temperature


class InMethod(Cooled):
    def forward(self, x):
        return self.by_method(self.net(x))


class InProperty(Cooled):
    def forward(self, x):
        return self.net(x) / self.cold


class InFunction(Cooled):
    def forward(self, x):
        return sum(part / self.temperature for part in self.net(x).split(1))


class InRow(Cooled):
    def forward(self, x):
        return self.net(x) / self.scales[1]


class InDict(Cooled):
    @torch.no_grad()
    def forward(self, x):
        return self.net(x) / self.settings["by"]


class Inherited(InProperty):
    def forward(self, x):
        return super().forward(x)


READERS = [InForward, InMethod, InProperty, InFunction, InRow, InDict, Inherited]


@pytest.mark.parametrize("kind", READERS)
def test_a_setting_that_a_forward_pass_reads_is_a_constant(kind):
    own, equal, other = (Classifier(kind(at)).identity() for at in (2.0, 2.0, 3.0))
    assert own.digest == equal.digest == other.digest
    assert not equal.other_constants(own.constants)
    assert len(other.other_constants(own.constants)) == 1


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("name", ["seen", "epoch", "lr"])
def test_a_count_or_what_training_reads_is_none(kind, name):
    own, other = kind(), kind()
    setattr(other, name, 7)
    assert not Classifier(other).identity().other_constants(Classifier(own).identity().constants)


def test_settings_of_torch_that_no_repr_shows_are_constants():
    one, two = (nn.MultiheadAttention(8, heads) for heads in (1, 2))
    two.load_state_dict(one.state_dict())
    assert "num_heads" in dict(settings_of(one))
    assert Classifier(two).identity().other_constants(Classifier(one).identity().constants)


def test_ways_to_compute_the_same_are_none():
    block = nn.Module()
    block.fused_attn = True
    assert not list(settings_of(block))
