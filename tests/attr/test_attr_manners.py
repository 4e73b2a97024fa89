"""The attribution engine's manners: memory, dtypes, hidden layers, errors, and what must not pass silently."""

from __future__ import annotations

import math

import pytest
import torch
from guard import unchanged
from smooth import identity, seeded, tanh_network
from torch import nn

from xlens.attr import LatentIntegratedGradients
from xlens.attr.evaluate import widest_float
from xlens.attr.memory import default_budget, peak_bytes, points_in_flight
from xlens.errors import DataError, ModelError, OptionError, XlensWarning


@pytest.fixture(scope="module")
def network():
    return tanh_network()


# --- memory, dtypes, manners ------------------------------------------------------------------------------


def test_internal_batch_size_bounds_every_call(network):
    seen, decoded = [], []

    def forward(x):
        seen.append(len(x))
        return network(x)

    def identity(z):
        decoded.append(len(z))
        return z

    for options in ({}, {"integrator": "idgi"}, {"integrator": "lig_paper"}, {"method": "gausslegendre"}):
        LatentIntegratedGradients(forward, identity).attribute(
            seeded(7, 3, 2, 2), target=1, n_steps=6, internal_batch_size=3, tolerance=1e-4, **options
        )
    LatentIntegratedGradients(forward, identity).attribute(
        seeded(7, 3, 2, 2), target=1, internal_batch_size=3, path="guided"
    )
    assert max(seen) == 3  # although there are seven inputs
    assert max(decoded) == 3


def test_a_single_pass_costs_one_gradient_a_step_and_two_scores(network):
    gradients, scores = [], []

    def forward(x):
        (gradients if torch.is_grad_enabled() else scores).append(len(x))
        return network(x)

    LatentIntegratedGradients(forward, identity).attribute(
        seeded(4, 3, 2, 2), target=0, n_steps=10, internal_batch_size=40, tolerance=0.5
    )
    assert sum(gradients) == 40
    assert sum(scores) == 8


def test_the_generator_builds_no_graph(network):
    matrix = seeded(4, 12).requires_grad_()
    enabled = []

    def decode(z):
        enabled.append(torch.is_grad_enabled())
        return (z @ matrix).view(-1, 3, 2, 2)

    LatentIntegratedGradients(network, decode).attribute(seeded(2, 4), target=0)
    assert not any(enabled)
    assert matrix.grad is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_models(dtype):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        full = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 2))
    inputs = seeded(3, 8, dtype=torch.float32)
    half = nn.Sequential(*full).to(dtype)
    given = {"target": 1, "n_steps": 50, "return_convergence_delta": True}
    found, delta = LatentIntegratedGradients(half, identity).attribute(inputs.to(dtype), **given)
    expected, _ = LatentIntegratedGradients(full.float(), identity).attribute(inputs.to(dtype).float(), **given)
    assert found.dtype == dtype
    assert torch.allclose(found.float(), expected, atol=0.02)
    assert delta.abs().max() < 0.02


def test_a_device_without_float64_sums_in_float32(monkeypatch):
    assert widest_float(torch.device("cpu")) == torch.float64
    zeros = torch.zeros

    def refuses(*size, dtype=None, **options):
        if dtype == torch.float64:
            raise TypeError("the device has no float64")
        return zeros(*size, dtype=dtype, **options)

    monkeypatch.setattr(torch, "zeros", refuses)
    assert widest_float(torch.device("cpu")) == torch.float32
    found, delta = LatentIntegratedGradients(lambda x: x.sin().sum(1), identity).attribute(
        torch.ones(2, 3), n_steps=3, tolerance=1e-3, return_convergence_delta=True
    )
    assert delta.dtype == torch.float32
    assert found.sum(1).tolist() == pytest.approx([3 * math.sin(1)] * 2, rel=2e-3)


def test_bytes_alive_are_counted():
    assert peak_bytes(lambda: [torch.zeros(1000) for _ in range(5)]) == 20_000

    def one_by_one():
        for _ in range(5):
            kept = torch.zeros(1000)
        return kept

    assert peak_bytes(one_by_one) == 8_000  # the next is made before the last is let go
    weight = torch.ones(1000, requires_grad=True)
    held = peak_bytes(lambda: (weight.exp().exp().exp()).sum().backward())
    assert held >= 3 * 4000  # what autograd keeps counts
    assert peak_bytes(lambda: weight.detach().view(10, 100)) == 0  # views are nothing new


