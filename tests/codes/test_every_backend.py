"""What is asked of codes, of every backend that ships with xlens: it answers, or says why not and who can."""

from __future__ import annotations

import pytest
import torch
from ours import OPTIONS, OURS, around, mask_for

import xlens
from xlens.errors import OptionError, UnsupportedError
from xlens.registry.loading import load_backend
from xlens.testing.bench import quiet
from xlens.testing.world import World

MAPS = ("difference", "accumulated", "divergence_class", "divergence_nuisance")


@pytest.fixture(scope="module", params=OURS)
def explained(request):
    """A small lens of a backend on the toy world, and a few inputs."""
    world = World.of((2, 8, 10))
    options = OPTIONS.get(request.param, ({}, {}))[0]
    with quiet():
        backend = load_backend(request.param)(**options)
        model = around(world.model(), request.param)
        found = xlens.fit(model, world.inputs[:120], backend, mask=_mask(backend), progress=False)
    return found, world.held_out[:3]


def _mask(backend):
    return None if "edits" in backend.capabilities else mask_for(backend.name, xlens.MaskOptions(steps=2))


def test_shapley_values_of_named_parts_sum_to_the_difference(explained):
    explainer, inputs = explained
    with quiet():
        found = explainer.attribute(inputs, "shapley_value_sampling", options={"n_samples": 2})
        codes = explainer.attribute(inputs[:1], "feature_ablation", space="codes")
    assert found.values.shape == (3, len(found.names))
    assert found.convergence_delta.abs().max() < 1e-5
    # One and the same two codes, whatever is asked of them.
    assert torch.allclose(found.difference[:1], codes.difference, atol=1e-5)
    assert codes.values.shape == (1, len(codes.names))


@pytest.mark.parametrize("name", MAPS)
def test_the_papers_maps_are_there_or_it_is_said_why_not(explained, name):
    explainer, inputs = explained
    with quiet():
        try:
            found = explainer.explain(inputs, attributions=(name,), tolerance=0.5)
        except OptionError as fault:
            said = str(fault)
        else:
            assert found.attributions[name].shape == inputs.shape
            return
    if name in ("difference", "accumulated"):
        assert explainer.on_layer
        assert "decodes to a hidden layer" in said
    else:
        assert "divergence" not in explainer.backend.capabilities
        assert "svae" in said


def test_between_inputs_and_new_ones_or_it_is_said_why_not(explained):
    explainer, inputs = explained
    decodes = explainer.lens.decodes_to == "inputs"
    with quiet():
        if decodes:
            assert explainer.interpolate(inputs[:2], inputs[1:], 3).frames.shape == (2, 3, 2, 8, 10)
        else:
            with pytest.raises(UnsupportedError, match="interpolate: this lens (edits inputs|decodes to a hidden)"):
                explainer.interpolate(inputs[:2], inputs[1:], 3)
        if "sample" in explainer.backend.capabilities:
            for amount in (0.5, "boundary"):
                found = explainer.sample(3, amount=amount)
                assert found.shape == (3, 2, 8, 10)
                assert found.isfinite().all()
            name = explainer.features[0].name
            assert explainer.sample(2, 1, attributes={name: 0.5}).shape == (2, 2, 8, 10)
        else:
            with pytest.raises(UnsupportedError, match="backends that can: .*dif.*jlvm.*svae"):
                explainer.sample(2, 1)
