"""Path integrals of a score's gradient: one front for every integrator, whatever the curve."""

from __future__ import annotations

from typing import Literal, cast, get_args

import torch
from torch import Tensor

from xlens.attr.chords import chord_integral, decision_edges, uniform_edges
from xlens.attr.curve import Curve
from xlens.attr.evaluate import Evaluation, Score, widest_float
from xlens.attr.quadrature import (
    METHODS,
    Method,
    direction_integral,
    nodes_and_weights,
    paper_integral,
    tangent_integral,
)
from xlens.contracts.numbers import is_count, plain
from xlens.errors import OptionError, did_you_mean

__all__ = ["INTEGRATORS", "Integrator", "Placement", "path_integral"]

Integrator = Literal["lig", "lig_paper", "idgi"]
Placement = Literal["uniform", "decision"]
INTEGRATORS: tuple[str, ...] = get_args(Integrator)
#: With exact velocities the nodes are doubled at most this often.
_DOUBLINGS = 4


def path_integral(
    score: Score,
    curve: Curve,
    n: int,
    *,
    device: torch.device,
    n_steps: int = 16,
    tolerance: float | None = 0.01,
    internal_batch_size: int = 64,
    integrator: Integrator = "lig",
    method: Method = "midpoint",
    placement: Placement = "uniform",
) -> tuple[Tensor, Tensor]:
    """Path-integrated gradients ``(N, *S)``: the gradient of `score` integrated along each of N curves.

    - ``"lig"``, the line integral. With ``method="midpoint"`` each segment contributes its chord times the
      gradient at its middle, and segments are halved where a curve's sum misses the score difference. With
      Captum's quadratures the curve's exact velocity is integrated, and nodes are doubled instead.
    - ``"idgi"``: each segment contributes g*g / (g.g) times the change of the score; complete at any n_steps.
    - ``"lig_paper"``: equation 7 of Dravid et al. (2022) as printed, which is not complete on a curved path.

    Points in flight, and curves summed at once, are bounded by `internal_batch_size`. Sums are in float64.

    Args:
        score: maps points ``(M, *S)`` and their rows ``(M,)`` to scores ``(M,)``.
        curve: the curves.
        n: number of curves N.
        device: device of rows and positions.
        n_steps: segments or nodes to begin with.
        tolerance: largest error of a ``"lig"`` sum, relative to the score difference; None for a single pass.
        internal_batch_size: points evaluated at once.
        integrator, method: see above; `method` is the quadrature, and ``"idgi"`` has none.
        placement: ``"uniform"`` steps, or ``"decision"``: many where the score changes much, as in Integrated
            Decision Gradients (Walker et al. 2023); for segments only.

    Returns:
        attributions ``(N, *S)`` and the convergence delta ``(N,)``, their sum minus the score difference.

    Raises:
        OptionError: an unknown name, or a combination that means nothing.

    >>> import torch
    >>> from xlens.attr import Segment, path_integral
    >>> line = Segment(torch.zeros(1, 2), torch.tensor([[1.0, 2.0]]))
    >>> a, delta = path_integral(lambda x, rows: x.square().sum(1), line, 1, device=torch.device("cpu"))
    >>> a.round(decimals=4)
    tensor([[1., 4.]])
    """
    faults = integral_faults(integrator, method, placement)
    for name, value in (("n", n), ("n_steps", n_steps), ("internal_batch_size", internal_batch_size)):
        if not is_count(value):
            faults.append(f"{name} must be an int >= 1, got {value!r}")
    if faults:
        raise OptionError("path_integral: " + "; ".join(faults))
    n, n_steps, internal_batch_size, tolerance = plain((n, n_steps, internal_batch_size, tolerance))
    wide = widest_float(device)
    attributions: Tensor | None = None
    deltas = torch.zeros(n, dtype=wide, device=device)
    for members in torch.arange(n, device=device).split(internal_batch_size):
        evaluation = Evaluation(score, curve, members, internal_batch_size, wide)
        values, deltas[members] = _integrate(evaluation, n_steps, tolerance, integrator, method, placement)
        # Filled in place: joining parts at the end would hold all results twice.
        attributions = values.new_empty(n, *values.shape[1:]) if attributions is None else attributions
        attributions[members] = values
    return cast(Tensor, attributions), deltas


def integral_faults(integrator: str, method: str, placement: str) -> list[str]:
    """Return, in words, what is wrong: unknown names, and combinations that mean nothing."""
    allowed = {"integrator": INTEGRATORS, "method": METHODS, "placement": get_args(Placement)}
    given = {"integrator": integrator, "method": method, "placement": placement}
    faults = [
        f"{name} {given[name]!r} is unknown.{did_you_mean(str(given[name]), names)} Known: {', '.join(names)}"
        for name, names in allowed.items()
        if given[name] not in names
    ]
    if not faults and integrator == "idgi" and method != "midpoint":
        faults.append(f"integrator 'idgi' goes by segments and has no quadrature; leave method, got {method!r}")
    if not faults and placement == "decision" and (method != "midpoint" or integrator == "lig_paper"):
        faults.append(
            "placement 'decision' places segments; it goes with integrator 'lig' or 'idgi' and method 'midpoint'"
        )
    return faults


def _integrate(
    evaluation: Evaluation, n_steps: int, tolerance: float | None, integrator: str, method: str, placement: str
) -> tuple[Tensor, Tensor]:
    """Return attributions and deltas of one group of curves."""
    local = torch.arange(len(evaluation.members), device=evaluation.device)
    ends = [evaluation.points(local, torch.full_like(local, at, dtype=evaluation.wide)) for at in (0, 1)]
    first, last = (evaluation.scores_of(local, points) for points in ends)
    difference, dtype = last - first, ends[0].dtype
    place = decision_edges if placement == "decision" else uniform_edges
    if integrator == "idgi":
        values = direction_integral(evaluation, place(evaluation, n_steps))
    elif integrator == "lig_paper":
        nodes = nodes_and_weights(method, n_steps, evaluation.device, evaluation.wide)
        values = paper_integral(evaluation, *nodes, ends[1].to(evaluation.wide) - ends[0])
    elif method == "midpoint":
        del ends
        values = chord_integral(evaluation, place(evaluation, n_steps), difference, tolerance)
    else:
        del ends
        values = _doubled(evaluation, difference, n_steps, tolerance, method)
    values = values.to(dtype)
    # Of what is returned: in half precision rounding alone may be larger than the quadrature's error.
    return values, values.flatten(1).to(evaluation.wide).sum(1) - difference


def _doubled(
    evaluation: Evaluation, difference: Tensor, n_steps: int, tolerance: float | None, method: str
) -> Tensor:
    """Integrate by exact velocities, with twice the nodes on curves that are not complete yet."""

    def integrate(members: Evaluation, n: int) -> Tensor:
        return tangent_integral(members, *nodes_and_weights(method, n, members.device, members.wide))

    values = integrate(evaluation, n_steps)
    if tolerance is None:
        return values
    allowed = tolerance * difference.abs().clamp_min(1e-3)
    for doubling in range(1, _DOUBLINGS + 1):
        off = values.flatten(1).sum(1) - difference
        missed = (off.abs() > allowed).nonzero()[:, 0]
        if not len(missed):
            break
        some = Evaluation(
            evaluation.score, evaluation.curve, evaluation.members[missed], evaluation.batch, evaluation.wide
        )
        values[missed] = integrate(some, n_steps * 2**doubling)
    return values