def test_points_in_flight_follow_the_budget():
    cpu = torch.device("cpu")
    one = lambda: torch.zeros(250_000)[:1]  # noqa: E731  a megabyte for a single number
    assert points_in_flight(one, cpu, 10_001_000) == 10
    assert points_in_flight(one, cpu, 1) == 1
    assert points_in_flight(one, cpu, None) == default_budget(cpu) // 1_000_032


def test_a_budget_bounds_what_is_alive_whatever_the_batch():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        wide = [nn.Linear(2000, 2000), nn.Tanh(), nn.Linear(2000, 2000), nn.Tanh()]
        network = nn.Sequential(*wide, nn.Linear(2000, 2))
    lig = LatentIntegratedGradients(network.requires_grad_(False), identity)
    budget = 2_000_000
    result = 2000 * 4
    inputs = torch.ones(64, 2000)
    few, many = (
        peak_bytes(lambda n=n: lig.attribute(inputs[:n], target=0, memory_budget=budget)) - n * result
        for n in (32, 64)
    )
    unbounded = peak_bytes(lambda: lig.attribute(inputs, target=0))
    assert many < 2 * budget
    assert many < 1.1 * few
    assert unbounded > 5 * many


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"method": "gauslegendre"}, OptionError, "Did you mean 'gausslegendre'"),
        ({"integrator": "ligg", "placement": "x"}, OptionError, "(?s)integrator 'ligg'.*placement 'x'"),
        ({"integrator": "idgi", "method": "riemann_left"}, OptionError, "has no quadrature"),
        ({"placement": "decision", "method": "riemann_left"}, OptionError, "places segments"),
        ({"path": "straight"}, OptionError, "path 'straight' is unknown"),
        ({"n_steps": 0}, OptionError, "n_steps must be"),
        ({"method": "x", "n_steps": 0, "memory_budget": 0}, OptionError, "(?s)method 'x'.*bytes.*n_steps must be"),
        ({"target": "a"}, DataError, "in no form that is known"),
        ({"target": [[0], [1, 2]]}, DataError, "in no form that is known"),
        ({"tolerance": -1}, OptionError, "tolerance must be"),
        ({"memory_budget": 0}, OptionError, "memory_budget must be a number of bytes"),
        ({"internal_batch_size": 0}, OptionError, "internal_batch_size must be"),
        ({"target": 6}, DataError, "target does not fit"),
        ({"target": (1, 1)}, DataError, "target does not fit"),
        ({"target": None}, DataError, "a target is needed"),
        ({"target": 0.5}, DataError, "in no form that is known"),
        ({"target": [0, 1, 2]}, DataError, "in no form that is known"),
        ({"baselines": torch.zeros(3, 3, 2, 2)}, DataError, "baseline does not fit"),
        ({"baselines": (0, 0)}, DataError, "2 baselines for 1 inputs"),
        ({"additional_forward_args": torch.zeros(9)}, DataError, "9 rows for 4 inputs"),
    ],
)
def test_wrong_arguments(network, options, error, message):
    lig = LatentIntegratedGradients(lambda x, *_: network(x), identity)
    with pytest.raises(error, match=message):
        lig.attribute(seeded(4, 3, 2, 2), **({"target": 1} | options))


def test_inputs_that_are_no_batch(network):
    lig = LatentIntegratedGradients(network, identity)
    for inputs in (torch.tensor(1.0), (), [1.0], (torch.zeros(2, 3), torch.zeros(3, 3)), torch.zeros(0, 12)):
        with pytest.raises(DataError, match="not batches of one length"):
            lig.attribute(inputs, target=0)
    with pytest.raises(DataError, match="does not return one row per input"):
        LatentIntegratedGradients(lambda x: x.sum(), identity).attribute(seeded(2, 3))


def test_a_generator_without_forward_derivatives_is_named():
    class Opaque(torch.autograd.Function):
        @staticmethod
        def forward(ctx, z):
            return z * 2

        @staticmethod
        def backward(ctx, gradient):
            return gradient * 2

    lig = LatentIntegratedGradients(lambda x: x.sum(1), Opaque.apply)
    assert torch.allclose(lig.attribute(torch.ones(1, 3)), torch.full((1, 3), 2.0))
    with pytest.raises(OptionError, match="use method='midpoint'"):
        lig.attribute(torch.ones(1, 3), method="gausslegendre")


# --- what must not pass silently --------------------------------------------------------------------------


