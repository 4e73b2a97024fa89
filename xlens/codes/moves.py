"""Moves in the code: along named features and directions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from xlens.contracts import SupportsDirections
from xlens.contracts.lens import Feature, Lens
from xlens.data.numbers import as_tensor
from xlens.errors import OptionError, did_you_mean

__all__ = [
    "directions_of",
    "find_feature",
    "held_names",
    "moved_codes",
    "orthogonalised",
    "path_values",
    "traversed",
]


def find_feature(features: Sequence[Feature], feature: str | int, method: str = "traverse") -> Feature:
    """Return a feature by name or position.

    Raises:
        OptionError: there is no such feature.
    """
    names = [f.name for f in features]
    if isinstance(feature, Integral) and not isinstance(feature, bool) and 0 <= feature < len(names):
        return features[feature]
    if isinstance(feature, str) and feature in names:
        return features[names.index(feature)]
    raise OptionError(
        f"{method}: there is no feature {feature!r}.{did_you_mean(str(feature), names)}",
        allowed=f"{', '.join(names)}, or 0 to {len(names) - 1}",
    )


def path_values(given: Any, device: torch.device, method: str = "traverse") -> Tensor:
    """Return the values ``(T,)`` of a traversal or a grid.

    Raises:
        OptionError: not a list of finite numbers.
    """
    try:
        values = as_tensor(given).to(device, torch.float32)
    except (TypeError, ValueError, RuntimeError):
        values = torch.empty(0, 0)
    if values.dim() != 1 or len(values) == 0 or not bool(values.isfinite().all()):
        raise OptionError(f"{method}: values are wrong", given=repr(given), allowed="a list of finite numbers")
    return values


#: A direction of which less than this is left is no direction of its own.
_LEAST = 0.05


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
        OptionError: as ``explainer.edit`` says.
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
