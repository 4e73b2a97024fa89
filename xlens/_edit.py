"""Edits by name: moving codes along features and directions, and what comes of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from xlens._arguments import find_feature
from xlens.attr.edit import Carry
from xlens.classifier import Classifier
from xlens.contracts import Lens, Spec, SupportsDirections
from xlens.errors import OptionError, did_you_mean
from xlens.metrics.leakage import leakage
from xlens.nn.features import margin_over_rest, score_margin
from xlens.nn.mask import clamped, mask_that_flips

if TYPE_CHECKING:
    from xlens.explainer import LensExplainer

__all__ = [
    "Steps",
    "carry_edit",
    "directions_of",
    "held_names",
    "measure_leakage",
    "orthogonalised",
    "steps_to_flip",
    "traversed",
]

#: Points between a code and its counterfactual at which f is asked, and halvings of the interval found.
_POINTS, _HALVINGS = 16, 5
#: A direction of which less than this is left is no direction of its own.
_LEAST = 0.05
#: Measuring leakage, no other direction is held that would leave less than this of the one that is edited.
_LEAST_MEASURED = 0.4
#: A search for the step ends at the goal, from which other batch sizes differ by rounding.
_ROUNDING = 1e-3


class Steps(NamedTuple):
    """How far the decoding has to go.

    Args:
        flip: ``(N,)`` distance in the code at which f first predicts the contrast class; infinite where it never
            does.
        used: ``(N,)`` distance at which the counterfactual is.
        reached: ``(N,)`` bool, whether f predicts the contrast class on the counterfactual's decoding, with at
            least the margin over the target class that is the median of real inputs of the contrast class
            (``spec.class_margins``). Where f puts no input of the data in that class, the median of the known
            margins stands in.
    """

    flip: Tensor
    used: Tensor
    reached: Tensor


def directions_of(lens: Lens) -> Mapping[str, Tensor]:
    """Return the lens's directions, or none."""
    return dict(lens.directions) if isinstance(lens, SupportsDirections) else {}


def orthogonalised(direction: Tensor, held: Tensor) -> Tensor:
    """Return the vectors of the same lengths nearest to `direction` that are perpendicular to all of `held`.

    Args:
        direction: ``(d,)``, or several of them ``(N, d)``.
        held: ``(M, d)``.

    Raises:
        OptionError: next to nothing of one of them is left.

    >>> import torch
    >>> orthogonalised(torch.tensor([0.6, 0.8]), torch.tensor([[2.0, 0.0]]))
    tensor([0., 1.])
    """
    # Singular vectors and not QR, because directions that are held may depend on each other.
    _, values, spanned = torch.linalg.svd(held.double(), full_matrices=False)
    spanned = spanned[values > 1e-6 * values.max().clamp_min(1e-12)]
    whole = direction.double()
    left = whole - (whole @ spanned.T) @ spanned
    length = whole.norm(dim=-1, keepdim=True)
    share = left.norm(dim=-1, keepdim=True) / length.clamp_min(1e-300)
    # A vector of no length, as of an amount of 0, has nothing to lose.
    if bool(((share < _LEAST) & (length > 0)).any()):
        raise OptionError(
            "edit: nothing of the direction is left when the others are held",
            given=f"{float(share.min()):.1%} of its length",
            do="hold fewer of them",
        )
    return (F.normalize(left, dim=-1) * length).to(direction.dtype)


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
    if isinstance(feature, str) and feature in named:
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


def held_names(hold: Any) -> tuple[str, ...]:
    """Return the names to hold, which may come from a generator.

    Raises:
        OptionError: not a sequence of names.
    """
    if not isinstance(hold, str) and isinstance(hold, Iterable):
        names = tuple(hold)
        if all(isinstance(name, str) for name in names):
            return names
    raise OptionError(f"edit: hold must be a sequence of names, got {hold!r}")


