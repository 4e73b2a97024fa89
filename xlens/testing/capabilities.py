"""Checks of what a backend declares to be able to do beyond explaining; others are not asked.

A capability that the kit does not know, because it is younger, is asked for its methods only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from xlens.contracts import CAPABILITIES, Run
from xlens.testing.bench import Bench, quiet
from xlens.testing.checking import check, require, same
from xlens.testing.correctness import features_name_the_code, shapes_are_right
from xlens.testing.manners import leaves_the_data_alone
from xlens.training.processes import process_state_restored

_KEPT = 0.6


@check(needs=(shapes_are_right,))
def declared_capabilities_are_there(bench: Bench) -> None:
    """The lens has the methods of each capability that its backend declares."""
    for name in bench.backend.capabilities:
        protocol = CAPABILITIES.get(name)
        require(
            protocol is None or isinstance(bench.base.lens, protocol),
            f"{bench.backend.name}: declares {name!r}, and its lens cannot do it",
            given=type(bench.base.lens).__name__,
            allowed=f"the methods of {protocol.__name__ if protocol else name}, see xlens.contracts",
            do=f"write them, or take {name!r} out of capabilities",
        )


@check(needs=(shapes_are_right,))
def capabilities_are_declared(bench: Bench) -> None:
    """What the lens can do is declared, or nobody will find it."""
    able = [name for name, protocol in CAPABILITIES.items() if protocol and isinstance(bench.base.lens, protocol)]
    hidden = [name for name in able if name not in bench.backend.capabilities]
    require(
        not hidden,
        f"{bench.backend.name}: the lens can do what its backend does not declare",
        given=", ".join(hidden),
        do="add it to capabilities, or give the method a name with an underscore",
    )


@check(needs=(declared_capabilities_are_there,), capability="sample")
def samples_are_reproducible(bench: Bench) -> None:
    """``sample`` returns ``(n, *S)``, finite, decided by its generator."""

    def draw(seed: int) -> Tensor:
        return lens.sample(3, 1, torch.Generator().manual_seed(seed))

    with bench.asking() as lens:
        found = draw(0)
        _is_drawn(bench, "sample", found, (3, *bench.candidate.shape), draw)


@check(needs=(declared_capabilities_are_there,), capability="sample")
def samples_are_of_their_class(bench: Bench) -> None:
    """f puts most samples of a lens that has learned in the class that was asked for."""
    explainer = bench.learned
    right = []
    for target in range(3):
        with quiet():
            drawn = explainer.sample(20, target)
        with torch.no_grad(), explainer.classifier.frozen():
            right.append(explainer.classifier(drawn).argmax(1) == target)
    share = float(torch.cat(right).float().mean())
    require(
        share >= _KEPT,
        f"{bench.backend.name}: samples are not of their class",
        given=f"f puts {share:.0%} of them in the class that was asked for",
        allowed=f"at least {_KEPT:.0%}",
        do="pass options with which it learns this world as Candidate(backend, learned=...)",
    )


@check(needs=(declared_capabilities_are_there, features_name_the_code), capability="invariances")
def variants_hold_the_other_part(bench: Bench) -> None:
    """``invariances`` returns codes ``(N, n, d)`` in which the part that is not varied is held."""
    codes = bench.codes()
    roles = {role: _dims(bench, role) for role in ("class", "nuisance")}

    def draw(seed: int, vary: str, scale: float = 1.0) -> Tensor:
        return lens.invariances(codes.clone(), 4, scale, torch.Generator().manual_seed(seed), vary)

    with bench.asking() as lens:
        for vary, held in (("nuisance", "class"), ("class", "nuisance")):
            found = draw(0, vary)
            expected = (len(codes), 4, codes.shape[1])
            _is_drawn(bench, f"invariances(vary={vary!r})", found, expected, lambda s, v=vary: draw(s, v))
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
    """f mostly keeps its class while a lens that has learned varies the nuisance."""
    explainer = bench.learned
    inputs = bench.world.held_out[:12]
    with quiet(), torch.no_grad(), explainer.classifier.frozen(seed=0):
        codes = explainer.lens.encode(inputs.clone())
        varied = explainer.lens.invariances(codes, 6, 0.5, torch.Generator().manual_seed(0), "nuisance")
        again = explainer.classifier(explainer.lens.decode(varied.flatten(0, 1))).argmax(1).view(len(inputs), -1)
        kept = again == explainer.classifier(inputs).argmax(1)[:, None]
    share = float(kept.float().mean())
    require(
        share >= _KEPT,
        f"{bench.backend.name}: varying the nuisance changes f's class",
        given=f"f keeps its class on {share:.0%} of the variants",
        allowed=f"at least {_KEPT:.0%}",
        do="pass options with which it learns this world as Candidate(backend, learned=...)",
    )


@check(needs=(declared_capabilities_are_there,), capability="invert")
def inversion_starts_anew(bench: Bench) -> None:
    """``invert`` returns codes ``(restarts, N, d)``, finite, decided by its generator."""
    width = bench.codes().shape[1]

    def draw(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        with torch.enable_grad():
            return lens.invert(bench.inputs[:2].clone(), steps=2, restarts=2, generator=generator).detach()

    with bench.asking() as lens:
        _is_drawn(bench, "invert", draw(0), (2, 2, width), draw)


@check(needs=(declared_capabilities_are_there, leaves_the_data_alone), capability="divergence")
def divergence_is_a_distance(bench: Bench) -> None:
    """``divergence`` is ``(N,)``, 0 between equals, positive elsewhere; gradients flow to the variants."""
    inputs, others = bench.inputs.clone(), bench.inputs.flip(0).clone().requires_grad_()
    name = bench.backend.name
    with bench.asking() as lens, torch.enable_grad():
        for part in ("class", "nuisance"):
            none = lens.divergence(inputs, inputs.clone(), part)
            some = lens.divergence(inputs, others, part)
            require(
                none.shape == some.shape == (len(inputs),),
                f"{name}: divergence returns a wrong shape",
                given=tuple(some.shape),
                allowed=(len(inputs),),
            )
            require(
                bool((none.abs() < 1e-3).all() and (some >= -1e-4).all() and (some.max() > 1e-6)),
                f"{name}: divergence({part!r}) is no distance",
                given=f"{_largest(none):.3g} between equals, up to {_largest(some):.3g} elsewhere",
                allowed="0 between equals, more between different inputs",
            )
            require(some.requires_grad, f"{name}: no gradient flows through divergence", do="drop no_grad, detach")


@check(needs=(declared_capabilities_are_there,), capability="directions")
def directions_have_length_one(bench: Bench) -> None:
    """``directions`` maps names to finite unit vectors ``(d,)``."""
    width = bench.codes().shape[1]
    found = bench.base.lens.directions
    right = isinstance(found, Mapping) and all(
        isinstance(key, str) and tuple(v.shape) == (width,) and abs(float(v.norm()) - 1) < 1e-3
        for key, v in found.items()
    )
    require(
        right and len(found) > 0,
        f"{bench.backend.name}: directions are wrong",
        given=type(found).__name__,
        allowed=f"a mapping from names to unit vectors of {width} values",
        do="torch.nn.functional.normalize(direction, dim=0)",
    )


@check(needs=(declared_capabilities_are_there,), capability="retrieve")
def retrieved_inputs_are_real(bench: Bench) -> None:
    """``retrieve`` returns inputs of the data ``(N, *S)``, of the classes that it is asked for."""
    classes = torch.arange(len(bench.inputs)) % 3
    codes = bench.codes()
    with bench.asking() as lens:
        found = {"any class": lens.retrieve(codes.clone()), "given classes": lens.retrieve(codes.clone(), classes)}
        seen = bench.classifier(found["given classes"]).argmax(1)
    real = bench.world.inputs.flatten(1)
    for name, inputs in found.items():
        right = tuple(inputs.shape) == (len(codes), *bench.candidate.shape)
        require(
            right and all(bool((real == one.flatten()).all(1).any()) for one in inputs),
            f"{bench.backend.name}: what retrieve({name}) returns are no inputs of the data",
            given=tuple(inputs.shape),
            allowed=f"({len(codes)}, *{bench.candidate.shape}), exactly as they are in the data",
        )
    require(
        bool((seen == classes).all()),
        f"{bench.backend.name}: retrieve does not heed the classes",
        given=f"f puts {int((seen == classes).sum())} of {len(classes)} in the class that was asked for",
        do="keep inputs of every class that f predicts",
    )


@check(needs=(declared_capabilities_are_there, shapes_are_right), capability="teach")
def teaching_goes_on_from_where_it_was(bench: Bench) -> None:
    """``informativeness`` is ``(N,)``, finite, decided by its generator; ``teach`` changes what is learned."""
    name, world = bench.backend.name, bench.world
    table = world.inputs.flatten(1).mean(1, keepdim=True).gt(world.inputs.mean()).float()
    unseen = table.clone()
    unseen[8:] = torch.nan
    lens = bench.fit(side_info=unseen).lens

    def ask(seed: int, strategy: str) -> Tensor:
        return lens.informativeness(bench.inputs.clone(), strategy, torch.Generator().manual_seed(seed))

    with bench.asking():
        for strategy in ("mutual_information", "max_entropy"):
            found = ask(0, strategy)
            require(
                tuple(found.shape) == (len(bench.inputs),)
                and bool(found.isfinite().all())
                and same(found, ask(0, strategy)),
                f"{name}: informativeness({strategy!r}) is wrong",
                given=f"shape {tuple(found.shape)}, or other values the second time",
                allowed=f"({len(bench.inputs)},), finite, the same for the same generator",
            )
        before = {key: value.clone() for key, value in lens.state_dict().items()}
    run = Run(seed=0, device=bench.classifier.device, spec=bench.base.explainer.spec, progress=False)
    with quiet(), torch.enable_grad(), process_state_restored(), bench.classifier.frozen(seed=0):
        lens.teach(world.inputs[8:40].clone(), table[8:40].clone(), run)
    after = lens.state_dict()
    changed = [key for key in after if key not in before or not same(before[key], after[key], exactly=True)]
    require(
        bool(changed) and all(bool(value.isfinite().all()) for value in lens.parameters()),
        f"{name}: teach changes nothing",
        do="learn on from the current state, with what was known before and what is new",
    )


@check(needs=(shapes_are_right,), capability="side_info")
def side_information_is_taken(bench: Bench) -> None:
    """A table with gaps, a yes-or-no column and a number beside each input, is learned from."""
    inputs = bench.world.inputs
    brightness = inputs.flatten(1).median(1).values
    table = torch.stack([(brightness > brightness.median()).float(), brightness], 1)
    table[::3, 0] = float("nan")
    fitted = bench.fit(side_info=table)
    with bench.asking():
        codes = fitted.lens.encode(bench.inputs.clone())
        decoded = fitted.lens.decode(codes.clone())
    require(
        bool(codes.isfinite().all() and decoded.isfinite().all()),
        f"{bench.backend.name}: with side_info codes or decodings are not finite",
        do="NaN in side_info means not observed; leave those entries out of the loss",
    )


@check(needs=(shapes_are_right,), capability="over")
def another_lens_is_built_upon(bench: Bench) -> None:
    """A lens over the codes of another one works."""
    fitted = bench.fit(over=bench.base.explainer)
    with bench.asking():
        codes = fitted.lens.encode(bench.inputs.clone())
    require(
        codes.dim() == 2 and bool(codes.isfinite().all()),
        f"{bench.backend.name}: fitted over another lens, codes are wrong",
        given=tuple(codes.shape),
        allowed="(N, d), finite",
    )


def _largest(values: Tensor) -> float:
    return float(values.detach().abs().max())


def _dims(bench: Bench, role: str) -> list[int]:
    return [dim for feature in bench.base.lens.features if feature.role == role for dim in feature.dims]


def _is_drawn(
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
