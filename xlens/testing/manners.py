"""Checks of what a backend leaves alone, and of what it takes."""

from __future__ import annotations

import dataclasses
import math

import torch

from xlens.errors import UnsupportedError
from xlens.testing.bench import Bench
from xlens.testing.checking import NotCheckedError, check, require, same
from xlens.testing.state import differing, model_state, process_state

#: Five of a critic to one of the rest is customary.
_STEPS_PER_EVENT = 5
#: One step of a quasi-Newton method is a whole small fit.
_STEPS_AFTER = 1


@check(essential=True)
def fits_a_lens(bench: Bench) -> None:
    """``fit`` runs in the toy world and returns a lens."""
    lens = bench.base.lens
    with bench.asking():
        codes = lens.encode(bench.inputs.clone())
        bench.decoded(lens, codes.clone())
    bench.explain(bench.base.explainer)


@check(needs=(fits_a_lens,))
def leaves_the_model_alone(bench: Bench) -> None:
    """The user's model is the same, bit for bit, when ``fit`` and the lens's methods return."""
    advice = "work on a copy; the core restores the model, but until then the classifier is not the classifier"
    changed = differing(bench.base.model_before, bench.base.model_after)
    require(not changed, f"{bench.backend.name}: fit changes the user's model", given=_first(changed), do=advice)
    with bench.asking() as lens:
        before = model_state(bench.classifier.model)
        codes = lens.encode(bench.inputs.clone())
        bench.decoded(lens, codes.clone())
        lens.counterfactual(codes.clone(), _classes(codes, 1), _classes(codes, 0))
        changed = differing(before, model_state(bench.classifier.model))
    what = f"{bench.backend.name}: the lens changes the user's model"
    require(not changed, what, given=_first(changed), do=advice)


@check(needs=(fits_a_lens,))
def does_not_swallow_the_model(bench: Bench) -> None:
    """The user's weights are not part of the lens, where they would be saved and moved with it."""
    own = {id(tensor) for tensor in (*bench.classifier.model.parameters(), *bench.classifier.model.buffers())}
    lens = bench.base.lens
    swallowed = [n for n, t in (*lens.named_parameters(), *lens.named_buffers()) if id(t) in own]
    require(
        not swallowed,
        f"{bench.backend.name}: the user's model has become a part of the lens",
        given=_first(swallowed),
        do="keep it out of the modules, e.g. self._classifier = [classifier]",
    )


@check(needs=(fits_a_lens,))
def leaves_the_data_alone(bench: Bench) -> None:
    """Neither the data given to ``fit`` nor the tensors given to the lens are written to."""
    data = bench.world.inputs.clone()
    bench.fit(data)
    require(
        same(data, bench.world.inputs, exactly=True),
        f"{bench.backend.name}: fit writes to the user's data",
        do="no in-place operation on batch.inputs; they may be views of what the user passed",
    )
    inputs = bench.inputs.clone()
    with bench.asking() as lens:
        codes = lens.encode(inputs)
        _untouched(bench, "encode", "inputs", inputs, bench.inputs)
        kept = codes.clone()
        bench.decoded(lens, codes)
        _untouched(bench, "decode", "codes", codes, kept)
        target, contrast = _classes(codes, 1), _classes(codes, 0)
        lens.counterfactual(codes, target, contrast)
        _untouched(bench, "counterfactual", "codes", codes, kept)
        _untouched(bench, "counterfactual", "target", target, _classes(codes, 1))
        _untouched(bench, "counterfactual", "contrast", contrast, _classes(codes, 0))


@check(needs=(fits_a_lens,))
def leaves_the_process_alone(bench: Bench) -> None:
    """Random numbers, gradient mode, default dtype, threads and the handler of Ctrl-C are as they were."""
    advice = "draw from run.seed or the generator that is passed, and put back what you switch"
    changed = differing(bench.base.process_before, bench.base.process_after)
    require(not changed, f"{bench.backend.name}: fit changes the process", given=_first(changed), do=advice)
    before = process_state()
    dataclasses.replace(bench.backend)
    list(bench.base.lens.features)
    bench.explain(bench.base.explainer)
    changed = differing(before, process_state())
    require(
        not changed,
        f"{bench.backend.name}: constructing the backend or asking its lens changes the process",
        given=_first(changed),
        do=advice,
    )


@check(needs=(fits_a_lens,))
def takes_any_iterable(bench: Bench) -> None:
    """Batches without a stable order, without labels, and with a last batch of one input, will do."""
    batches = [{"pixel_values": part} for part in bench.world.inputs[:193].clone().split(48)]
    try:
        fitted = bench.fit(batches)
    except Exception as fault:  # noqa: BLE001 - whatever it raises is the finding
        require(
            False,
            f"{bench.backend.name}: fit does not take a list of batches",
            given=f"{type(fault).__name__}: {fault}",
            do="go through data.batches(), not len(data) or data.take(); where batch.index or run.logits is None, "
            "use xlens.training.classifier_logits",
        )
    with bench.asking(), torch.no_grad():
        codes = fitted.lens.encode(bench.inputs.clone())
    require(
        bool(codes.isfinite().all()),
        f"{bench.backend.name}: fitted on a list of batches, the lens gives codes that are not finite",
    )


