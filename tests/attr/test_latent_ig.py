"""LatentIntegratedGradients: Captum with an identity generator, known integrals, paths."""

from __future__ import annotations

import copy
import math

import captum.attr
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from smooth import CAPTUMS, identity, seeded, smooth_toy, tanh_network, use_captums_nodes

from xlens.attr import LatentIntegratedGradients, geodesic, guided, latent_shift
from xlens.attr.chords import decision_edges
from xlens.attr.evaluate import Evaluation
from xlens.attr.quadrature import METHODS, nodes_and_weights


@pytest.fixture(scope="module")
def network():
    return tanh_network()


@pytest.fixture
def captums_rounding(monkeypatch):
    use_captums_nodes(monkeypatch)


# --- with an identity generator it is Captum's IntegratedGradients ----------------------------------------


@pytest.mark.parametrize("method", CAPTUMS)
@pytest.mark.parametrize("size", [None, 1, 3, 40])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_same_nodes_give_captums_numbers(network, method, size, dtype, captums_rounding):
    network = copy.deepcopy(network).to(dtype)
    inputs, baselines = seeded(5, 3, 2, 2, dtype=dtype), seeded(5, 3, 2, 2, seed=1, dtype=dtype)
    options = {"target": 2, "n_steps": 7, "method": method, "return_convergence_delta": True}
    expected, gap = captum.attr.IntegratedGradients(network).attribute(inputs, baselines, **options)
    found, delta = LatentIntegratedGradients(network, identity).attribute(
        inputs, baselines, internal_batch_size=size, **options
    )
    tolerance = 1e-6 if dtype == torch.float32 else 1e-10
    assert found.dtype == dtype
    assert torch.allclose(found, expected, atol=tolerance, rtol=0)
    assert torch.allclose(delta.to(dtype), gap, atol=10 * tolerance, rtol=0)


@pytest.mark.parametrize("method", CAPTUMS)
def test_the_nodes_against_a_loop(network, method):
    inputs, baselines = seeded(2, 3, 2, 2), seeded(2, 3, 2, 2, seed=1)
    found = LatentIntegratedGradients(network, identity).attribute(inputs, baselines, 4, n_steps=6, method=method)
    if method == "gausslegendre":
        nodes, weights = np.polynomial.legendre.leggauss(6)
        pairs = list(zip((nodes + 1) / 2, weights / 2, strict=True))
    else:
        shift = {"riemann_left": 0, "riemann_middle": 0.5, "riemann_right": 1}[method]
        pairs = [((k + shift) / 6, 1 / 6) for k in range(6)]
    expected = torch.zeros_like(inputs)
    for node, weight in pairs:
        x = (baselines + float(node) * (inputs - baselines)).requires_grad_()
        expected += float(weight) * torch.autograd.grad(network(x)[:, 4].sum(), x)[0]
    assert torch.allclose(found, expected * (inputs - baselines), atol=1e-12)


def test_the_trapezoid_weights_are_not_captums():
    # Captum's sum to 1 - 1/n; the score is linear, so that any right rule is exact.
    captums = captum.attr.IntegratedGradients(lambda x: x.sum(1)).attribute(
        torch.ones(1, 3), n_steps=5, method="riemann_trapezoid"
    )
    ours = LatentIntegratedGradients(lambda x: x.sum(1), identity).attribute(
        torch.ones(1, 3), n_steps=5, method="riemann_trapezoid"
    )
    assert torch.allclose(captums, torch.full((1, 3), 0.8))
    assert torch.allclose(ours, torch.ones(1, 3))
    for method in METHODS:
        for n in (1, 2, 5):
            _, weights = nodes_and_weights(method, n, torch.device("cpu"), torch.float64)
            assert weights.sum().item() == pytest.approx(1)


@pytest.mark.parametrize(
    "target",
    [1, torch.tensor([0, 3, 1, 5]), [0, 3, 1, 5], torch.tensor(4), torch.tensor([2])],
)
@pytest.mark.parametrize("baselines", [None, 0.25, "row", "full"])
def test_captums_targets_and_baselines(network, target, baselines, captums_rounding):
    inputs = seeded(4, 3, 2, 2)
    baselines = {"row": inputs[:1] / 2, "full": inputs.flip(0)}.get(baselines, baselines)
    given = {"baselines": baselines, "target": target, "n_steps": 9, "method": "gausslegendre"}
    expected = captum.attr.IntegratedGradients(network).attribute(inputs, **given)
    found = LatentIntegratedGradients(network, identity).attribute(inputs, **given)
    assert torch.allclose(found, expected, atol=1e-10)


