"""Hidden layers: the same numbers as Captum's, from the tail alone."""

from __future__ import annotations

import captum.attr
import pytest
import torch
from guard import unchanged
from smooth import seeded, use_captums_nodes
from torch import nn

from xlens.attr import LayerIntegratedGradients
from xlens.errors import DataError


@pytest.fixture
def captums_rounding(monkeypatch):
    use_captums_nodes(monkeypatch)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.block = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.act, self.head = nn.Tanh(), nn.Linear(4, 3)

    def forward(self, x):
        x = self.act(self.stem(x))
        x = x + self.act(self.block(x))
        return self.head(x.mean((2, 3)))


@pytest.mark.parametrize("method", ["gausslegendre", "riemann_middle"])
@pytest.mark.parametrize("layer", ["block", "act", "stem"])
def test_hidden_layers_as_captum(method, layer, captums_rounding):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Residual().double().eval()
    inputs, baselines = seeded(3, 1, 5, 5), seeded(3, 1, 5, 5, seed=1)
    given = {"n_steps": 12, "method": method, "return_convergence_delta": True}
    with unchanged(model):
        found, delta = LayerIntegratedGradients(model, layer).attribute(inputs, baselines, 1, **given)
    if layer == "act":
        # It runs twice, and its last run is meant, after which only a sum and a linear layer come.
        stem = model.act(model.stem(inputs)), model.act(model.stem(baselines))
        ends = [model.act(model.block(h)) for h in stem]
        expected = (ends[0] - ends[1]) * model.head.weight[1].view(1, 4, 1, 1) / 25
        assert torch.allclose(found, expected, atol=1e-7)
        return
    # What goes around the block is held at the input, in Captum's class as here.
    expected = captum.attr.LayerIntegratedGradients(model, getattr(model, layer)).attribute(
        inputs, baselines, 1, n_steps=12, method=method
    )
    assert torch.allclose(found, expected, atol=1e-10)
    if layer == "stem":
        difference = (model(inputs) - model(baselines))[:, 1]
        assert torch.allclose(found.flatten(1).sum(1) - delta, difference, atol=1e-10)


def test_only_the_tail_runs():
    runs = []
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 2)).eval()
    model[1].register_forward_hook(lambda *_: runs.append("early"))
    model[3].register_forward_hook(lambda *_: runs.append("late"))
    LayerIntegratedGradients(model, "1").attribute(torch.ones(2, 12), target=0, n_steps=40, internal_batch_size=2)
    assert runs.count("late") >= 40
    assert runs.count("early") <= 5


def test_activations_are_taken_in_batches_too():
    sizes = []
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 2)).eval()
    model[0].register_forward_hook(lambda _module, args, _output: sizes.append(len(args[0])))
    LayerIntegratedGradients(model, "1").attribute(torch.rand(9, 6), target=1, internal_batch_size=2)
    assert max(sizes) == 2


def test_a_single_logit_has_no_class_0():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    inputs = seeded(2, 3)
    ours = LayerIntegratedGradients(model, "0").attribute(inputs, target=1)
    expected = captum.attr.LayerIntegratedGradients(model, model[0]).attribute(inputs, target=0)
    assert torch.allclose(ours, expected, atol=1e-6)
    assert torch.equal(LayerIntegratedGradients(model, "0").attribute(inputs), ours)
    with pytest.raises(DataError, match="single logit"):
        LayerIntegratedGradients(model, "0").attribute(inputs, target=0)
