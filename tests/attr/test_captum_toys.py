"""Captum's own toy models: what its classes say of them, ours say, through its wrappers and metrics too."""

from __future__ import annotations

import captum.attr
import captum.metrics
import pytest
import torch
from smooth import identity
from torch import nn

from xlens.attr import LatentIntegratedGradients, LayerIntegratedGradients
from xlens.errors import DataError, ModelError

# Captum 0.8 keeps them to itself.
toys = pytest.importorskip("captum.testing.helpers.basic_models")


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


#: Models with their inputs, baselines, targets and further arguments, as Captum's own tests have them.
CASES = {
    "BasicModel": (toys.BasicModel(), tensor([5.0], [-2.0]), 0.0, 0, None),
    "BasicModel2": (toys.BasicModel2(), (tensor(3.0), tensor(1.0)), (0.0, 0.0), None, None),
    "BasicModel2, batch": (
        toys.BasicModel2(), (tensor(19.0, 20.0, 22.0), tensor(5.0, 3.0, 2.0)), (0.5, tensor(0.0, 0.0, 0.1)),
        None, None,
    ),
    "BasicModel4_MultiArgs": (
        toys.BasicModel4_MultiArgs(), (tensor([1.5, 2.0, 3.3]), tensor([3.0, 3.5, 2.2])), None, None,
        (tensor([1.0, 3.0, 4.0]), 0),
    ),
    "BasicModel6_MultiTensor": (
        toys.BasicModel6_MultiTensor(), (tensor([1.5, 2.0, 3.3]), tensor([3.0, 3.5, 2.2])), None, None, None
    ),
    "ReLULinearModel": (
        toys.ReLULinearModel(), (tensor([1.0, 2.0, 3.0]), tensor([0.5, 0.5, 0.5])), (0.0, 0.25), 0, None
    ),
    "BasicModel_MultiLayer": (
        toys.BasicModel_MultiLayer(), tensor([0.0, 100.0, 0.0], [3.0, 4.0, -1.0]), tensor([1.0, 2.0, 3.0]),
        [0, 1], None,
    ),
    "several dimensions": (
        toys.BasicModel_MultiLayer(), tensor([0.0, 100.0, 0.0], [1.0, 1.0, 9.0]), 0.0, [(1, 0, 0), (0, 1, 1)],
        (None, True),
    ),
    "BasicModel_MultiLayer_MultiInput": (
        toys.BasicModel_MultiLayer_MultiInput(),
        (tensor([0.0, 10.0, 0.0]), tensor([0.0, 10.0, 0.0]), tensor([0.0, 5.0, 0.0])), None, 0, (4,),
    ),
}  # fmt: skip


