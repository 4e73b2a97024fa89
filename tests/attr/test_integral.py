"""Path attribution against Captum, closed forms, and slow loops."""

from __future__ import annotations

import math

import pytest
import torch
from captum.attr import IntegratedGradients
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from xlens.attr import Segment, path_integral
from xlens.attr.curve import Polyline
from xlens.attr.quadrature import METHODS
from xlens.counterfactual import CarriedCurve
from xlens.errors import OptionError

CPU = torch.device("cpu")


def integrate(score, curve, n=1, **options):
    return path_integral(score, curve, n, device=CPU, **options)


def test_a_polyline_passes_its_knots_where_they_are_said_to_lie():
    knots = torch.tensor([[[0.0], [4.0], [4.0], [5.0]], [[1.0], [1.0], [2.0], [2.0]]])
    # Two knots at one alpha are the same point.
    at = torch.tensor([[0.0, 0.5, 0.5, 1.0], [0.0, 0.0, 1.0, 1.0]])
    line = Polyline(knots, at)
    alphas = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0])
    found = [line(torch.full((5,), row), alphas).squeeze(1) for row in (0, 1)]
    torch.testing.assert_close(found[0], torch.tensor([0.0, 2.0, 4.0, 4.5, 5.0]))
    torch.testing.assert_close(found[1], torch.tensor([1.0, 1.25, 1.5, 1.75, 2.0]))
    even = Polyline(knots, torch.linspace(0, 1, 4).expand(2, -1))
    rows = torch.tensor([0, 1, 1, 0])
    places = torch.tensor([0.1, 0.4, 0.9, 1.0])
    torch.testing.assert_close(even(rows, places), Polyline(knots)(rows, places))


@pytest.mark.parametrize("n_steps", [2, 5, 16])
def test_along_a_segment_it_is_captums_integrated_gradients(n_steps):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Linear(18, 12), nn.Tanh(), nn.Linear(12, 3)).double()
        inputs, baselines = torch.randn(2, 4, 2, 3, 3, dtype=torch.float64)
    target = torch.tensor([0, 1, 2, 1])
    found, delta = integrate(
        lambda x, rows: network(x)[torch.arange(len(rows)), target[rows]],
        Segment(baselines, inputs), 4, n_steps=n_steps, tolerance=1e9, internal_batch_size=3,
    )  # fmt: skip
    expected, gap = IntegratedGradients(network).attribute(
        inputs, baselines, target, n_steps=n_steps, method="riemann_middle", return_convergence_delta=True
    )
    assert torch.allclose(found, expected, atol=1e-12)
    assert torch.allclose(delta, gap, atol=1e-6)


class Analytic:
    """The curve (sin(pi a / 2), a), as of a sinusoidal generator."""

    def __call__(self, rows, alphas):
        return torch.stack([(alphas * math.pi / 2).sin(), alphas], 1)


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        (lambda x, rows: x.square().sum(1), [1.0, 1.0]),
        (lambda x, rows: x[:, 0] * x[:, 1], [1 - 2 / math.pi, 2 / math.pi]),
        (lambda x, rows: x[:, 0] * x[:, 1].square(), [1 - 8 / math.pi**2, 8 / math.pi**2]),
    ],
)
def test_integrals_with_a_closed_form(score, expected):
    # Of x y^2: A_0 = int a^2 d(sin(pi a/2)) = 1 - 2 int a sin(pi a/2) da = 1 - 8/pi^2; A_1 is the rest.
    found, delta = integrate(score, Analytic(), n_steps=64, tolerance=1e-4)
    assert found[0].tolist() == pytest.approx(expected, abs=2e-4)
    assert delta.abs() < 2e-4


def test_the_path_matters():
    straight = Segment(torch.zeros(1, 2), torch.ones(1, 2))
    product = lambda x, rows: x[:, 0] * x[:, 1]  # noqa: E731
    along, _ = integrate(product, straight)
    around, _ = integrate(product, Analytic())
    assert along[0].tolist() == pytest.approx([0.5, 0.5], abs=1e-3)
    assert abs(float(around[0, 0]) - 0.5) > 0.1


def kink(x, rows):
    """Steep, with a kink at .7316, so that coarse segments are far off."""
    return (60 * (x[:, 0] - 0.7316)).clamp(0, 5) + x[:, 1]


