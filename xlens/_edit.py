"""Edits by name: moving codes along features and directions, and what comes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from xlens._arguments import find_feature
from xlens.attr.edit import Carry
from xlens.classifier import Classifier
from xlens.contracts import Lens, SupportsDirections
from xlens.errors import OptionError, did_you_mean
from xlens.metrics.leakage import leakage
from xlens.nn.features import margin_over_rest
from xlens.nn.mask import mask_that_flips

if TYPE_CHECKING:
    from xlens.explainer import LensExplainer

__all__ = [
    "Steps",
    "carry_edit",
    "directions_of",
    "measure_leakage",
    "orthogonalised",
    "steps_to_flip",
    "traversed",
]

#: Points between a code and its counterfactual at which f is asked, and halvings of the interval found.
_POINTS, _HALVINGS = 16, 5
#: A direction of which less than this is left is no direction of its own.
_LEAST = 0.05


class Steps(NamedTuple):
    """How far the decoding has to go.

    Args:
        flip: ``(N,)`` distance in the code at which f first predicts the contrast class; infinite where it never
            does.
        used: ``(N,)`` distance at which the counterfactual is.
    """

    flip: Tensor
    used: Tensor


def directions_of(lens: Lens) -> Mapping[str, Tensor]:
    """Return the lens's directions, or none."""
    return dict(lens.directions) if isinstance(lens, SupportsDirections) else {}


def orthogonalised(direction: Tensor, held: Tensor) -> Tensor:
    """Return the unit vector nearest to `direction` that is perpendicular to all of `held`.

    Args:
        direction: ``(d,)`` unit vector.
        held: ``(M, d)``.

    Raises:
        OptionError: next to nothing of it is left.

    >>> import torch
    >>> orthogonalised(torch.tensor([0.6, 0.8]), torch.tensor([[2.0, 0.0]]))
    tensor([0., 1.])
    """
    # Singular vectors and not QR, because directions that are held may depend on each other.
    _, values, spanned = torch.linalg.svd(held.double(), full_matrices=False)
    spanned = spanned[values > 1e-6 * values.max().clamp_min(1e-12)]
    left = direction.double() - spanned.T @ (spanned @ direction.double())
    if float(left.norm()) < _LEAST:
        raise OptionError(
            "edit: nothing of the direction is left when the others are held",
            given=f"{float(left.norm()):.1%} of its length",
            do="hold fewer of them",
        )
    return F.normalize(left, dim=0).to(direction.dtype)


def traversed(
    lens: Lens,
    codes: Tensor,
    feature: str | int,
    values: Tensor,
    *,
    relative: bool = False,
    method: str = "traverse",
) -> Tensor:
    """Return codes ``(N, T, d)`` in which a feature, or the coordinate along a direction, has each value.

    Args:
        lens: the lens.
        codes: ``(N, d)``.
        feature: name of a direction, or name or position of a feature.
        values: ``(T,)``.
        relative: whether the values are added to what the code has.
        method: names the caller in errors.
    """
    named = directions_of(lens)
    moved = codes.unsqueeze(1).repeat(1, len(values), 1)
    if feature in named:
        direction = named[feature].to(codes)
        own = torch.zeros_like(codes[:, 0]) if relative else codes @ direction
        return moved + (values - own.unsqueeze(1)).unsqueeze(2) * direction
    dims = list(find_feature(lens.features, feature, method).dims)
    block, unit = codes[:, dims], _unit_block(codes[:, dims])
    own = (block * unit).mean(1, keepdim=True) if relative else torch.zeros_like(block[:, :1])
    moved[:, :, dims] = (values + own).unsqueeze(2) * unit.unsqueeze(1)
    return moved


def _unit_block(block: Tensor) -> Tensor:
    """Scale blocks ``(N, w)`` to the length sqrt(w), an even one where they are zero; a number becomes 1."""
    width = block.shape[1]
    if width == 1:
        return torch.ones_like(block)
    length = block.norm(dim=1, keepdim=True)
    return torch.where(length > 0, block * width**0.5 / length.clamp_min(1e-12), torch.ones_like(block))


def moved_codes(lens: Lens, codes: Tensor, amounts: Mapping[str, Any], hold: Sequence[str]) -> Tensor:
    """Return the codes ``(N, d)`` after adding each amount along its direction or feature.

    Raises:
        OptionError: as :meth:`LensExplainer.edit` says.
    """
    named = directions_of(lens)
    if isinstance(hold, str):
        raise OptionError(f"edit: hold must be a sequence of names, got {hold!r}")
    if unknown := [name for name in hold if name not in named]:
        raise OptionError(
            f"edit: there is no direction {unknown[0]!r} to hold.{did_you_mean(str(unknown[0]), list(named))}",
            allowed=", ".join(named),
        )
    if not isinstance(amounts, Mapping) or not amounts:
        raise OptionError("edit: amounts are wrong", given=repr(amounts), allowed="a dict of names and numbers")
    change = torch.zeros_like(codes)
    for name, amount in amounts.items():
        length = _amount(name, amount, codes)
        if name in named:
            direction = named[name].to(codes)
            if held := [named[other].to(codes) for other in hold if other != name]:
                direction = orthogonalised(direction, torch.stack(held))
            change += length * direction
            continue
        dims = list(_feature(lens, name, named).dims)
        change[:, dims] += length * _unit_block(codes[:, dims])
    return codes + change


