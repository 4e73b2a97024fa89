"""Langevin sampling from a density that is known up to a factor, and how well its chains mix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from xlens.errors import XlensError

__all__ = ["Chains", "SamplingError", "langevin", "split_r_hat"]


#: The acceptance at which MALA moves fastest in many dimensions, and how fast a chain's step is moved toward it.
_BEST_ACCEPTANCE = 0.574
_ADAPTATION = 0.1
#: Codes are of the order of 1. A chain without the Metropolis test that gets this far is not coming back, and would
#: overflow before long.
_LOST = 1e4


class SamplingError(XlensError, RuntimeError):
    """Langevin chains diverged."""


@dataclass(frozen=True)
class Chains:
    """What a run of parallel chains ended with.

    Args:
        codes: ``(n, d)`` last state of each chain.
        acceptance: share of the proposals that the Metropolis test accepted in the second half; 1 without it.
        r_hat: largest split R-hat over the dimensions, of the second half of the run.
    """

    codes: Tensor
    acceptance: float
    r_hat: float


def langevin(
    potential: Callable[[Tensor], Tensor],
    start: Tensor,
    *,
    step: float,
    steps: int,
    generator: torch.Generator,
    metropolis: bool = True,
) -> Chains:
    """Run one chain from each starting point, z' = z - a grad U(z) + sqrt(2a) noise (eq. 8).

    Args:
        potential: U, minus the log density up to a constant; maps ``(n, d)`` to ``(n,)``, each row by itself.
        start: ``(n, d)``.
        step: the step a. With the Metropolis test each chain adapts its own in the first half of the run, and then
            keeps it: one step would be too long for chains that begin where U is steep, and they would never move.
        steps: number of steps.
        generator: draws the noise.
        metropolis: accept or reject each proposal (MALA); without it this is the plain iteration, whose
            stationary density is off by O(a), and which diverges where a is too long.

    Raises:
        SamplingError: chains diverged, which they only can without the Metropolis test.

    References:
        Roberts, Tweedie (1996), Exponential Convergence of Langevin Distributions and Their
        Discrete Approximations.
    """
    state = start.detach()
    energy, force = _with_gradient(potential, state)
    accepted = torch.zeros((), dtype=torch.float64, device=state.device)
    lengths = torch.full((len(state), 1), step, device=state.device, dtype=state.dtype)
    trace: list[Tensor] = []
    for index in range(steps):
        noise = torch.randn(state.shape, generator=generator, device=state.device, dtype=state.dtype)
        proposed = state - lengths * force + (2 * lengths).sqrt() * noise
        new_energy, new_force = _with_gradient(potential, proposed)
        if metropolis:
            back = (state - proposed + lengths * new_force).square().sum(1) / (4 * lengths[:, 0])
            log_ratio = energy - new_energy + noise.square().sum(1) / 2 - back
            drawn = torch.rand(len(state), generator=generator, device=state.device, dtype=state.dtype)
            take = drawn.log() < log_ratio
        else:
            take = torch.ones(len(state), dtype=torch.bool, device=state.device)
            _refuse_diverged(proposed, step, index)
        state = torch.where(take[:, None], proposed, state)
        energy = torch.where(take, new_energy, energy)
        force = torch.where(take[:, None], new_force, force)
        if index < steps // 2:
            if metropolis:
                lengths = lengths * (_ADAPTATION * (take[:, None].to(state.dtype) - _BEST_ACCEPTANCE)).exp()
        else:
            accepted += take.double().mean()
            # Mixing between chains shows in some of them as well as in all.
            trace.append(state[:128])
    return Chains(state, float(accepted) / (steps - steps // 2), split_r_hat(torch.stack(trace)))


def _refuse_diverged(state: Tensor, step: float, index: int) -> None:
    # Written so that NaN is refused too.
    held = (state.abs() <= _LOST).all(1)
    if not bool(held.all()):
        raise SamplingError(
            "introvac: Langevin chains diverged",
            given=f"{int((~held).sum())} of {len(state)} chains at iteration {index + 1}, with a step of {step:g}",
            do="lower langevin_step, or set metropolis=True",
        )


def split_r_hat(trace: Tensor) -> float:
    """Return the largest R-hat over the dimensions of chains ``(T, n, d)``, each cut in two; near 1 when mixed.

    References:
        Gelman et al. (2013), Bayesian Data Analysis, section 11.4.

    >>> import torch
    >>> noise = torch.randn(200, 4, 1, generator=torch.Generator().manual_seed(0))
    >>> split_r_hat(noise) < 1.02, split_r_hat(noise + torch.arange(4.0).view(1, 4, 1)) > 1.5
    (True, True)
    """
    half = len(trace) // 2
    if half < 2:
        return float("inf")
    halves = torch.cat([trace[:half], trace[half : 2 * half]], 1).double()
    within = halves.var(0).mean(0)
    between = half * halves.mean(0).var(0)
    spread = (half - 1) / half * within + between / half
    return float((spread / within.clamp_min(1e-300)).sqrt().max())


def _with_gradient(potential: Callable[[Tensor], Tensor], state: Tensor) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        point = state.detach().requires_grad_()
        energy = potential(point)
        # Rows do not depend on each other, so the gradient of the sum holds each row's own.
        (gradient,) = torch.autograd.grad(energy.sum(), point)
    return energy.detach(), gradient