@pytest.mark.parametrize("target", [(1, 2), [(1, 2), (0, 1), (1, 0)]])
def test_targets_of_outputs_with_more_dimensions(network, target, captums_rounding):
    deep = lambda x: network(x).view(-1, 2, 3)  # noqa: E731
    inputs = seeded(3, 3, 2, 2)
    given = {"target": target, "n_steps": 5, "method": "gausslegendre"}
    expected = captum.attr.IntegratedGradients(deep).attribute(inputs, **given)
    found = LatentIntegratedGradients(deep, identity).attribute(inputs, **given)
    assert torch.allclose(found, expected, atol=1e-10)


@pytest.mark.parametrize("size", [None, 2])
def test_tuples_and_further_arguments(size, captums_rounding):
    def forward(a, b, weights, power, absent):
        assert absent is None
        return (weights * (a.sin() * b[:, :, 0]).sum(1)).pow(power)

    inputs = (seeded(4, 3).abs(), seeded(4, 3, 2, seed=1).abs())
    baselines = (0.1, inputs[1] / 3)
    further = (seeded(4, seed=2).abs() + 1, 2, None)
    given = {"additional_forward_args": further, "n_steps": 11, "method": "gausslegendre"}
    expected, gap = captum.attr.IntegratedGradients(forward).attribute(
        inputs, baselines, return_convergence_delta=True, **given
    )
    found, delta = LatentIntegratedGradients(forward, lambda *z: z).attribute(
        inputs, baselines, internal_batch_size=size, return_convergence_delta=True, **given
    )
    assert isinstance(found, tuple)
    assert all(torch.allclose(a, b, atol=1e-10) for a, b in zip(found, expected, strict=True))
    assert torch.allclose(delta, gap, atol=1e-10)
    (single,) = LatentIntegratedGradients(lambda x: x.sum(1), lambda z: (z,)).attribute((inputs[0],))
    assert torch.allclose(single, inputs[0])


@pytest.mark.parametrize("method", ["midpoint", "gausslegendre"])
def test_codes_are_attributed_as_captum_does_through_the_generator(network, method, captums_rounding):
    matrix = seeded(4, 12)
    decode = lambda z: (z @ matrix).tanh().view(-1, 3, 2, 2)  # noqa: E731
    codes, start = seeded(5, 4, seed=1), seeded(5, 4, seed=2)
    captums = "riemann_middle" if method == "midpoint" else method
    expected = captum.attr.IntegratedGradients(lambda z: network(decode(z))).attribute(
        codes, start, 3, n_steps=13, method=captums
    )
    found, delta = LatentIntegratedGradients(network, decode).attribute_codes(
        codes, start, 3, n_steps=13, method=method, return_convergence_delta=True
    )
    assert torch.allclose(found, expected, atol=1e-10)
    difference = network(decode(codes))[:, 3] - network(decode(start))[:, 3]
    assert torch.allclose(found.sum(1) - difference, delta, atol=1e-10)


# --- known integrals --------------------------------------------------------------------------------------


def test_a_quadratic_along_a_sinusoid_is_hit_exactly():
    # G(z) = (sin z1, cos z2), f = x1^2 + 3 x1 x2, from 0 to z. With s = a z:
    # A1 = sin^2 z1 + 3 int cos(z2 a) d sin(z1 a), A2 = 3 int sin(z1 a) d cos(z2 a).
    decode = lambda z: torch.stack([z[:, 0].sin(), z[:, 1].cos()], 1)  # noqa: E731
    score = lambda x: x[:, 0].square() + 3 * x[:, 0] * x[:, 1]  # noqa: E731
    z = torch.tensor([[1.2, 2.0], [-0.7, 0.4]], dtype=torch.float64)
    found, delta = LatentIntegratedGradients(score, decode).attribute(
        z, n_steps=40, method="gausslegendre", return_convergence_delta=True
    )
    for (a, b), row in zip(z.tolist(), found.tolist(), strict=True):
        # int_0^1 a cos(a t) cos(b t) dt, by the product formula.
        mixed = a / 2 * (math.sin(a - b) / (a - b) + math.sin(a + b) / (a + b))
        first = math.sin(a) ** 2 + 3 * mixed
        second = 3 * (math.sin(a) * math.cos(b) - mixed)
        assert row == pytest.approx([first, second], abs=1e-8)
    assert delta.abs().max() < 1e-8


