"""A fit that begins with an earlier lens: same backend, another classifier, nothing of the earlier one changed."""

from __future__ import annotations

import copy
import dataclasses
import json

import pytest
import torch
import toys
from ours import OPTIONS, OURS, TRAINED, around, mask_for

import xlens
from xlens.datasets import load_images, small_cnn, train_classifier
from xlens.errors import DataError, OptionError, StorageError, UnsupportedError
from xlens.explainer import LensExplainer
from xlens.registry.loading import load_backend
from xlens.testing.bench import quiet
from xlens.training import Trainer
from xlens.training.warm_start import begin_from

#: A mask of three steps, where the mask does not matter.
QUICK = toys.SHORT_MASK


def small(name, **options):
    return load_backend(name)(**{**OPTIONS.get(name, ({},))[0], **options})


@pytest.fixture(scope="module")
def inputs():
    return toys.pictures(64, seed=4)[0]


@pytest.fixture(scope="module")
def retrained():
    """The classifier after some more of its own training."""
    model = copy.deepcopy(toys.trained_cnn())
    inputs, labels = toys.pictures(64, seed=5)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, 1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(xlens.Classifier(model)(inputs), labels).backward()
        optimizer.step()
    return model


@pytest.fixture(scope="module")
def earlier(inputs):
    """One lens of each kind, fitted for a few steps."""
    made = {}

    def of(name):
        if name not in made:
            with quiet():
                classifier = around(toys.trained_cnn(), name)
                made[name] = xlens.fit(
                    classifier, inputs, small(name), mask=mask_for(name, QUICK), progress=False, seed=1
                )
        return made[name]

    return of


def weights(explainer):
    return torch.cat([p.detach().flatten() for p in explainer.lens.parameters()])


@pytest.mark.filterwarnings("ignore::xlens.errors.XlensWarning")
@pytest.mark.parametrize("name", TRAINED)
def test_every_backend_begins_with_the_earlier_weights(name, earlier, retrained, inputs):
    first = earlier(name)
    kept = copy.deepcopy(first.lens.state_dict())
    few, mask = small(name, steps=1), mask_for(name, QUICK)
    classifier = around(retrained, name)
    warm = xlens.fit(classifier, inputs, few, start_from=first, mask=mask, progress=False, seed=2)
    cold = xlens.fit(classifier, inputs, few, mask=mask, progress=False, seed=2)
    begun = weights(first)
    assert (weights(warm) - begun).norm() < 0.05 * (weights(cold) - begun).norm()
    assert all(torch.equal(value, kept[key]) for key, value in first.lens.state_dict().items())
    assert warm.lens is not first.lens


def test_the_saved_lens_is_bound_to_the_new_classifier(earlier, retrained, inputs, tmp_path):
    first = earlier("svae")
    warm = xlens.fit(retrained, inputs, first.backend, start_from=first, mask=QUICK, progress=False)
    warm.save(tmp_path)
    assert json.loads((tmp_path / "lens.json").read_text())["provenance"]["start_from"]
    assert "start_from" not in first.provenance
    loaded = xlens.load(tmp_path, retrained)
    assert torch.equal(weights(loaded), weights(warm))
    with pytest.raises(StorageError, match="another classifier"):
        xlens.load(tmp_path, toys.trained_cnn())


def test_the_mask_begins_with_the_earlier_one_and_takes_a_third_as_long(earlier, retrained, inputs):
    plan = xlens.MaskOptions().plan(earlier("svae").spec)
    assert plan.warm_start_steps * 3 <= plan.steps
    mask = xlens.MaskOptions(steps=6, warm_start_steps=2)
    first, events = earlier("svae"), []
    warm = xlens.fit(
        retrained, inputs, small("svae"), start_from=first, mask=mask, on_step=events.append, progress=False
    )
    assert [event.total for event in events if event.phase == "mask"] == [2, 2]
    moved = (warm.mask.entry.weight - first.mask.entry.weight).norm()
    assert moved < 0.1 * first.mask.entry.weight.norm()
    # The statistics of f's features are the new classifier's own.
    assert not torch.equal(warm.mask.maps.mean0, first.mask.maps.mean0)


def test_around_another_architecture_the_mask_is_fitted_anew(earlier, inputs):
    mask = xlens.MaskOptions(steps=6, warm_start_steps=2)
    torch.manual_seed(0)
    # Without convolutions, so the mask sees no feature maps.
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    events = []
    xlens.fit(
        model, inputs, small("svae"), start_from=earlier("svae"), mask=mask, on_step=events.append, progress=False
    )
    assert [event.total for event in events if event.phase == "mask"] == [6] * 6