def moved_codes(lens: Lens, codes: Tensor, amounts: Mapping[str, Any], hold: Sequence[str]) -> Tensor:
    """Return the codes ``(N, d)`` after adding each amount along its direction or feature.

    Raises:
        OptionError: as :meth:`LensExplainer.edit` says.
    """
    named = directions_of(lens)
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
        else:
            dims = list(_feature(lens, name, named).dims)
            direction = torch.zeros_like(codes)
            direction[:, dims] = _unit_block(codes[:, dims])
        if held := [named[other].to(codes) for other in hold if other != name]:
            direction = orthogonalised(direction, torch.stack(held))
        change += length * direction
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
            change = _edit_mask(explainer, x, reconstruction, decoded, low, high) * change
        parts.append(clamped(x + change, x, low, high))
    return torch.cat(parts)


def _edit_mask(
    explainer: LensExplainer, inputs: Tensor, reconstruction: Tensor, decoded: Tensor, low: Tensor, high: Tensor
) -> Tensor:
    """Return the mask ``(N, 1, H, W)``, opened further only where the edit changes what f sees on decodings."""
    classifier = explainer.classifier
    seen = classifier(decoded).argmax(1)
    mask = explainer.mask(inputs, reconstruction, decoded, seen).sigmoid()
    rows = (seen != classifier(reconstruction).argmax(1)).nonzero()[:, 0]
    if len(rows):
        x, before, after = inputs[rows], reconstruction[rows], decoded[rows]
        mask[rows] = mask_that_flips(
            explainer.mask, classifier, x, before, after, seen[rows], low, high, whole=x + (after - before)
        )
    return mask


def measure_leakage(
    lens: SupportsDirections, inputs: Tensor, amount: float, orthogonal: bool, batch: int
) -> dict[str, dict[str, float]]:
    """Return edited direction -> direction read -> change per unit; see :meth:`LensExplainer.leakage`."""
    if not isinstance(amount, Real) or isinstance(amount, bool) or not 0 < abs(amount) < float("inf"):
        raise OptionError(f"leakage: amount must be a finite number other than 0, got {amount!r}")
    amount = float(amount)
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
    """Make a unit direction perpendicular to as many others as leave enough of it, the least related first.

    Directions of classes depend on each other: perpendicular to all of the others, nothing is left of any of them.
    """
    left, held = direction.double(), []
    cosines = F.normalize(every, dim=1) @ direction
    own = int(cosines.argmax())
    for index in cosines.abs().argsort(stable=True).tolist():
        if index == own:
            continue
        rest = every[index].double()
        # Twice, because one pass leaves rounding behind where directions are nearly dependent.
        for axis in held * 2:
            rest = rest - (rest @ axis) * axis
        if float(rest.norm()) < 1e-5 * float(every[index].norm()):
            continue  # held already, by those that span it
        axis = F.normalize(rest, dim=0)
        without = left - (left @ axis) * axis
        if float(without.norm()) >= _LEAST_MEASURED:
            left = without
            held.append(axis)
    return F.normalize(left, dim=0).to(direction.dtype)


def steps_to_flip(
    classifier: Classifier, lens: Lens, spec: Spec, inputs: Tensor, target: Tensor, contrast: Tensor, batch: int
) -> Steps:
    """Return distances, and whether the goal was reached, for inputs ``(N, *S)``, inside the frozen context."""
    goals = spec.usual_margins().to(inputs.device)[contrast, target]
    rows = zip(*(whole.split(batch) for whole in (inputs, target, contrast, goals)), strict=True)
    parts = [_steps(classifier, lens, x, t, c, goal) for x, t, c, goal in rows]
    return Steps(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _steps(
    classifier: Classifier, lens: Lens, inputs: Tensor, target: Tensor, contrast: Tensor, goal: Tensor
) -> Steps:
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
    logits = classifier(lens.decode(end))
    sure = score_margin(logits, contrast, target) >= goal * (1 - _ROUNDING)
    reached = sure & (margin_over_rest(logits, contrast) > 0)
    return Steps(torch.where(found, high * length, torch.inf), length, reached)
