"""The fingerprint: the same for equal models, another one for any other."""

from __future__ import annotations

import copy

import numpy as np
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


class Cooled(nn.Module):
    """Keeps a setting in several forms, of which each of those below reads one, and others that decide nothing."""

    def __init__(self, temperature=2.0):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Linear(2, 2)
        self.temperature, self.scales, self.settings = temperature, (1, temperature), {"by": temperature}
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


class Decorated(Cooled):
    @torch.no_grad()
    @torch.autocast("cpu", enabled=False)
    def forward(self, x):
        return self.net(x) / self.temperature


class Inherited(InProperty):
    def forward(self, x):
        return super().forward(x)


READERS = [InForward, InMethod, InProperty, InFunction, InRow, Decorated, Inherited]


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


def bump(module):
    module.calls = module.calls + 1


class Counting(Cooled):
    """Keeps what its passes leave in every way there is, beside a part that is told by another."""

    def __init__(self):
        super().__init__()
        self.calls = self.last = self.height = 0
        self.log, self.stats = [], {"calls": 0}
        self.part = InForward()
        self.part.height = 0

    def forward(self, x):
        bump(self)
        setattr(self, "last", self.last + 1)  # noqa: B010 - that is what is tested
        self.part.height = len(x)
        self.log.append(len(x))
        self.stats["calls"] += 1
        return self.net(x) + self.part.height + self.calls + len(self.log) + self.stats["calls"]


def test_what_passes_leave_is_no_constant():
    model = Classifier(Counting().eval())
    with model.frozen(), torch.no_grad():
        model(torch.zeros(3, 2))
    saved = model.identity().constants
    assert not any(name.endswith(("calls", "last", "height", "log", "stats", "seen")) for name in saved)
    model.model(torch.zeros(5, 2))
    assert not model.identity().other_constants(saved)
    assert not Classifier(Counting()).identity().other_constants(saved)


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [("temperature", 2, 2.0), ("temperature", 2.0, np.float64(2)), ("temperature", np.float32(0.5), 0.5),
     ("device", "cpu", "cuda"), ("drop_rate", 0.1, 0.3), ("memory_efficient", True, False),
     ("scales", (1, 2), (1.0, 2))],
)  # fmt: skip
def test_what_computes_the_same_is_the_same(name, one, other):
    def model(value):
        class Read(nn.Module):
            def forward(self, x):
                return x, getattr(self, "_", None), self.temperature, self.device, self.drop_rate, self.scales

        made = Read()
        setattr(made, name, value)
        return Classifier(made).identity()

    assert not model(other).other_constants(model(one).constants)


def test_a_number_of_the_class_and_one_of_its_own_are_told_apart():
    class Shared(nn.Module):
        temperature = 2.0

        def forward(self, x):
            return x / self.temperature

    own = Shared()
    own.temperature = 3.0
    assert Classifier(own).identity().other_constants(Classifier(Shared()).identity().constants) == ["temperature"]


def test_the_code_of_a_traced_graph_is_a_constant():
    one, two = (Classifier(torch.fx.symbolic_trace(InRow(at))) for at in (2.0, -3.0))
    assert two.identity().other_constants(one.identity().constants) == ["code"]


def test_settings_of_torch_that_no_repr_shows_are_constants():
    one, two = (nn.MultiheadAttention(8, heads) for heads in (1, 2))
    two.load_state_dict(one.state_dict())
    assert Classifier(two).identity().other_constants(Classifier(one).identity().constants) == ["num_heads"]
    assert not any(name.startswith("_") for name in Classifier(nn.Conv2d(1, 1, 3)).identity().constants)


def test_what_a_metric_has_counted_decides_nothing():
    metric = type("Accuracy", (nn.Module,), {"__module__": "torchmetrics.metric"})

    def model(count):
        made = InForward()
        made.accuracy = type("Own", (metric,), {})()
        made.accuracy.right = torch.tensor(count)
        return Classifier(made).identity()

    assert not model(7.0).other_constants(model(0.0).constants)
