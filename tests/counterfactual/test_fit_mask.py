"""Fitting the mask: it confines an edit, and its options do what they say."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import toys

import xlens
from xlens.errors import OptionError


def test_the_mask_confines_a_lens_that_changes_everything(trained, images, labels):
    shorter = xlens.MaskOptions(steps=120)
    sloppy = xlens.fit(trained, toys.pictures(96, 0)[0], toys.Toy(kind="sloppy"), mask=shorter, progress=False)
    with_patch = labels[:30] > 0
    found = sloppy.explain(images[:30], attributions=())
    patch = toys.patch_of(images[:30])[with_patch]

    def share(change):
        energy = change[with_patch].square()
        return float((energy * patch).sum() / energy.sum())

    whole = sloppy.lens.decode(found.counterfactual_codes) - found.inputs
    assert share(whole) < 0.92
    assert share(found.edit) > 0.97
    assert found.fidelity.flips[with_patch].float().mean() > 0.9
    assert (found.fidelity.coverage < 0.8).all()


def phases(explainer_of, **options):
    """Fit with these options, and return the explainer and the events of the mask's training."""
    events = []
    explainer = explainer_of(mask=xlens.MaskOptions(**options), on_step=events.append)
    return explainer, [event for event in events if event.phase == "mask"]


@pytest.fixture(scope="module")
def explainer_of(trained):
    inputs = toys.pictures(96, seed=0)[0]
    return lambda **options: xlens.fit(trained, inputs, toys.Toy(), progress=False, **options)


def test_it_takes_the_steps_that_it_is_given_and_they_are_saved(explainer_of, trained, toy_installed, tmp_path):
    explainer, events = phases(explainer_of, steps=4, batch_size=8)
    assert [(event.step, event.total) for event in events] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert explainer.fitted.mask_options == xlens.MaskOptions(steps=4, batch_size=8)
    explainer.save(tmp_path)
    assert xlens.load(tmp_path, trained).fitted.mask_options == xlens.MaskOptions(steps=4, batch_size=8)
    # By itself, the defaults are not worth a line.
    assert (
        "mask" not in xlens.fit(torch.nn.Linear(5, 2), torch.randn(30, 5), toys.Plain(), progress=False).provenance
    )


def test_a_mask_that_begins_from_an_earlier_one_takes_its_own_steps(explainer_of):
    first, _ = phases(explainer_of, steps=6)
    for options, steps in (({"steps": 6, "warm_start_steps": 2}, 2), ({"steps": 3}, 3)):
        events = []
        explainer_of(start_from=first, mask=xlens.MaskOptions(**options), on_step=events.append)
        assert len(events) == steps


class Counting(toys.ToyLens):
    """Counts the inputs that are encoded."""

    encoded = 0

    def encode(self, inputs):
        type(self).encoded += len(inputs)
        return super().encode(inputs)


@pytest.mark.parametrize(
    ("directly", "pool", "least", "most"),
    [(True, 70, 70, 250), (True, 1100, 1100, 1700), (False, 1100, 512, 900), (False, 70, 70, 250)],
)
def test_no_more_inputs_are_encoded_than_the_pool_takes(trained, directly, pool, least, most):
    class Lens(Counting):
        encodes_directly = directly

    class Backend(toys.Toy):
        def build(self, classifier, spec):
            return Lens()

    # Of inputs that lack evidence already, which are about a third, only a third are kept; they come 64 at a time.
    inputs = toys.pictures(2400, seed=0)[0]
    xlens.fit(trained, inputs, Backend(), mask=xlens.MaskOptions(steps=1, pool=pool), progress=False)
    # 128 more, or 32 where each is a search, say in the end whether the lens is sound.
    assert least <= Lens.encoded <= most + (128 if directly else 32)


def test_the_share_that_is_to_flip_is_followed(explainer_of):
    """The dual variable rises while fewer flip than are wanted, so it ends higher where more are wanted."""
    much, little = (phases(explainer_of, steps=40, pool=96, flip_share=share)[0] for share in (0.99, 0.05))
    assert (much.mask.log_lambda > little.mask.log_lambda).any()
    assert (much.mask.log_lambda >= little.mask.log_lambda).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps must be .*>= 1.*got 0"),
        ({"steps": 1.5}, "steps must be"),
        ({"steps": True}, "steps must be"),
        ({"warm_start_steps": -1}, "warm_start_steps must be"),
        ({"batch_size": 0}, "batch_size must be"),
        ({"pool": 0}, "pool must be"),
        ({"flip_share": 0}, "flip_share must be"),
        ({"flip_share": 1.0}, "flip_share must be"),
        ({"flip_share": float("nan")}, "flip_share must be"),
        ({"step": 3}, "unknown option 'step'. Did you mean 'steps'"),
        ({"steps": 0, "pool": 0}, "steps must be.*pool must be"),
    ],
)
def test_its_options_are_checked(options, message):
    with pytest.raises(OptionError, match=message):
        xlens.MaskOptions(**options)


def test_its_options_are_frozen_and_have_a_line_of_help_each():
    options = xlens.MaskOptions()
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.steps = 3
    for field in dataclasses.fields(options):
        assert field.metadata["help"], field.name