def _feature(lens: Lens, name: str, named: Mapping[str, Tensor]) -> Any:
    known = {feature.name: feature for feature in lens.features}
    if name not in known:
        every = [*named, *(other for other in known if other not in named)]
        raise OptionError(
            f"edit: there is no direction or feature {name!r}.{did_you_mean(str(name), every)}",
            allowed=", ".join(every),
        )
    return known[name]


def _amount(name: str, amount: Any, codes: Tensor) -> Tensor:
    """Return the amounts as ``(N, 1)`` or ``(1, 1)``."""
    try:
        values = torch.as_tensor(amount, dtype=codes.dtype, device=codes.device)
    except (TypeError, ValueError, RuntimeError):
        values = torch.full((1, 1), torch.nan)  # refused below, as any other value that is no amount
    if tuple(values.shape) not in ((), (len(codes),)) or not bool(values.isfinite().all()):
        raise OptionError(
            f"edit: the amount of {name!r} is wrong",
            given=repr(amount),
            allowed=f"a finite number, or {len(codes)} of them, one for each input",
        )
    return values.reshape(-1, 1)


def carry_edit(
    explainer: LensExplainer,
    inputs: Tensor,
    amounts: Mapping[str, Any],
    carry: Carry,
    hold: Sequence[str],
    batch: int,
) -> Tensor:
    """Return the inputs ``(N, *S)`` with the edit carried onto them, inside the frozen context."""
    lens, spec = explainer.lens, explainer.spec
    codes = torch.cat([lens.encode(part) for part in inputs.split(batch)])
    moved = moved_codes(lens, codes, amounts, hold)
    low, high = spec.per_channel("minimum").to(inputs), spec.per_channel("maximum").to(inputs)
    parts = []
    for x, before, after in zip(inputs.split(batch), codes.split(batch), moved.split(batch), strict=True):
        decoded = lens.decode(after)
        if carry == "none":
            parts.append(decoded)
            continue
        reconstruction = lens.decode(before)
        change = decoded - reconstruction
        if carry == "masked":
            seen = explainer.classifier(decoded).argmax(1)
            mask = mask_that_flips(
                explainer.mask, explainer.classifier, x, reconstruction, decoded, seen, low, high
            )
            change = mask * (decoded - x)
        edited = torch.minimum(x + change, torch.maximum(high, x))
        parts.append(torch.maximum(edited, torch.minimum(low, x)))
    return torch.cat(parts)


def measure_leakage(
    lens: SupportsDirections, inputs: Tensor, amount: float, orthogonal: bool, batch: int
) -> dict[str, dict[str, float]]:
    """Return edited direction -> direction read -> change per unit; see :meth:`LensExplainer.leakage`."""
    if not isinstance(amount, int | float) or not 0 < abs(amount) < float("inf"):
        raise OptionError(f"leakage: amount must be a number other than 0, got {amount!r}")
    named = directions_of(lens)
    codes = torch.cat([lens.encode(part) for part in inputs.split(batch)])
    readouts = torch.stack(list(named.values())).to(codes)
    edits = [_held_where_possible(u, readouts) if orthogonal else u for u in readouts]
    weights = torch.tensor([len(part) for part in codes.split(batch)]).to(codes) / len(codes)
    parts = [
        leakage(lens.encode, lens.decode, part, torch.stack(edits), readouts, amount) for part in codes.split(batch)
    ]
    found = (torch.stack(parts) * weights.view(-1, 1, 1)).sum(0)
    return {edited: dict(zip(named, row, strict=True)) for edited, row in zip(named, found.tolist(), strict=True)}


def _held_where_possible(direction: Tensor, every: Tensor) -> Tensor:
    """Make a direction perpendicular to those that do not nearly span it, such as its own opposite."""
    others = every[(every @ direction).abs() < 0.9]
    return orthogonalised(direction, others) if len(others) else direction


def steps_to_flip(
    classifier: Classifier, lens: Lens, inputs: Tensor, target: Tensor, contrast: Tensor, batch: int
) -> Steps:
    """Return the two distances for inputs ``(N, *S)``, inside the frozen context."""
    rows = zip(inputs.split(batch), target.split(batch), contrast.split(batch), strict=True)
    parts = [_steps(classifier, lens, x, t, c) for x, t, c in rows]
    return Steps(torch.cat([part.flip for part in parts]), torch.cat([part.used for part in parts]))


def _steps(classifier: Classifier, lens: Lens, inputs: Tensor, target: Tensor, contrast: Tensor) -> Steps:
    codes = lens.encode(inputs)
    end = lens.counterfactual(codes, target, contrast)

    def flips(share: Tensor) -> Tensor:
        decoded = lens.decode(torch.lerp(codes, end, share.unsqueeze(1)))
        return margin_over_rest(classifier(decoded), contrast) > 0

    upper = torch.full((len(codes),), torch.inf, device=codes.device)
    for index in range(_POINTS + 1):
        share = torch.full_like(upper, index / _POINTS)
        upper = torch.where(upper.isinf() & flips(share), share, upper)
    found = upper.isfinite()
    lower = torch.where(found, (upper - 1 / _POINTS).clamp_min(0), torch.zeros_like(upper))
    high = torch.where(found, upper, torch.zeros_like(upper))
    for _ in range(_HALVINGS):
        middle = (lower + high) / 2
        here = flips(middle)
        high, lower = torch.where(here, middle, high), torch.where(here, lower, middle)
    length = (end - codes).norm(dim=1)
    return Steps(torch.where(found, high * length, torch.inf), length)
