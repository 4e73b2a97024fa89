"""Attributions in code space: any of Captum's methods on the dimensions of the code, or on its named parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from xlens.attr.captum_methods import (
    captum_attribution,
    captum_names,
    check_captum,
    promises_completeness,
    towards_its_sum,
)
from xlens.classifier.margins import Classes, score_margin
from xlens.counterfactual.edit import Edit
from xlens.errors import OptionError, XlensWarning, did_you_mean, warn
from xlens.explaining.asking import Asks, asks
from xlens.explaining.credit import credited
from xlens.explaining.request import check_explain
from xlens.fitted import Fitted

__all__ = ["CodeAttributions", "Space", "attribute"]

Space = Literal["codes", "features"]
#: Inputs at once.
_BATCH = 32
#: The counterfactual's code is the baseline, and what is ablated together is said by the space.
_TAKEN = ("baselines", "layer_baselines", "feature_mask")
#: Exact Shapley values go through every order of the players, which are no more than these.
_MOST_PLAYERS = 7
#: A method that promises the sum, and misses it by more than this share, is said to.
_TOLERANCE = 0.05


@dataclass(frozen=True)
class CodeAttributions:
    """What dimensions or named parts of the code contribute to a decision.

    Args:
        values: ``(N, d)`` of the code's dimensions, or ``(N, F)`` of its named parts.
        names: d or F names.
        difference: ``(N,)`` what a complete method sums to: f_c of what the code decodes to, minus that of the
            counterfactual's code.
        convergence_delta: ``(N,)`` the sum of the values minus it.
        complete: whether the method promises that sum.
        target, contrast: ``(N,)`` class explained, and the class it is explained against.
        method: its name.
    """

    values: Tensor
    names: tuple[str, ...]
    difference: Tensor
    convergence_delta: Tensor
    complete: bool
    target: Tensor
    contrast: Tensor
    method: str


class _Score(nn.Module):
    """f_c as a function of codes; a module, because some methods look for the layers inside."""

    def __init__(self, lens: Asks, edit: Edit) -> None:
        super().__init__()
        self.model, self.generator = lens.fitted.classifier.model, lens.fitted.lens
        self._known = (lens, edit)

    def forward(self, codes: Tensor, rows: Tensor, target: Tensor, contrast: Tensor) -> Tensor:
        """Return ``(N,)``, in float64: what is summed are differences."""
        lens, edit = self._known
        return score_margin(lens.logits_at(edit, codes, rows), target, contrast).to(_wide(codes))


def attribute(
    fitted: Fitted,
    inputs: Any,
    method: str,
    space: Space,
    target: Classes | None,
    contrast: Classes | None,
    options: Mapping[str, Any] | None,
) -> CodeAttributions:
    """Attribute each decision to the code; arguments as for ``explainer.attribute``."""
    lens, options = asks(fitted), {} if options is None else options
    named = credited(fitted.lens.features)
    _check(method, space, options, len(named) if space == "features" else sum(len(dims) for _, dims in named))
    carry = check_explain("attribute", lens.masked)
    parts = []
    with fitted.asking():
        source = fitted.inputs(inputs)
        moved = source.to(fitted.device)
        target, contrast = fitted.classes(moved, target, contrast, method="attribute")
        for x, t, c in zip(*(part.split(_BATCH) for part in (moved, target, contrast)), strict=True):
            edit = lens.carry(x, t, c, carry)
            parts.append(_batch(_Score(lens, edit), edit, t, c, method, space, named, options))
    values, difference = (torch.cat(column).to(source.device) for column in zip(*parts, strict=True))
    delta = values.sum(1) - difference
    complete = promises_completeness(method)
    missed = (delta.abs() > _TOLERANCE * difference.abs().clamp_min(1e-3)).sum()
    if complete and bool(missed):
        warn(
            f"attribute: {int(missed)} of {len(delta)} attributions by {method!r} miss their sum by more than "
            f"{_TOLERANCE:.0%}; see convergence_delta, and {towards_its_sum(method)}",
            XlensWarning,
        )
    features = tuple(name for name, _ in named)
    return CodeAttributions(
        values=values,
        names=features if space == "features" else _dimensions(named, values.shape[1]),
        difference=difference,
        convergence_delta=delta,
        complete=complete,
        target=target.to(source.device),
        contrast=contrast.to(source.device),
        method=method,
    )


def _batch(
    function: _Score,
    edit: Edit,
    target: Tensor,
    contrast: Tensor,
    method: str,
    space: Space,
    named: list[tuple[str, list[int]]],
    options: Mapping[str, Any],
) -> tuple[Tensor, Tensor]:
    """Return values ``(N, d)`` or ``(N, F)``, and the difference ``(N,)``, both in float64."""
    codes, start = edit.codes.detach(), edit.counterfactual_codes.detach()
    rows = torch.arange(len(codes), device=codes.device)
    asked = (rows, target, contrast)
    players = torch.arange(codes.shape[1], device=codes.device)
    if space == "features":
        for player, (_, dims) in enumerate(named):
            players[dims] = player
    mask = {"feature_mask": players.unsqueeze(0)} if not check_captum(method, {"feature_mask": None}) else {}
    with torch.enable_grad():
        found = captum_attribution(method, function, codes, start, asked, options={**mask, **options}, batch=_BATCH)
    values = found.to(_wide(codes))
    difference = function(codes, *asked) - function(start, *asked)
    if space == "features":
        values = torch.stack([values[:, dims].sum(1) for _, dims in named], 1)
    return values, difference


def _wide(like: Tensor) -> torch.dtype:
    return torch.float32 if like.device.type == "mps" else torch.float64


def _dimensions(named: list[tuple[str, list[int]]], width: int) -> tuple[str, ...]:
    """Return a name for each dimension: its part's, and its number where the part has several."""
    names = [f"dimension {dim}" for dim in range(width)]
    for name, dims in named:
        for place, dim in enumerate(dims):
            names[dim] = name if len(dims) == 1 else f"{name}, {place + 1}"
    return tuple(names)


def _check(method: str, space: Any, options: Any, players: int) -> None:
    faults = []
    if space not in get_args(Space):
        near = "'codes' or 'features'; for inputs, ask explain(inputs, attributions=...)"
        faults.append(f"space must be {near}, got {space!r}")
    if not isinstance(options, Mapping):
        faults.append(f"options must be a dict of names and values, got {options!r}")
    elif taken := [name for name in options if name in _TAKEN]:
        faults.append(f"{', '.join(taken)} cannot be set: the counterfactual's code is the baseline")
    known = [name for name in captum_names() if check_captum(name, {"layer": None})]
    if method not in captum_names():
        faults.append(f"unknown method {method!r}.{did_you_mean(str(method), known)} Known: {', '.join(known)}")
    elif method not in known:
        faults.append(f"{method!r} attributes a layer of the classifier, and not the code; ask explain")
    elif isinstance(options, Mapping):
        faults += check_captum(method, options)
    if method == "shapley_values" and players > _MOST_PLAYERS:
        faults.append(
            f"exact Shapley values of {players} players go through {players}! orders; ask for "
            "'shapley_value_sampling', which sums to the difference too"
            + (", or for space='features'" if space == "codes" else "")
        )
    if faults:
        raise OptionError("attribute: " + "; ".join(faults))