@given(st.integers(0, 10_000))
@settings(max_examples=8, deadline=None)
def test_smooth_toys_against_jacobians(seed):
    decode, score, start, end, reference = smooth_toy(seed)
    lig = LatentIntegratedGradients(score, decode)
    exact, delta = lig.attribute(
        end, start, n_steps=64, method="gausslegendre", tolerance=1e-9, return_convergence_delta=True
    )
    chords = lig.attribute(end, start, n_steps=400)
    difference = (score(decode(end)) - score(decode(start))).abs().clamp_min(1e-3)
    assert (delta.abs() <= 1e-9 * difference).all()
    for row in range(2):
        assert np.allclose(exact[row], reference(row), atol=1e-6)
        assert np.allclose(chords[row], reference(row), atol=2e-4 * max(1, float(exact.abs().max())))


@given(st.integers(0, 10_000), st.integers(1, 12), st.sampled_from(["uniform", "decision"]))
@settings(max_examples=15, deadline=None)
def test_idgi_is_complete_at_any_number_of_steps(seed, n_steps, placement):
    decode, score, start, end, _ = smooth_toy(seed)
    found, delta = LatentIntegratedGradients(score, decode).attribute(
        end, start, n_steps=n_steps, integrator="idgi", placement=placement, return_convergence_delta=True
    )
    assert torch.allclose(found.sum(1), score(decode(end)) - score(decode(start)), atol=1e-10)
    assert delta.abs().max() < 1e-10


def test_idgi_against_a_loop():
    decode, score, start, end, _ = smooth_toy(3)
    found = LatentIntegratedGradients(score, decode).attribute(end, start, n_steps=5, integrator="idgi")
    for row in range(2):
        expected = torch.zeros(6, dtype=torch.float64)
        for k in range(5):
            here, there = (start[row] + (k + s) / 5 * (end[row] - start[row]) for s in (0, 1))
            x = decode(here[None]).requires_grad_()
            (g,) = torch.autograd.grad(score(x).sum(), x)
            change = score(decode(there[None])) - score(decode(here[None]))
            expected += (g * g / (g * g).sum() * change)[0]
        assert torch.allclose(found[row], expected, atol=1e-10)


def test_idgi_where_the_gradient_vanishes():
    # At 0 the gradient of x^2 is nothing, although the score is about to rise.
    square = LatentIntegratedGradients(lambda x: x.square().sum(1), identity)
    assert torch.allclose(square.attribute(torch.ones(1, 2), n_steps=1, integrator="idgi"), torch.ones(1, 2))
    still = square.attribute(torch.zeros(1, 2), n_steps=3, integrator="idgi")
    assert torch.equal(still, torch.zeros(1, 2))


def test_the_papers_formula_against_a_loop_and_that_it_is_not_complete():
    decode, score, start, end, _ = smooth_toy(5)
    lig = LatentIntegratedGradients(score, decode)
    found = lig.attribute(end, start, n_steps=6, integrator="lig_paper")
    for row in range(2):
        mean = torch.zeros(6, dtype=torch.float64)
        for k in range(6):
            x = decode((start[row] + (k + 0.5) / 6 * (end[row] - start[row]))[None]).requires_grad_()
            mean += torch.autograd.grad(score(x).sum(), x)[0][0] / 6
        assert torch.allclose(found[row], (decode(end) - decode(start))[row] * mean, atol=1e-10)
    difference = score(decode(end)) - score(decode(start))
    plateau = [
        float((lig.attribute(end, start, n_steps=n, integrator="lig_paper").sum(1) - difference).abs().max())
        for n in (50, 800)
    ]
    assert min(plateau) > 0.1  # no number of steps helps
    assert plateau[0] == pytest.approx(plateau[1], rel=0.05)


# --- placement and paths ----------------------------------------------------------------------------------


def test_decision_steps_gather_where_the_score_changes():
    score = lambda x, rows: torch.sigmoid(60 * (x[:, 0] - 0.7))  # noqa: E731
    curve = lambda rows, alphas: alphas.unsqueeze(1)  # noqa: E731
    evaluation = Evaluation(score, curve, torch.arange(2), 16, torch.float64)
    edges = decision_edges(evaluation, 20)
    assert (edges.diff(dim=1) > 0).all()
    assert edges[:, 0].tolist() == [0, 0]
    assert edges[:, -1].tolist() == [1, 1]
    assert ((edges > 0.6) & (edges < 0.8)).sum(1).tolist() >= [12, 12]
    flat = Evaluation(lambda x, rows: 0 * x[:, 0], curve, torch.arange(1), 16, torch.float64)
    assert torch.allclose(decision_edges(flat, 4), torch.linspace(0, 1, 5, dtype=torch.float64))


