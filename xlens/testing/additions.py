"""Checks of what is added beside backends: attributions, paths, metrics, carriers and parts of the report."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import torch
from torch import Tensor

from xlens.api import fit
from xlens.attr.captum_methods import captum_names
from xlens.attr.paths import PATHS
from xlens.contracts.additions import ADDITIONS, Addition, AttributionMethod, Carrier, MapMetric
from xlens.counterfactual.carry import CARRIES
from xlens.counterfactual.fit_mask import MaskOptions
from xlens.errors import OptionError, XlensError
from xlens.evaluation.run import evaluate
from xlens.explaining.request import FEATURE_MAPS, OWN
from xlens.registry.added import adding, checked, kind_of
from xlens.testing.bench import quiet
from xlens.testing.checking import CheckFailedError, Result, require, same
from xlens.testing.plain_lens import PlainPixels
from xlens.testing.world import World, patch_of

__all__ = ["check_addition"]

_SHAPE = (2, 8, 10)
#: Names that mean something already.
_TAKEN = {
    "attribution": lambda: (*OWN, FEATURE_MAPS, *captum_names()),
    "path": lambda: PATHS,
    "carrier": lambda: CARRIES,
}


def check_addition(addition: type[Addition]) -> tuple[Result, ...]:
    """Run every check on an attribution, a path, a metric, a carrier or a part of the report; needs no pytest.

    It is used by name on the toy world, through a lens that needs no training.

    Args:
        addition: the class that the plugin's hook returns.

    Returns:
        what came of each check.

    Raises:
        CheckFailedError: one or more checks failed; names all of them.
        OptionError: it is none of these.

    >>> import xlens
    >>> from xlens.contracts import MapMetric
    >>> from xlens.testing import check_addition
    >>> @xlens.options
    ... class Peak(MapMetric):
    ...     '''The largest value of a map.'''
    ...     name = "peak"
    ...     def measure(self, asked):
    ...         return asked.maps.flatten(1).amax(1)
    >>> {result.status for result in check_addition(Peak)}
    {'passed'}
    """
    if not (isinstance(addition, type) and issubclass(addition, tuple(ADDITIONS.values()))):
        raise OptionError(
            "xlens.testing: this is no addition",
            given=repr(addition),
            allowed="a subclass of " + ", ".join(base.__name__ for base in ADDITIONS.values()),
        )
    kind = kind_of(addition)
    results = [_result("contract", _contract, addition)]
    if results[0].status == "passed":
        with adding(addition):
            results += [_result(f"{kind}.{one.__name__.strip('_')}", one, addition) for one in _CHECKS[kind]]
    if failed := [result for result in results if result.status == "failed"]:
        listing = "".join(f"\n- {result.id}: {result.message}" for result in failed)
        raise CheckFailedError(f"{addition.__name__}: {len(failed)} of {len(results)} checks failed:{listing}\n")
    return tuple(results)


def _result(name: str, check: Callable[[Any], None], addition: type[Addition]) -> Result:
    try:
        check(addition)
    except XlensError as fault:
        return Result(name, "failed", str(fault))
    except Exception as fault:  # noqa: BLE001 - a third party's code may fail in any way
        return Result(name, "failed", f"{type(fault).__name__}: {fault}")
    return Result(name, "passed")


def _contract(addition: type[Addition]) -> None:
    """Name, contract version and options are in order, and it says in a line what it is."""
    name = getattr(addition, "name", None)
    require(
        isinstance(name, str) and name.replace("_", "").replace("-", "").isalnum(),
        "the name cannot be an entry point",
        given=repr(name),
        allowed="letters, digits, _ and -",
    )
    kind = kind_of(addition)
    taken = _TAKEN.get(kind, tuple)()
    require(name not in taken, "the name means something else already", given=name, do="choose another")
    checked(ADDITIONS[kind], cast(str, name), addition)
    addition()
    # A dataclass without a docstring gets its signature for one.
    said = (addition.__doc__ or "").strip()
    require(bool(said) and not said.startswith(f"{addition.__name__}("), "it has no docstring", do="say what it is")


@functools.lru_cache(maxsize=1)
def _explainer() -> Any:
    world = World.of(_SHAPE)
    with quiet():
        return fit(world.model(), world.inputs, PlainPixels(), mask=MaskOptions(steps=3), progress=False)


def _inputs(n: int = 5) -> Tensor:
    held = World.of(_SHAPE).held_out
    return held[patch_of(held).flatten(1).any(1)][:n]


def _explained(rows: slice = slice(None), **asked: Any) -> Any:
    with quiet():
        return _explainer().explain(_inputs()[rows], **asked)


def _alone_as_in_its_batch(read: Callable[[Any], Tensor], **asked: Any) -> None:
    whole, alone, again = (_explained(rows, **asked) for rows in (slice(None), slice(2, 3), slice(None)))
    require(same(read(whole), read(again)), "the same question has two answers", do="seed what is drawn")
    require(
        same(read(whole)[2:3], read(alone)),
        "a row alone gives another answer than in its batch",
        do="take no statistics over the batch",
    )


def _maps(addition: type[Addition]) -> None:
    """Maps are of the inputs' shape, finite, and a row's own."""
    name = addition.name
    _alone_as_in_its_batch(lambda found: found.attributions[name], attributions=(name,))


def _keeps_its_promise(addition: type[Addition]) -> None:
    """Where completeness is promised, maps sum to the difference of the score."""
    if not cast(type[AttributionMethod], addition).complete:
        return
    found = _explained(attributions=(addition.name,))
    off = found.convergence_delta[addition.name].abs()
    difference = (found.scores - found.counterfactual_scores).abs()
    require(
        bool((off <= 0.05 * difference + 1e-3).all()),
        "it promises to be complete, and its maps miss the sum",
        given=f"{float((off / difference.clamp_min(1e-3)).max()):.0%} of the difference",
        do="mend it, or set complete = False",
    )


def _way(addition: type[Addition]) -> None:
    """It leads from code to code, is a row's own, and attributions along it are complete."""
    asked: dict[str, Any] = {"path": addition.name, "attributions": ("lig",), "tolerance": 0.02}
    _alone_as_in_its_batch(lambda found: found.path, **asked)
    found = _explained(**asked)
    off, difference = found.convergence_delta["lig"].abs(), (found.scores - found.counterfactual_scores).abs()
    require(
        bool((off <= 0.05 * difference + 1e-3).all()), "integrals along it are not complete", given=off.tolist()
    )