@pytest.mark.parametrize("noise", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_with_an_identity_generator_it_is_captums(case, noise):
    model, inputs, baselines, target, further = CASES[case]
    model = model.double()
    as_given = (lambda *z: z) if isinstance(inputs, tuple) else identity
    ours = LatentIntegratedGradients(model, as_given)
    given = {"additional_forward_args": further, "n_steps": 60, "method": "gausslegendre", "target": target}
    given |= {"baselines": _tensors(baselines, inputs), "return_convergence_delta": True}
    found, expected = (
        _attributed(method, inputs, given, noise) for method in (ours, captum.attr.IntegratedGradients(model))
    )
    assert type(found[0]) is type(expected[0])
    parts = [(*_tuple(values), delta) for values, delta in (found, expected)]
    for mine, theirs in zip(*parts, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    ("case", "layer", "before"),
    [
        ("BasicModel_MultiLayer", "linear0", False),
        ("BasicModel_MultiLayer", "relu", True),
        ("several dimensions", "linear1", False),
        ("BasicModel_MultiLayer_MultiInput", "model.linear1", False),
        ("BasicModel_MultiLayer_MultiInput", "model.linear0", True),
    ],
)
@pytest.mark.parametrize("noise", [False, True])
def test_layers_inside_captums_toys(case, layer, before, noise):
    model, inputs, baselines, target, further = CASES[case]
    model = model.double()
    given = {"additional_forward_args": further, "n_steps": 60, "target": target, "return_convergence_delta": True}
    given |= {"baselines": _tensors(baselines, inputs), "attribute_to_layer_input": before}
    theirs = captum.attr.LayerIntegratedGradients(model, model.get_submodule(layer))
    ours = LayerIntegratedGradients(model, layer)
    assert ours.layer is theirs.layer
    assert isinstance(ours, captum.attr.LayerAttribution)
    (found, delta), (expected, gap) = (_attributed(method, inputs, given, noise) for method in (ours, theirs))
    for mine, theirs in zip((*_tuple(found), delta), (*_tuple(expected), gap), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-6, rtol=1e-6)


def test_a_layer_with_two_outputs_and_one_whose_inputs_are_words():
    model, inputs = (
        toys.BasicModel_MultiLayer(multi_input_module=True).double(),
        tensor([0.0, 10.0, 0.0], [4.0, 1.0, -9.0]),
    )
    expected = captum.attr.LayerIntegratedGradients(model, model.multi_relu).attribute(inputs, target=1)
    for given in (inputs, (inputs,)):
        found = LayerIntegratedGradients(model, "multi_relu").attribute(given, target=1)
        assert isinstance(found, tuple)
        assert all(torch.allclose(mine, theirs, atol=1e-6) for mine, theirs in zip(found, expected, strict=True))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        words = nn.Sequential(nn.Embedding(30, 4), nn.Flatten(), nn.Linear(20, 3), nn.Tanh(), nn.Linear(3, 2))
    sentence = torch.arange(10).view(2, 5)
    found = LayerIntegratedGradients(words, "0").attribute(sentence, target=1)
    expected = captum.attr.LayerIntegratedGradients(words, words[0]).attribute(sentence, target=1)
    assert torch.allclose(found, expected, atol=1e-6)


def test_they_are_captums_attributions_and_say_that_they_are_complete():
    model = toys.BasicModel_MultiLayer().double()
    ours = LatentIntegratedGradients(model, identity), LayerIntegratedGradients(model, "linear1")
    for method in ours:
        assert isinstance(method, captum.attr.Attribution | captum.attr.GradientAttribution)
        assert method.has_convergence_delta()
        assert method.multiplies_by_inputs
        assert captum.attr.NoiseTunnel(method).has_convergence_delta()
    assert ours[0].get_name() == "Latent Integrated Gradients"


def test_the_delta_of_any_map_is_taken_through_the_generator():
    model = toys.BasicModel_MultiLayer().double()
    ours = LatentIntegratedGradients(model, lambda z: torch.cat([z, z.square(), -z], 1))
    codes, start = tensor([2.0], [3.0]), tensor([1.0])
    maps, delta = ours.attribute(codes, start.expand(2, 1), 1, n_steps=40, return_convergence_delta=True)
    again = ours.compute_convergence_delta(maps, start.expand(2, 1), codes, 1)
    assert torch.allclose(again, delta, atol=1e-6)
    off = ours.compute_convergence_delta(maps + 1, start.expand(2, 1), codes, 1)
    assert torch.allclose(off, again + 3, atol=1e-6)
    layer = LayerIntegratedGradients(model, "linear1")
    inputs = tensor([0.0, 10.0, 0.0])
    values = layer.attribute(inputs, target=0)
    again = layer.compute_convergence_delta(values, torch.zeros_like(inputs), inputs, 0)
    assert again.abs().item() < 1e-3


def test_captums_metrics_take_them():
    model = toys.BasicModel_MultiLayer().double()
    inputs = tensor([3.0, 1.0, 2.0], [4.0, 4.0, 0.5])
    found = []
    for method in (LatentIntegratedGradients(model, identity), captum.attr.IntegratedGradients(model)):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            found.append(captum.metrics.sensitivity_max(method.attribute, inputs, target=1, method="gausslegendre"))
    assert torch.allclose(*found, atol=1e-6)


def test_faults_are_said():
    model = toys.BasicModel_MultiLayer_MultiInput().double()
    three = (torch.ones(2, 3, dtype=torch.float64),) * 3
    with pytest.raises(DataError, match="2 baselines for 3 inputs"):
        LayerIntegratedGradients(model, "model.linear1").attribute(three, (0.0, 0.0), 0, (1,))
    with pytest.raises(DataError, match="one row per input"):
        LayerIntegratedGradients(model, "model.linear1").attribute(three, None, 0, (torch.ones(3),))
    with pytest.raises(ModelError, match="did not run"):
        LayerIntegratedGradients(toys.BasicModel_MultiLayer(), "linear1_alt").attribute(
            (torch.ones(2, 3),), target=0
        )


def _attributed(method, inputs, given, noise):
    if not noise:
        return method.attribute(inputs, **given)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return captum.attr.NoiseTunnel(method).attribute(inputs, nt_samples=4, stdevs=0.1, **given)


def _tensors(baselines, inputs):
    """NoiseTunnel repeats only tensors: rows for numbers where one is given for several inputs."""
    if isinstance(baselines, torch.Tensor) and not isinstance(inputs, tuple):
        return baselines.expand_as(inputs)
    return baselines


def _tuple(values):
    return values if isinstance(values, tuple) else (values,)