def test_a_geodesic_is_as_short_as_the_chord_where_that_can_be_had():
    # Polar coordinates: straight in the plane is curved in (r, phi), and no generator can do better.
    decode = lambda z: torch.stack([z[:, 0] * z[:, 1].cos(), z[:, 0] * z[:, 1].sin()], 1)  # noqa: E731
    start, end = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 2.0]])

    def length(knots):
        return decode(knots[0]).diff(dim=0).norm(dim=1).sum()

    alphas = torch.linspace(0, 1, 9).view(1, -1, 1)
    straight = start.unsqueeze(1) + alphas * (end - start).unsqueeze(1)
    chord = (decode(end) - decode(start)).norm()
    found = geodesic(start, end, decode).knots
    assert length(straight) > 1.18 * chord
    assert length(found) < 1.03 * chord
    assert torch.equal(found[:, 0], start)
    assert torch.equal(found[:, -1], end)
    together = geodesic(start.repeat(5, 1), end.repeat(5, 1), decode, batch=18).knots
    assert torch.allclose(together[3], found[0], atol=1e-4)


def test_a_guided_path_moves_first_what_matters_least():
    score = lambda x, rows: 10 * x[:, 0] + x[:, 1]  # noqa: E731
    start, end = torch.zeros(1, 3), torch.tensor([[1.0, 1.0, -2.0]])
    free = guided(start, end, score, n_steps=8, max_dist=1.0).knots[0]
    # The third coordinate has no influence at all, the first has most: 3, then 2, then 1.
    assert free[4].tolist() == pytest.approx([0, 0, -2])
    assert free[6].tolist() == pytest.approx([0, 1, -2])
    assert free[8].tolist() == [1, 1, -2]
    near = guided(start, end, score, n_steps=8, max_dist=0.1).knots[0]
    straight = torch.linspace(0, 1, 9).unsqueeze(1) * end
    for knots in (free, near):
        left = (end - knots).abs().sum(1)
        assert torch.allclose(left, torch.linspace(4, 0, 9), atol=1e-5)  # L1 distance falls evenly
        assert (knots.diff(dim=0) * end >= -1e-6).all()  # and no coordinate ever goes back
    assert ((near - straight).abs() <= 0.1 * end.abs() + 1e-5).all()


@pytest.mark.parametrize("path", ["linear", "geodesic", "guided", "pixel"])
def test_every_path_is_complete(path):
    decode, score, start, end, _ = smooth_toy(8)
    found, delta = LatentIntegratedGradients(score, decode).attribute(
        end, start, n_steps=20, path=path, tolerance=1e-3, return_convergence_delta=True
    )
    difference = score(decode(end)) - score(decode(start))
    assert torch.allclose(found.sum(1), difference, atol=2e-3 * float(difference.abs().max()))
    if path == "pixel":
        straight = captum.attr.IntegratedGradients(score).attribute(
            decode(end), decode(start), n_steps=200, method="gausslegendre"
        )
        assert torch.allclose(found, straight, atol=1e-2)


def test_latent_shift_walks_down_and_stops():
    decode = lambda z: torch.cat([4 * z, torch.ones(len(z), 1)], 1)  # noqa: E731
    codes = torch.tensor([[1.0, 0.5], [-3.0, 0.0]])
    shift = latent_shift(lambda x: x[:, 0], decode, codes, span=1000.0)
    assert (shift.probabilities.diff(dim=1) <= 0).all()
    assert shift.stopped.tolist() == [True, True]
    assert shift.probabilities[0, -1] < 0.2
    assert shift.heatmap[:, 1:].abs().max() == 0  # only the first pixel matters to the score
    assert shift.probabilities[1, 0] < 0.05  # there from the start, it takes one step and stops
    assert shift.shifts[1].unique().numel() == 2
    narrow = latent_shift(lambda x: x[:, 0], decode, codes, span=0.1)
    assert narrow.frames.shape[1] < shift.frames.shape[1]  # the change of the pixels stops it
    nowhere = latent_shift(lambda x: 0 * x.sum(1), decode, codes, span=1.0, n_steps=3)
    assert nowhere.frames.isfinite().all()
    assert nowhere.heatmap.abs().max() == 0