def _carries(addition: type[Addition]) -> None:
    """It ends at the input, is a row's own, and stays in its place where nothing changes."""
    x = _inputs()
    carrier = cast(Carrier, addition())
    other = (x + 0.3).clamp(-3, 2)
    ends = carrier.carry(x, other, other, torch.ones(len(x), 1, 1, 1))
    require(same(ends, x), "at the end of the way it is not the input", given=float((ends - x).abs().max()))
    asked: dict[str, Any] = {"carry": addition.name}
    _alone_as_in_its_batch(lambda found: found.counterfactual, **asked)
    found = _explained(**asked)
    moved = (found.counterfactual - found.inputs).abs().flatten(1).amax(1)
    require(bool((moved > 1e-4).all()), "it carries nothing: counterfactuals are the inputs")


def _figures(addition: type[Addition]) -> None:
    """A figure is a finite number for each map, a row's own, and says which is better."""
    better = cast(type[MapMetric], addition).better
    require(better in ("higher", "lower", ""), "better is wrong", given=repr(better), allowed="higher, lower or ''")
    x = _inputs()
    asked: dict[str, Any] = {"methods": ("lig", "random"), "metrics": (addition.name,), "progress": False}
    with quiet():
        whole, again = (evaluate(_explainer(), x, masks=patch_of(x)[:, :1], **asked) for _ in range(2))
        alone = evaluate(_explainer(), x[:1], masks=patch_of(x)[:1, :1], **asked)
    contender = f"{PlainPixels.name}: lig"
    values = [one.get(addition.name, contender).values for one in (whole, again, alone)]
    require(same(values[0], values[1]), "the same maps have two figures", do="seed what is drawn")
    require(same(values[0][:1], values[2]), "a map alone has another figure than in its batch")


def _lines(addition: type[Addition]) -> None:
    """It says lines of text of each input, which stand in the page, escaped."""
    found = _explained(slice(0, 2))
    with TemporaryDirectory() as folder, quiet():
        page = Path(folder) / "page.html"
        found.save_html(page, parts=(addition.name,))
        text = page.read_text(encoding="utf-8")
    title = getattr(addition, "title", None)
    require(isinstance(title, str) and bool(title), "it has no title", given=repr(title))
    require('id="added-1"' in text, "it is not in the page")


_CHECKS: dict[str, tuple[Callable[[type[Addition]], None], ...]] = {
    "attribution": (_maps, _keeps_its_promise),
    "path": (_way,),
    "metric": (_figures,),
    "carrier": (_carries,),
    "report_part": (_lines,),
}
