"""Smooth networks and toys on which integrals are known, and Captum's own nodes."""

from __future__ import annotations

import numpy as np
import torch
from captum.attr._utils.approximation_methods import approximation_parameters
from torch import nn

from xlens.attr.quadrature import METHODS

#: Captum's rules, but for the one whose weights do not sum to 1 there.
CAPTUMS = tuple(name for name in METHODS if name not in ("midpoint", "riemann_trapezoid"))


def seeded(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def identity(z):
    return z


def tanh_network():
    """Return a network for inputs ``(N, 3, 2, 2)`` with six outputs, in float64."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, 6)).double()


def use_captums_nodes(monkeypatch):
    """Round as Captum does: weights to float32, and the nodes of its Riemann rules, whatever the dtype."""
    from xlens.attr import integral

    def rounded(method, n, device, dtype):
        weights, nodes = (torch.tensor(rule(n), dtype=dtype) for rule in approximation_parameters(method))
        return nodes, weights.float().to(dtype)

    exact = integral.nodes_and_weights
    for method in CAPTUMS:
        ours = exact(method, 7, torch.device("cpu"), torch.float64)
        theirs = rounded(method, 7, torch.device("cpu"), torch.float64)
        if not all(torch.allclose(a, b, atol=1e-7) for a, b in zip(ours, theirs, strict=True)):
            raise AssertionError(f"the nodes of {method} are not Captum's, up to rounding")
    monkeypatch.setattr(integral, "nodes_and_weights", lambda *a: exact(*a) if a[0] == "midpoint" else rounded(*a))


def smooth_toy(seed):
    """A random smooth generator and score, with a slow reference for their line integral."""
    w, v = seeded(3, 6, seed=seed), seeded(6, 6, seed=seed + 1)
    decode = lambda z: (z @ w).sin() + 0.3 * (z @ w)  # noqa: E731
    score = lambda x: ((x @ v).tanh() * x).sum(1)  # noqa: E731
    start, end = seeded(2, 3, seed=seed + 2), seeded(2, 3, seed=seed + 3)

    def reference(row):
        total = np.zeros(6)
        nodes, weights = np.polynomial.legendre.leggauss(120)
        for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
            z = start[row] + node * (end[row] - start[row])
            jacobian = torch.autograd.functional.jacobian(lambda c: decode(c[None])[0], z)
            x = decode(z[None]).detach().requires_grad_()
            (gradient,) = torch.autograd.grad(score(x).sum(), x)
            total += weight * ((jacobian @ (end[row] - start[row])) * gradient[0]).numpy()
        return total

    return decode, score, start, end, reference