@check(needs=(fits_a_lens,))
def reports_its_steps(bench: Bench) -> None:
    """A fit that trains tells ``run.on_step`` of each step of a torch optimiser, in order, with finite losses."""
    events, name = bench.base.events, bench.backend.name
    advice = "train with xlens.training.Trainer, which reports, saves and resumes"
    *before, after = bench.base.optimizer_steps
    silent = [*(count for count in before if count > _STEPS_PER_EVENT), *([after] if after > _STEPS_AFTER else [])]
    require(
        not silent,
        f"{name}: fit trains without telling anybody",
        given=f"{max(silent, default=0)} steps of one optimiser, and {len(events)} step events in all",
        allowed=f"up to {_STEPS_PER_EVENT} steps of each optimiser to one event, and {_STEPS_AFTER} after the last",
        do=advice,
    )
    if not events:
        raise NotCheckedError("there are no steps to report: this fit does not train")
    phases = dict.fromkeys(event.phase for event in events)
    for phase in phases:
        own = [event for event in events if event.phase == phase]
        numbers = [event.step for event in own]
        require(
            numbers == list(range(1, own[-1].total + 1)),
            f"{name}: the steps of the phase {phase!r} are not 1, 2, ... up to their total",
            given=f"{numbers[:3]} ... {numbers[-1]} of {own[-1].total}",
            do=advice,
        )
        losses = [value for event in own for value in event.losses.values()]
        require(
            bool(losses) and all(isinstance(v, float) and math.isfinite(v) for v in losses),
            f"{name}: step events without finite losses",
            given=own[-1].losses,
            allowed="name -> finite float",
            do=advice,
        )


@check(needs=(fits_a_lens,))
def gives_the_same_for_the_same_seed(bench: Bench) -> None:
    """Two fits with one seed give the same lens, whatever the process did in between."""
    first, second = bench.base.lens.state_dict(), bench.again.lens.state_dict()
    different = [key for key in first if key not in second or not same(first[key], second[key], exactly=True)]
    with bench.asking():
        codes = [fitted.lens.encode(bench.inputs.clone()) for fitted in (bench.base, bench.again)]
    require(
        not different and same(*codes, exactly=True),
        f"{bench.backend.name}: the same seed gives another lens",
        given=_first(different) or "the same weights and other codes",
        do="draw from a torch.Generator seeded with run.seed; use no time, hash() or order of a set",
    )


@check(needs=(gives_the_same_for_the_same_seed,))
def explains_f_and_not_the_labels(bench: Bench) -> None:
    """Labels that came with the data change nothing: classes are the classifier's own, unless the user asks
    otherwise."""
    wrong = (bench.world.labels + 1) % 3
    first, second = bench.base.lens.state_dict(), bench.fit((bench.world.inputs.clone(), wrong)).lens.state_dict()
    different = [key for key in first if key not in second or not same(first[key], second[key], exactly=True)]
    require(
        not different,
        f"{bench.backend.name}: labels in the data change the lens",
        given=_first(different),
        do="take classes from xlens.training.supervising_logits: the classifier's own unless asked otherwise",
    )


@check(needs=(gives_the_same_for_the_same_seed,))
def begins_with_an_earlier_lens(bench: Bench) -> None:
    """A fit that trains begins with the lens that ``start_from`` names, or refuses, and leaves it as it is."""
    if not bench.base.events:
        raise NotCheckedError("there is nothing to begin with: this fit does not train")
    cold = bench.again.lens.state_dict()
    try:
        warm = bench.fit(start_from=bench.base.explainer).lens.state_dict()
    except UnsupportedError as refusal:
        raise NotCheckedError(f"it refuses: {refusal}") from None
    base = bench.base.lens.state_dict()
    changed = [key for key, value in base.items() if not same(value, cold[key], exactly=True)]
    require(
        not changed,
        f"{bench.backend.name}: a fit that begins with an earlier lens changes that lens",
        given=_first(changed),
        do="build a lens of its own; the Trainer copies the weights",
    )
    require(
        any(not same(value, cold[key], exactly=True) for key, value in warm.items()),
        f"{bench.backend.name}: start_from changes nothing",
        given="the lens of a fit that begins anew",
        do="hand run as it is to the Trainer, and name its networks as they are named in the lens",
    )


def _classes(codes: torch.Tensor, c: int) -> torch.Tensor:
    return torch.full((len(codes),), c)


def _untouched(bench: Bench, method: str, what: str, now: torch.Tensor, before: torch.Tensor) -> None:
    require(
        same(now, before, exactly=True),
        f"{bench.backend.name}: {method} writes to the {what} it is given",
        do=f"no in-place operation on the argument; work on {what}.clone()",
    )


def _first(names: list[str]) -> str | None:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more if names else None