def test_refinement_reaches_the_tolerance():
    line = Segment(torch.zeros(1, 2), torch.ones(1, 2))
    coarse, off = integrate(kink, line, n_steps=3, tolerance=1e9)
    fine, delta = integrate(kink, line, n_steps=3, tolerance=0.01)
    assert off.abs() > 0.5
    assert delta.abs() < 0.01 * 6
    assert fine[0].tolist() == pytest.approx([5.0, 1.0], abs=0.06)


def test_only_segments_that_need_it_are_refined():
    points = []

    def counted(x, rows):
        points.extend(rows.tolist() if x.requires_grad else [])
        return torch.where(rows == 0, x.sum(1), kink(x, rows))

    integrate(counted, Segment(torch.zeros(2, 2), torch.ones(2, 2)), 2, n_steps=4)
    assert points.count(0) == 4  # a linear score is exact at once
    assert 4 < points.count(1) < 4 + 2 * 8 * 4


def test_the_work_is_bounded_where_no_refinement_helps():
    points = []

    def jump(x, rows):
        points.append(len(x))
        return (x[:, 0] > 0.4321).to(x.dtype) + 0 * x[:, 0]

    found, delta = integrate(jump, Segment(torch.zeros(1, 1), torch.ones(1, 1)), n_steps=4)
    assert found.isfinite().all()
    assert delta.item() == pytest.approx(-1)  # it says that it is incomplete
    assert sum(points) < 200


@given(st.integers(1, 20), st.integers(1, 50))
@settings(max_examples=15, deadline=None)
def test_completeness_and_batching(n_steps, batch):
    generator = torch.Generator().manual_seed(n_steps * 100 + batch)
    start, end = torch.randn(2, 3, 4, generator=generator)
    score = lambda x, rows: (x.sin() * torch.arange(1.0, 5)).sum(1) + x.prod(1)  # noqa: E731
    found, delta = integrate(score, Segment(start, end), 3, n_steps=n_steps, internal_batch_size=batch)
    whole, _ = integrate(score, Segment(start, end), 3, n_steps=n_steps, internal_batch_size=10_000)
    difference = score(end, None) - score(start, None)
    assert torch.allclose(found.sum(1) - difference, delta.float(), atol=1e-4)
    assert torch.allclose(found, whole, atol=1e-4)


def test_swapping_the_ends_changes_the_sign():
    start, end = torch.randn(2, 2, 5, generator=torch.Generator().manual_seed(0))
    score = lambda x, rows: x.pow(3).sum(1)  # noqa: E731
    forward, _ = integrate(score, Segment(start, end), 2)
    backward, _ = integrate(score, Segment(end, start), 2)
    assert torch.allclose(forward, -backward, atol=1e-5)


def test_no_gradient_leaks():
    start, end = torch.zeros(1, 2, requires_grad=True), torch.ones(1, 2, requires_grad=True)
    weight = torch.ones(2, requires_grad=True)
    found, delta = integrate(lambda x, rows: (x * weight).sum(1), Segment(start, end))
    assert not found.requires_grad
    assert not delta.requires_grad
    assert start.grad is end.grad is weight.grad is None


@pytest.mark.parametrize("method", METHODS)
def test_every_rule_is_exact_where_the_curve_and_the_score_are_straight(method):
    codes = torch.tensor([[1.0, 3.0]])
    curve = CarriedCurve(
        codes, Segment(torch.zeros(1, 2), codes), codes, lambda z: z, "residual", None,
        torch.tensor([[-9.0]]), torch.tensor([[9.0]]),
    )  # fmt: skip
    found, delta = integrate(lambda x, rows: x.sum(1), curve, n_steps=4, method=method, tolerance=None)
    assert torch.allclose(found, codes, atol=1e-6)
    assert delta.abs().max() < 1e-6


@pytest.mark.parametrize("options", [{"n_steps": 0}, {"internal_batch_size": 0}, {"integrator": "x"}])
def test_options_of_the_integral_are_checked(options):
    with pytest.raises(OptionError, match=next(iter(options))):
        integrate(lambda x, rows: x.sum(1), Segment(torch.zeros(1, 2), torch.ones(1, 2)), **options)
