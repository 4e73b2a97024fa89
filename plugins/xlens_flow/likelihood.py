"""Exact log-likelihoods of a continuous flow: the divergence along the ODE, in full or by Hutchinson's estimate."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from xlens_flow.ode import grid
from xlens_flow.velocities import Velocities

__all__ = ["all_directions", "log_likelihoods", "random_directions"]


def all_directions(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Return probes ``(D, 1, *S)`` with which the trace is exact: all dimensions, scaled for a mean."""
    count = math.prod(shape)
    return (count**0.5 * torch.eye(count, device=device)).view(count, 1, *shape)


def random_directions(count: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Return probes ``(P, 1, *S)`` of -1 and 1, the same for all inputs and classes."""
    drawn = torch.randint(0, 2, (count, 1, *shape), generator=generator, device=generator.device)
    return 2.0 * drawn - 1.0


def log_likelihoods(flow: Velocities, inputs: Tensor, conditions: Tensor, steps: int, probes: Tensor) -> Tensor:
    """Return log p(inputs | conditions) in nats by each probe ``(N, P)``; their mean is the estimate.

    The flow is run backward by Heun's method, and with it the divergence of the velocity, which is what the density
    changes by on the way.

    Args:
        flow: the velocity network.
        inputs: ``(N, *S)``.
        conditions: ``(N, K + 2 A)``.
        steps: of the ODE, two velocities and divergences each.
        probes: ``(P, 1, *S)``.

    References:
        Grathwohl, Chen, Bettencourt, Sutskever, Duvenaud (2019), FFJORD: Free-form Continuous Dynamics for Scalable
        Reversible Generative Models, eq. 4 and 7.
    """
    times, state = grid(steps), flow.standardised(inputs)
    gained = state.new_zeros(len(state), len(probes))
    for before, after in zip(times[-2::-1], times[:0:-1], strict=True):
        length = before - after
        first, spread = _with_divergence(flow, state, after, conditions, probes)
        second, wider = _with_divergence(flow, state + length * first, before, conditions, probes)
        state = state + length / 2 * (first + second)
        gained = gained + length / 2 * (spread + wider)
    size = state[0].numel()
    of_noise = -state.flatten(1).square().sum(1) / 2 - size / 2 * math.log(2 * math.pi)
    units = flow.scale.log().expand_as(state[:1]).sum()
    return of_noise[:, None] + gained - units


def _with_divergence(
    flow: Velocities, states: Tensor, time: float, conditions: Tensor, probes: Tensor
) -> tuple[Tensor, Tensor]:
    """Return velocities ``(N, *S)``, and each probe's estimate of their divergence ``(N, P)``."""
    with torch.enable_grad():
        states = states.detach().requires_grad_(True)
        found = flow(states, states.new_full((len(states),), time), conditions)
        estimates = []
        for probe in probes:
            direction = probe.expand_as(found)
            (pulled,) = torch.autograd.grad(found, states, direction, retain_graph=True)
            estimates.append((pulled * direction).flatten(1).sum(1))
    return found.detach(), torch.stack(estimates, 1)
