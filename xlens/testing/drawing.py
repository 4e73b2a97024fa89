"""Checks of what a lens draws: new inputs, and variants of a code."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import cast

import torch
from torch import Tensor

from xlens.contracts import SupportsInvariances, SupportsSampling
from xlens.testing.bench import Bench, quiet
from xlens.testing.capabilities import declared_capabilities_are_there
from xlens.testing.checking import check, require, same
from xlens.testing.correctness import features_name_the_code

_KEPT = 0.6
_ADVICE = "pass options with which it learns this world as Candidate(backend, learned=...)"


@check(needs=(declared_capabilities_are_there,), capability="sample")
def samples_are_reproducible(bench: Bench) -> None:
    """``sample`` returns ``(n, *S)``, finite, each another, decided by its generator."""

    def draw(seed: int) -> Tensor:
        return cast(SupportsSampling, lens).sample(3, 1, torch.Generator().manual_seed(seed))

    with bench.asking() as lens:
        found = draw(0)
        is_drawn(bench, "sample", found, (3, *bench.candidate.shape), draw)
    require(
        not any(same(found[a], found[b]) for a, b in ((0, 1), (0, 2), (1, 2))),
        f"{bench.backend.name}: sample returns the same input several times",
        do="draw each of the n on its own: torch.randn(n, ..., generator=generator)",
    )


@check(needs=(declared_capabilities_are_there,), capability="sample")
def samples_are_of_their_class(bench: Bench) -> None:
    """The classifier puts most samples of a lens that has learned in the class that was asked for, in each
    class."""
    explainer = bench.learned
    shares = []
    for target in range(3):
        with quiet():
            drawn = explainer.sample(20, target)
        with torch.no_grad(), explainer.classifier.frozen():
            shares.append(float((explainer.classifier(drawn).argmax(1) == target).float().mean()))
    require(
        min(shares) >= _KEPT,
        f"{bench.backend.name}: samples are not of their class",
        given="the classifier puts in the class that was asked for "
        + ", ".join(f"{share:.0%} of class {target}" for target, share in enumerate(shares)),
        allowed=f"at least {_KEPT:.0%} of each",
        do=_ADVICE,
    )


@check(needs=(declared_capabilities_are_there, features_name_the_code), capability="invariances")
def variants_hold_the_other_part(bench: Bench) -> None:
    """``invariances`` returns codes ``(N, n, d)`` in which the part that is not varied is held."""
    codes = bench.codes()
    roles = {role: _dims(bench, role) for role in ("class", "nuisance")}

    def draw(seed: int, vary: str, scale: float = 1.0) -> Tensor:
        varying = cast(SupportsInvariances, lens)
        return varying.invariances(codes.clone(), 4, scale, torch.Generator().manual_seed(seed), vary)

    with bench.asking() as lens:
        for vary, held in (("nuisance", "class"), ("class", "nuisance")):
            found = draw(0, vary)
            expected = (len(codes), 4, codes.shape[1])
            is_drawn(bench, f"invariances(vary={vary!r})", found, expected, partial(draw, vary=vary))
            kept = codes[:, None, roles[held]].expand(-1, 4, -1)
            require(
                same(found[:, :, roles[held]], kept),
                f"{bench.backend.name}: invariances(vary={vary!r}) changes the {held} part",
                do="vary the dimensions of features of that role only",
            )
            spread, wider = (draw(0, vary, scale).std(1).mean() for scale in (0.5, 2.0))
            require(
                float(wider) > float(spread),
                f"{bench.backend.name}: invariances(vary={vary!r}) does not heed scale",
                given=f"a spread of {float(spread):.3g} at scale 0.5 and {float(wider):.3g} at 2",
                do="multiply what is drawn by scale",
            )


@check(needs=(variants_hold_the_other_part,), capability="invariances")
def variants_keep_the_class(bench: Bench) -> None:
    """The classifier mostly keeps its class while a lens that has learned varies the nuisance."""
    explainer = bench.learned
    inputs = bench.world.held_out[:12]
    with quiet(), torch.no_grad(), explainer.classifier.frozen(seed=0):
        codes = explainer.lens.encode(inputs.clone())
        varying = cast(SupportsInvariances, explainer.lens)
        varied = varying.invariances(codes, 6, 0.5, torch.Generator().manual_seed(0), "nuisance")
        again = explainer.classifier(explainer.lens.decode(varied.flatten(0, 1))).argmax(1).view(len(inputs), -1)
        kept = again == explainer.classifier(inputs).argmax(1)[:, None]
    share = float(kept.float().mean())
    require(
        share >= _KEPT,
        f"{bench.backend.name}: varying the nuisance changes the classifier's class",
        given=f"the classifier keeps its class on {share:.0%} of the variants",
        allowed=f"at least {_KEPT:.0%}",
        do=_ADVICE,
    )


def is_drawn(
    bench: Bench, method: str, found: Tensor, shape: tuple[int, ...], draw: Callable[[int], Tensor]
) -> None:
    """Require the shape, finite values, the same for the same seed and others for another."""
    require(
        tuple(found.shape) == shape and bool(found.isfinite().all()),
        f"{bench.backend.name}: {method} returns something else than asked for",
        given=f"shape {tuple(found.shape)}, {'finite' if bool(found.isfinite().all()) else 'not finite'}",
        allowed=f"shape {shape}, finite",
    )
    require(
        same(found, draw(0)) and not same(found, draw(1)),
        f"{bench.backend.name}: {method} is not decided by its generator",
        do="draw with generator=generator, and from nothing else",
    )


def _dims(bench: Bench, role: str) -> list[int]:
    return [dim for feature in bench.base.lens.features if feature.role == role for dim in feature.dims]
