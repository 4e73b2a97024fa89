"""Freezing: whatever is done to the model inside, it is as it was."""

from __future__ import annotations

import copy
import random
import warnings
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from guard import state, unchanged
from torch import nn

from xlens import Classifier

X = torch.randn(5, 1, 4, 4, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def messy(trained):
    """A copy to be spoilt, with gradients in place (copying drops them)."""
    model = copy.deepcopy(trained)
    model.head.bias.grad = torch.tensor([1.0, torch.nan, 0.0])
    return model


def spoil(model: nn.Module) -> None:
    """Do everything to a model that a fit might."""
    for module in model.modules():
        module.train()
    model.head.bias.grad.add_(1)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
        parameter.grad = torch.ones_like(parameter)
        with torch.no_grad():
            parameter.add_(1)
    model.body[1].running_mean.add_(1)
    model.body[1].running_var = torch.zeros(8)
    model.head.register_forward_hook(lambda *_: None)
    model.register_forward_pre_hook(lambda *_: None)
    model.head.weight.register_hook(lambda grad: grad)
    model.head._forward_hooks.popitem(last=False)
    random.random()
    np.random.rand()
    torch.rand(1)


def test_the_guard_sees_every_change(messy):
    before = state(messy)
    spoil(messy)
    after = state(messy)
    kinds = {key.rsplit(": ", 1)[-1] for key in before if before[key] != after[key]}
    assert {"value", "training", "requires_grad", "grad", "buffer", "_forward_hooks"} <= kinds
    assert {"rng.torch", "rng.numpy", "rng.python"} <= kinds


@pytest.mark.parametrize("fault", [None, RuntimeError, KeyboardInterrupt, SystemExit])
def test_everything_is_restored(messy, fault):
    with unchanged(messy):
        with pytest.raises(fault) if fault else nullcontext(), Classifier(messy).frozen(seed=3):
            spoil(messy)
            if fault:
                raise fault


def test_inside_the_model_is_in_eval_mode_without_gradients(messy):
    with Classifier(messy).frozen() as classifier:
        assert not any(module.training for module in messy.modules())
        assert not any(parameter.requires_grad for parameter in messy.parameters())
        assert torch.equal(classifier(X), classifier(X))


def test_contexts_nest(messy):
    classifier = Classifier(messy)
    with unchanged(messy):
        with classifier.frozen(seed=1):
            with unchanged(messy), pytest.raises(ZeroDivisionError), classifier.frozen(seed=2):
                spoil(messy)
                raise ZeroDivisionError
            assert not any(module.training for module in messy.modules())


def test_the_seed_decides_inside(trained):
    def draw(seed):
        with Classifier(trained).frozen(seed=seed):
            return torch.rand(1).item(), np.random.rand(), random.random()

    assert draw(1) == draw(1)
    assert all(a != b for a, b in zip(draw(1), draw(2), strict=True))


class Hostile(nn.Module):
    """Counts in a buffer and draws from the global generators, also in eval mode."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(16, 2)
        self.register_buffer("count", torch.zeros(()))
        self.register_buffer("replaced", torch.zeros(3))

    def forward(self, inputs):
        self.count += 1
        self.replaced = self.replaced + torch.rand(3)
        random.random(), np.random.rand()
        return self.linear(inputs.flatten(1))


def test_a_model_that_writes_its_buffers_in_eval_mode():
    model = Hostile()
    with unchanged(model), Classifier(model).frozen() as classifier:
        classifier(X)
        assert model.count == 1


class Scripted(nn.Module):
    """With batch norm, which training mode would change."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 3)

    def forward(self, inputs):
        return self.head(self.norm(self.first(inputs)).mean((2, 3)))


def test_a_torchscript_model_can_be_frozen():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, but models are still handed over in it
        model = torch.jit.script(Scripted())
    with unchanged(model), Classifier(model).frozen() as classifier:
        assert not model.training
        assert torch.equal(classifier(X), classifier(X))
    assert model.training
