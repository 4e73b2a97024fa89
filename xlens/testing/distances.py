"""Checks of the search for a code, of how far two inputs are apart, and of directions and paths in the code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor

from xlens.contracts import Lens, SupportsDivergence, SupportsInversion, SupportsWaypoints
from xlens.testing.bench import Bench, quiet
from xlens.testing.capabilities import declared_capabilities_are_there
from xlens.testing.checking import check, require, same
from xlens.testing.drawing import is_drawn
from xlens.testing.manners import leaves_the_data_alone
from xlens.testing.meaning import codes_decode_to_what_was_encoded

_SEARCH_STEPS = 100
_EXPLAINED = 0.3


@check(needs=(declared_capabilities_are_there,), capability="invert")
def inversion_starts_anew(bench: Bench) -> None:
    """``invert`` returns codes ``(restarts, N, d)``, finite, from independent starts that its generator decides."""
    width = bench.codes().shape[1]

    def draw(seed: int) -> Tensor:
        return _inverted(lens, bench.inputs[:2], 2, seed)

    with bench.asking() as lens:
        found = draw(0)
        is_drawn(bench, "invert", found, (2, 2, width), draw)
    require(
        not same(found[0], found[1]),
        f"{bench.backend.name}: invert starts twice from the same point",
        do="draw a start for each of the restarts",
    )


@check(needs=(inversion_starts_anew, codes_decode_to_what_was_encoded), capability="invert")
def inversion_finds_the_input(bench: Bench) -> None:
    """In a lens that has learned, the codes that ``invert`` finds decode to something like the inputs."""
    explainer, inputs = bench.learned, bench.inputs
    with quiet(), torch.no_grad(), explainer.classifier.frozen(seed=0):
        found = _inverted(explainer.lens, inputs, _SEARCH_STEPS, 0)
        errors = torch.stack(
            [(explainer.lens.decode(codes) - inputs).square().flatten(1).mean(1) for codes in found]
        )
    spread = (inputs - inputs.mean(0)).square().mean()
    # The best of the starts, which is what they are for.
    explained = 1 - float(errors.min(0).values.mean() / spread)
    require(
        explained >= _EXPLAINED,
        f"{bench.backend.name}: invert does not find the inputs",
        given=f"its codes explain {explained:.0%} of the variance of the pictures after {_SEARCH_STEPS} steps",
        allowed=f"at least {_EXPLAINED:.0%}",
        do="search for codes that decode to the inputs; pass options with which it learns this world as "
        "Candidate(backend, learned=...)",
    )


@check(needs=(declared_capabilities_are_there, leaves_the_data_alone), capability="divergence")
def divergence_is_a_distance(bench: Bench) -> None:
    """``divergence`` is ``(N,)``, 0 between equals, positive elsewhere; gradients flow to the variants."""
    # Shifted by one, so that each picture stands beside one of another class.
    inputs, others = bench.inputs.clone(), bench.inputs.roll(1, 0).clone().requires_grad_()
    name = bench.backend.name
    parts = {}
    with bench.asking() as lens, torch.enable_grad():
        for part in ("class", "nuisance"):
            told = cast(SupportsDivergence, lens)
            none = told.divergence(inputs, inputs.clone(), part)
            some = told.divergence(inputs, others, part)
            require(
                none.shape == some.shape == (len(inputs),),
                f"{name}: divergence returns a wrong shape",
                given=tuple(some.shape),
                allowed=(len(inputs),),
            )
            flows = some.requires_grad
            gradient = torch.autograd.grad(some.sum(), others)[0] if flows else torch.zeros_like(others)
            none, some = none.detach(), some.detach()
            require(
                bool((none.abs() < 1e-3).all() and (some > 1e-6).all() and (some > none.abs()).all()),
                f"{name}: divergence({part!r}) is no distance",
                given=f"up to {float(none.abs().max()):.3g} between equals, from {float(some.min()):.3g} elsewhere",
                allowed="0 between equals, more between different inputs, in each row",
            )
            # A row may lie where a part does not change: half of them do not by chance.
            require(
                float((gradient.flatten(1).abs().sum(1) > 0).float().mean()) >= 0.5,
                f"{name}: no gradient flows through divergence({part!r}) to the variants",
                do="drop no_grad, detach",
            )
            parts[part] = some
    require(
        not same(parts["class"], parts["nuisance"]),
        f"{name}: divergence is the same for both parts",
        do="heed part: 'class' compares the evidence for classes, 'nuisance' everything else",
    )


@check(needs=(declared_capabilities_are_there,), capability="directions")
def directions_have_length_one(bench: Bench) -> None:
    """``directions`` maps names to finite unit vectors ``(d,)``."""
    width = bench.codes().shape[1]
    found: object = bench.base.lens.directions
    right = isinstance(found, Mapping) and all(
        isinstance(key, str) and tuple(v.shape) == (width,) and abs(float(v.norm()) - 1) < 1e-3
        for key, v in found.items()
    )
    require(
        right and isinstance(found, Mapping) and len(found) > 0,
        f"{bench.backend.name}: directions are wrong",
        given=type(found).__name__,
        allowed=f"a mapping from names to unit vectors of {width} values",
        do="torch.nn.functional.normalize(direction, dim=0)",
    )


@check(needs=(declared_capabilities_are_there,), capability="waypoints")
def waypoints_lead_from_code_to_code(bench: Bench) -> None:
    """``waypoints`` returns points from the counterfactual's code to the input's, and what they decode to."""
    name, inputs = bench.backend.name, bench.inputs.clone()
    n = len(inputs)
    with bench.asking() as lens:
        codes = lens.encode(inputs)
        moved = lens.counterfactual(codes, torch.full((n,), 1), torch.full((n,), 0))
        found = cast(SupportsWaypoints, lens).waypoints(codes.clone(), moved.clone())
        points = found.codes.shape[1] if found.codes.dim() == 3 else 0
        shapes = (tuple(found.codes.shape), tuple(found.decoded.shape))
        allowed = ((n, points, codes.shape[1]), (n, points, *inputs.shape[1:]))
        require(
            points >= 2 and shapes == allowed,
            f"{name}: waypoints returns wrong shapes",
            given=shapes,
            allowed="codes (N, T, d) and decodings (N, T, *S), T at least 2",
        )
        again = lens.decode(found.codes.flatten(0, 1)).view_as(found.decoded)
    require(
        same(found.codes[:, 0], moved) and same(found.codes[:, -1], codes),
        f"{name}: waypoints do not lead from the counterfactual's code to the input's",
        do="let codes[:, 0] be moved and codes[:, -1] codes",
    )
    require(
        same(found.decoded, again),
        f"{name}: waypoints decode to something else than decode makes of their codes",
        given=f"up to {float((found.decoded - again).abs().max()):.3g} off",
        do="return in decoded what decode(codes) would",
    )


def _inverted(lens: Lens, inputs: Tensor, steps: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    with torch.enable_grad():
        return (
            cast(SupportsInversion, lens)
            .invert(inputs.clone(), steps=steps, restarts=2, generator=generator)
            .detach()
        )