def test_nan_is_an_error_that_says_where():
    lig = LatentIntegratedGradients(lambda x: x.sum(1).sqrt(), identity)
    with pytest.raises(ModelError, match="not finite. Given: NaN or infinity on the path of input 1"):
        lig.attribute(torch.tensor([[1.0, 0.5], [-1.0, 0.5]]), 0.1)
    with pytest.raises(ModelError, match="gradient is not finite"):
        LatentIntegratedGradients(lambda x: x.sum(1).sqrt(), identity).attribute(
            torch.ones(1, 2), method="riemann_left"
        )


def test_functions_that_detach_are_named():
    twice = lambda z: (2 * z).detach()  # noqa: E731
    score = lambda x: x.square().sum(1)  # noqa: E731
    chords = LatentIntegratedGradients(score, twice).attribute(torch.ones(1, 2))
    assert torch.allclose(chords, torch.full((1, 2), 4.0))
    with pytest.raises(OptionError, match="does not follow its input"):
        LatentIntegratedGradients(score, twice).attribute(torch.ones(1, 2), method="gausslegendre")
    for path in ("geodesic", "guided"):
        with pytest.raises(ModelError, match="use path='linear'"):
            LatentIntegratedGradients(score, twice).attribute(torch.ones(1, 2), path=path)
    with pytest.raises(ModelError, match="does not depend on its input"):
        LatentIntegratedGradients(lambda x: score(x.detach()), identity).attribute(torch.ones(1, 2))


def test_a_sum_that_misses_its_tolerance_warns():
    jump = LatentIntegratedGradients(lambda x: (x > 0.4321).float().sum(1) + 0 * x.sum(1), identity)
    with pytest.warns(XlensWarning, match="1 of 1 attributions are not complete within 0.01"):
        jump.attribute(torch.ones(1, 1), n_steps=4, tolerance=0.01)


def test_the_delta_is_of_what_is_returned():
    weight = seeded(20_000, dtype=torch.float32) / 100
    lig = LatentIntegratedGradients(lambda x: (x.float() * weight).sin().sum(1), identity)
    inputs = seeded(1, 20_000, seed=1, dtype=torch.float32).bfloat16()
    found, delta = lig.attribute(inputs, n_steps=20, return_convergence_delta=True)
    scores = [lig.forward_func(x) for x in (inputs, torch.zeros_like(inputs))]
    assert delta.item() == pytest.approx(float(found.double().sum() - (scores[0] - scores[1]).double()), abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_guided_paths_in_half_precision(dtype):
    lig = LatentIntegratedGradients(lambda x: x.float().sin().sum(1), identity)
    found = lig.attribute(torch.full((1, 20_000), 1.0, dtype=dtype), path="guided")
    assert found.isfinite().all()
    assert found.double().sum() == pytest.approx(20_000 * math.sin(1), rel=0.02)


def test_modules_in_training_are_explained_in_eval_mode_and_left_alone():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 2)).train()
        decoder = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).train()
    state = torch.get_rng_state()
    with unchanged(model), unchanged(decoder):
        first, second = (
            LatentIntegratedGradients(model, decoder).attribute(seeded(2, 3, dtype=torch.float32), target=0)
            for _ in range(2)
        )
    assert torch.equal(first, second)
    assert torch.equal(state, torch.get_rng_state())


def test_inference_mode_and_squeezed_outputs():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Linear(3, 1)
    squeezed = LatentIntegratedGradients(lambda x: model(x).squeeze(), torch.inference_mode()(lambda z: 2 * z))
    with torch.inference_mode():
        inputs = torch.ones(3, 3) + 0
        found = squeezed.attribute(inputs, internal_batch_size=2)
    assert torch.allclose(found, 2 * model.weight.expand(3, 3))


@pytest.mark.parametrize(
    ("decode", "message"),
    [(lambda z: [z], "decode does not return a batch"), (lambda z: z.sum(), "decode does not return a batch")],
)
def test_generators_that_return_no_batch(decode, message):
    with pytest.raises(DataError, match=message):
        LatentIntegratedGradients(lambda x: x.sum(1), decode).attribute(torch.ones(2, 3))
    with pytest.raises(DataError, match="whole numbers have no gradient"):
        LatentIntegratedGradients(lambda x: x.sum(1), identity).attribute(torch.ones(2, 3).long())


def test_a_channels_last_generator():
    decode = lambda z: z.view(-1, 2, 2, 2).contiguous(memory_format=torch.channels_last).sin()  # noqa: E731
    lig = LatentIntegratedGradients(lambda x: x.sum((1, 2, 3)), decode)
    found = lig.attribute(torch.ones(2, 8), path="geodesic")
    assert torch.allclose(found.sum((1, 2, 3)), torch.full((2,), 8 * math.sin(1)), rtol=1e-3)
