"""The networks of medXGAN where shapes, models and classes are odd."""

import dataclasses
import threading

import pytest
import torch
import toys
from torch import nn
from toys import pictures, trained_cnn
from xlens_medxgan.critics import ClassifierCritic, ProjectionDiscriminator

import xlens
from xlens.contracts.backend import Spec


@pytest.fixture(scope="module")
def images():
    return pictures(96, 0)[0]


def quick(model, data, **changes):
    changes = {"steps": 3, "width": 4, "nuisance_code": 4, "mask": toys.SHORT_MASK, "progress": False, **changes}
    return xlens.fit(model, data, "medxgan", **changes)


def spec_of(shape, low=0.0, high=1.0):
    c = shape[0]
    low, high = (low,) * c, (high,) * c
    return Spec(
        shape=shape,
        num_classes=2,
        minimum=low,
        maximum=high,
        mean=low,
        std=high,
        class_margins=((0.0, 1.0), (1.0, 0.0)),
    )


def test_a_constant_channel_does_not_blind_the_discriminator():
    spec = dataclasses.replace(spec_of((2, 8, 8)), minimum=(0.0, 1.0), maximum=(4.0, 1.0))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        opaque = torch.cat([torch.rand(3, 1, 8, 8), torch.ones(3, 1, 8, 8)], 1)
        judge = ProjectionDiscriminator(spec, width=8)
    nearly = opaque.clone()
    nearly[:, 1] += 1e-4
    # Divided by a range of nothing, it would be moved by thousands.
    assert (judge(opaque) - judge(nearly)).abs().max() < 0.1


@pytest.mark.parametrize("shape", [(1, 9, 100), (1, 100, 9), (2, 15, 127), (1, 13, 8)])
def test_discriminators_take_every_aspect(shape):
    judge = ProjectionDiscriminator(spec_of(shape), width=4)
    assert judge(torch.rand(2, *shape)).shape[0] == 2


def test_hooks_of_the_user_stay_out_of_the_critic(images):
    model = trained_cnn()
    lock, calls = threading.Lock(), []

    class Logger:
        def __init__(self):
            self.lock = lock  # cannot be copied

        def __call__(self, *_):
            calls.append(1)

    handle = next(m for m in model.modules() if isinstance(m, nn.Conv2d)).register_forward_hook(Logger())
    try:
        critic = ClassifierCritic(xlens.Classifier(model), images[:2], 4.0)
        calls.clear()
        critic(images[:2])
        assert not calls
        model(images[:2])
        assert calls
    finally:
        handle.remove()


def test_only_classes_that_f_gives_are_drawn():
    torch.manual_seed(0)
    wide = nn.Sequential(nn.Flatten(), nn.Linear(64, 40))
    with torch.no_grad():
        wide[1].bias[3:] = -100
    inputs = torch.randn(60, 1, 8, 8)
    explainer = quick(wide, inputs, class_code=2)
    assert set(explainer.lens.evidence.drawable.tolist()) <= {1, 2}