def test_what_was_learned_is_kept():
    """On digits, for a classifier trained further: in a tenth of the steps the reconstruction is as good."""
    digits = load_images("digits")
    torch.manual_seed(0)
    model = train_classifier(small_cnn((1, 8, 8)), digits.train, digits.train_labels, steps=60, progress=False)
    backend = lambda steps: small("svae", steps=steps, hidden=64, nuisance_code=12)  # noqa: E731
    first = xlens.fit(copy.deepcopy(model), digits.train, backend(200), mask=QUICK, progress=False)
    train_classifier(model, digits.train, digits.train_labels, steps=5, seed=1, progress=False)
    warm = xlens.fit(model, digits.train, backend(20), start_from=first, mask=QUICK, progress=False, seed=1)
    cold = xlens.fit(model, digits.train, backend(20), mask=QUICK, progress=False, seed=1)

    def error(explainer):
        with torch.no_grad(), explainer.classifier.frozen():
            return float((explainer.lens.decode(explainer.lens.encode(digits.test)) - digits.test).square().mean())

    assert error(warm) < 1.05 * error(first)
    assert error(warm) < 0.8 * error(cold)


def test_a_checkpoint_of_a_cold_run_is_not_resumed_by_a_warm_one(earlier, retrained, inputs, tmp_path):
    fit = lambda **options: xlens.fit(  # noqa: E731
        retrained, inputs, small("svae"), output_dir=tmp_path, mask=QUICK, progress=False, **options
    )
    fit()
    with pytest.raises(StorageError, match="belongs to another run"):
        fit(start_from=earlier("svae"), resume=True)


def test_a_checkpoint_that_began_with_another_mask_is_not_resumed(earlier, retrained, inputs, tmp_path):
    first = earlier("svae")
    masked = copy.deepcopy(first.mask)
    with torch.no_grad():
        next(masked.parameters()).add_(0.1)
    fit = lambda start, **options: xlens.fit(  # noqa: E731
        retrained,
        inputs,
        small("svae"),
        start_from=start,
        output_dir=tmp_path,
        mask=QUICK,
        progress=False,
        **options,
    )
    fit(first)
    with pytest.raises(StorageError, match="belongs to another run"):
        fit(LensExplainer(dataclasses.replace(first.fitted, mask=masked)), resume=True)
    fit(first, resume=True)


@pytest.mark.parametrize(
    ("backend", "start", "error", "message"),
    [
        ("dif", "svae", OptionError, "a 'svae' lens to begin a 'dif' fit with.*pass backend='svae'"),
        ("svae", "no explainer", OptionError, "start_from is no explainer. Given: str. Allowed: what xlens.fit"),
        (
            small("svae", hidden=24),
            "svae",
            OptionError,
            r"another size.*model.trunk.*\(16, 64\) instead of \(24, 64\); .* more. .*dataclasses.replace",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_started_from_says_so(backend, start, error, message, earlier, retrained, inputs):
    given = earlier(start) if start in OURS else start
    with pytest.raises(error, match=message):
        xlens.fit(retrained, inputs, backend, start_from=given, progress=False)


def test_other_inputs_and_classes_are_refused(earlier):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(100, 2))
    with pytest.raises(DataError, match=r"inputs \(1, 8, 8\) of 3 classes. Allowed: inputs \(1, 10, 10\) of 2"):
        xlens.fit(model, torch.randn(40, 1, 10, 10), small("svae"), start_from=earlier("svae"), progress=False)


def test_networks_that_are_not_named_as_in_the_lens_are_refused(earlier):
    lens = earlier("svae").lens
    with pytest.raises(UnsupportedError, match="networks net, none of which a SVAELens has.*Allowed: model"):
        begin_from({"net": torch.nn.Linear(2, 2)}, lens, "mine")


def test_networks_beside_the_lens_begin_anew(earlier):
    lens = earlier("dif").lens
    critic, encoder = torch.nn.Linear(2, 2), copy.deepcopy(lens.encoder)
    before = critic.weight.detach().clone()
    torch.nn.init.zeros_(next(encoder.parameters()))
    run = toys.run_for(torch.zeros(4, 1, 8, 8), start_from=earlier("dif"))
    Trainer(run, "mine", networks={"encoder": encoder, "critic": critic}, optimizers={}, steps=1)
    assert torch.equal(next(encoder.parameters()), next(lens.encoder.parameters()))
    assert torch.equal(critic.weight, before)
