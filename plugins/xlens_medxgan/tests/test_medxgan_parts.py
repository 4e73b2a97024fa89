"""The networks of medXGAN where shapes, models and classes are odd."""

import dataclasses
import threading

import pytest
import scipy.stats
import torch
import toys
from torch import nn
from toys import pictures, trained_cnn
from xlens_medxgan import MedXGAN
from xlens_medxgan.critics import ClassifierCritic, ProjectionDiscriminator
from xlens_medxgan.objective import Objective

import xlens
from xlens.contracts.backend import Spec
from xlens.data import Batch
from xlens.datasets import small_cnn
from xlens.nn import Penultimate


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


def two_classes():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return small_cnn((1, 8, 8), 2).eval().requires_grad_(False)


def of_the_paper(model, spec, **options):
    """A lens and discriminator with the paper's settings, small, as they begin."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backend = MedXGAN.paper(nuisance_code=5, class_code=7, width=8, **options)
        return backend, backend.build(xlens.Classifier(model), spec)


class Recording:
    """In a trainer's place: keeps what it should have minimised."""

    def __init__(self, networks):
        self.networks, self.minimised, self.step_index = networks, {}, 0
        self.generator = torch.Generator().manual_seed(0)

    def minimise(self, loss, name):
        self.minimised[name] = loss.detach()


def one_step(images, **options):
    """Take one step of the paper's objective; return it, what the discriminator saw, and z2."""
    model, spec = two_classes(), spec_of(images.shape[1:])
    backend, lens = of_the_paper(model, spec, **options)
    judge = ProjectionDiscriminator(spec, width=8, conditional=False, spectral=backend.spectral)
    seen, decoded = [], []
    judge.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    lens.generator.trunk.register_forward_pre_hook(lambda _, given: decoded.append(given))
    trainer = Recording({"generator": lens.generator, "prior": lens.prior, "discriminator": judge})
    logits_of = lambda batch: model(batch.inputs)  # noqa: E731
    objective = Objective(
        trainer,
        lens.evidence,
        lens.prior,
        lens.usual,
        Penultimate(lens.classifier, model, images[:2]),
        backend._weights(),
        soft=backend.soft,
        hinge=backend.hinge,
        warm_up=0,
        shifts=backend.shifts,
        outputs_of=logits_of,
        labels_of=logits_of,
    )
    objective(Batch(images))
    return trainer.minimised, judge, seen, decoded[0]


def test_one_step_with_the_papers_settings_is_equation_4(images):
    x = images[:24]
    minimised, judge, seen, (z1, z2) = one_step(x)
    real, fake = seen[0][:24], seen[0][24:]
    # The generator is judged on the very images that the discriminator was.
    assert torch.equal(real, x)
    assert torch.equal(seen[1], fake)
    none, k = torch.zeros(24, dtype=torch.long), torch.zeros(24)
    on_real, on_fake = judge.judge(judge(real), none), judge.judge(judge(fake), none)
    bce = torch.nn.functional.binary_cross_entropy_with_logits
    torch.testing.assert_close(minimised["discriminator"], bce(on_real, k + 1) + bce(on_fake, k))
    # One class beside the reference: y is 1 wherever z2 is not 0.
    y = (z2 != 0).any(1).long()
    wanted = bce(on_fake, k + 1) + torch.nn.functional.cross_entropy(two_classes()(fake), y)
    torch.testing.assert_close(minimised["lens"], wanted)
    assert z1.shape == (24, 5)
    assert z2.shape == (24, 7)  # concatenated with z1 and with nothing else
    assert 0 < int(y.sum()) < 24


def test_shifts_reach_the_generators_step_where_they_are_asked_for(images):
    _, _, both, _ = one_step(images[:24], shifts="both")
    _, _, own, (_, _) = one_step(images[:24], shifts="discriminator")
    _, _, none, _ = one_step(images[:24])
    # The same images three times; the generator's step sees them moved in the first alone.
    assert torch.equal(own[1], none[1])
    assert not torch.equal(both[1], none[1])
    torch.testing.assert_close(both[1].sum((1, 2, 3)), none[1].sum((1, 2, 3)))


def test_the_papers_evidence_is_gaussian_and_the_discriminator_is_plain():
    _, lens = of_the_paper(two_classes(), spec_of((1, 8, 8)))
    drawn = lens.evidence.draw(4000, torch.Generator().manual_seed(0)).double()
    assert scipy.stats.kstest(drawn.square().sum(1).numpy(), "chi2", args=(7,)).pvalue > 0.01
    plain, normed = (ProjectionDiscriminator(spec_of((1, 8, 8)), width=8, spectral=s) for s in (False, True))
    assert not any("parametrizations" in name for name, _ in plain.named_parameters())
    assert any("parametrizations" in name for name, _ in normed.named_parameters())


def test_the_papers_inversion_is_equation_5(images):
    x = images[:6]
    _, lens = of_the_paper(two_classes(), spec_of((1, 8, 8)))
    codes = torch.randn(6, 12, generator=torch.Generator().manual_seed(1))
    p = lens.classifier.probabilities(x)
    with torch.no_grad():
        decoded = lens.decode(codes)
        q = lens.classifier.probabilities(decoded)
        found = lens.inversion.loss(codes, x, p)
    mse = (decoded - x).square().mean((1, 2, 3))
    # The cross entropy, less what no code can change: the entropy of the classifier's answer.
    bce = torch.nn.functional.binary_cross_entropy
    own, other = bce(p[:, 1], p[:, 1], reduction="none"), bce(q[:, 1], p[:, 1], reduction="none")
    torch.testing.assert_close(found, mse + other - own, atol=1e-5, rtol=1e-4)


def test_the_papers_codes_are_as_wide_as_it_says():
    assert (MedXGAN.paper().nuisance_code, MedXGAN.paper().class_code) == (1000, 100)
    wide = MedXGAN.paper().build(xlens.Classifier(two_classes()), spec_of((1, 8, 8)))
    assert wide.decode(torch.zeros(1, 1100)).shape == (1, 1, 8, 8)
