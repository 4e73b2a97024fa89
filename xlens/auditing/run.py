"""``audit``: what a classifier relies on over a set of data, and which of it looks like a shortcut."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from xlens.auditing.alarms import alarms_of
from xlens.auditing.chance import association, corrected
from xlens.auditing.edits import KeptEdits
from xlens.auditing.evidence import evidence_of
from xlens.auditing.given import faults_of, masks_of, metadata_of
from xlens.auditing.group import Group
from xlens.auditing.groups import FEWEST, clusters, describe
from xlens.auditing.labels import labelled
from xlens.auditing.result import Audit
from xlens.auditing.sweep import Reader, Seen, Sweep, sweep
from xlens.auditing.tone import Tone, contrasts, tones_of
from xlens.classifier.pieces import piece
from xlens.classifier.turns import Turn
from xlens.contracts.explainer import Explainer
from xlens.contracts.numbers import plain
from xlens.data import as_data
from xlens.errors import DataError, OptionError, UnsupportedError
from xlens.explaining.asking import asks
from xlens.fitted import Fitted, as_fitted
from xlens.plot.pixels import ranges_of_lens

__all__ = ["audit"]

#: A group holds at least this share of the parts of its class.
_SHARE = 0.04
#: Inputs that tell other data from those of an earlier pass.
_FIRST = 64
#: Groups of which the page shows exemplars.
_SHOWN = 24
#: Share of the decisions for a class.
_NEARLY_ALL = 0.9
#: Classes that a note names.
_NAMED = 5


def audit(
    explainer: Explainer | Fitted,
    data: Any,
    *,
    masks: Any = None,
    metadata: Mapping[str, Any] | Any = None,
    n: int | None = None,
    search: Literal["both", "lens", "windows"] = "both",
    seconds: float | None = None,
    output_dir: str | Path | None = None,
    confidence: float = 0.95,
    seed: int = 0,
    progress: bool | None = None,
) -> Audit:
    """Audit of a classifier over a set of data: what its decisions rely on, grouped, with alarms for shortcuts.

    Each input's edit is taken apart into connected parts, described by where they are, what stands there before and
    after (in colours and edges, not in the classifier's own features), and how much of the score each carries.
    Parts that are alike make a group. What lies in no one place, the colours and the light of whole images, is
    tried on its own: see :class:`Tone`. The images are not kept.

    Args:
        explainer: what :func:`xlens.fit` or :func:`xlens.load` returned, for images.
        data: as for :func:`xlens.fit`; labels, where there are any, tell whether a group goes with mistakes.
        masks: ``(N, 1, H, W)`` bool, where the object is in each input of the data.
        metadata: facts about each input of the data: name -> N values, or a DataFrame with N rows.
        n: so many inputs, drawn by `seed`; None for all.
        search: ``"lens"`` takes the lens's counterfactuals where they change the decision; ``"windows"`` fills what
            costs the score most from its surroundings, which also finds what does not decide alone; ``"both"`` does
            this where the lens finds nothing.
        seconds: stop explaining after the batch in which that has passed (64 inputs, 8 from 128 pixels a side on),
            and audit what was seen; None for no limit. Groups and pictures come after it.
        output_dir: folder where batches are kept; the same call goes on from there.
        confidence: of the bootstrap intervals, over inputs.
        seed: decides which inputs come first, and everything random.
        progress: show a progress bar; None shows it on a terminal.

    Raises:
        OptionError: a number or word out of range, all faults in one error; or no explainer.
        DataError: data, masks or metadata that do not fit, or labels that are no classes; or masks or metadata
            beside a loader that shuffles.
        UnsupportedError: the inputs are no images.
        StorageError: `output_dir` holds another audit, or cannot be used.

    >>> import xlens
    >>> audit = xlens.audit(explainer, images[:64], progress=False)
    >>> audit.count
    64
    """
    faults = faults_of(n, search, seconds, confidence, seed, output_dir, progress)
    if faults:
        raise OptionError("audit: " + "; ".join(faults))
    n, seconds, confidence, seed = plain((n, seconds, confidence, seed))
    fitted = as_fitted(explainer, "audit", "explainer", data)
    if not fitted.spec.is_image:
        raise UnsupportedError(
            "audit: parts are places in images", given=f"inputs of shape {fitted.spec.shape}", allowed="(C, H, W)"
        )
    # A lens on a hidden layer makes no images of its own, so what had to change there is found by filling alone.
    if asks(fitted).shows_real_inputs:
        if search == "lens":
            raise UnsupportedError(
                "audit: search='lens' needs a lens that makes images",
                given=f"a {fitted.backend.name!r} lens on a hidden layer",
                do="leave search at its default",
            )
        search = "windows"
    source = as_data(data)
    if source.shuffles and not (masks is None and metadata is None):
        raise DataError(
            "audit: masks and metadata are by position, and these data come in another order on each pass",
            given=source.shuffles,
            do="pass the data set itself, or a loader with shuffle=False",
        )
    with Turn():
        reader = Reader(labelled(source, fitted, "audit"), fitted.spec.shape, n, seed)
        objects = None if masks is None else masks_of(masks, reader.total, fitted.spec.shape)
        # The true classes are a column of this name.
        facts = {
            "label, of the metadata" if name == "label" else name: values
            for name, values in metadata_of(metadata, reader.total).items()
        }
        found = sweep(
            fitted,
            reader,
            masks=objects,
            search=search,
            seconds=seconds,
            folder=None if output_dir is None else Path(output_dir),
            # Nobody asks for it where nothing is kept, and it reads every weight and a batch of the data.
            identity={} if output_dir is None else _identity(fitted, reader, objects, search, n, seed),
            progress=progress,
        )
        groups = _groups(fitted, reader, found, objects, facts, confidence, seed)
        alarms = alarms_of(groups)
        groups, alarms = _numbered(groups, [alarm.group for alarm in alarms])
        tones = _tones(fitted, reader, found, objects, confidence, seed)
        thumbnails = {
            group.number: _thumbnails(fitted, reader, found.edits, group, search) for group in groups[:_SHOWN]
        }
    return Audit(
        groups=tuple(groups),
        alarms=tuple(alarms),
        tones=tuple(tones),
        parts=found.parts,
        seen=found.seen,
        total=found.total,
        notes=tuple(_notes(found, fitted.class_names, len(groups), source.shuffles)),
        fitted=fitted,
        seed=seed,
        thumbnails=thumbnails,
    )


def _identity(
    fitted: Fitted, reader: Reader, masks: Tensor | None, search: str, n: int | None, seed: int
) -> dict[str, Any]:
    """Return what has to be the same for an earlier pass to be gone on with."""
    with torch.no_grad():
        lens = sum(float(value.double().sum()) for value in fitted.lens.state_dict().values())
    first, labels = reader.take(reader.order[:_FIRST].sort().values)
    weights = torch.arange(1, len(first) + 1, dtype=torch.double)
    return {
        # Batches of another way to search say other things.
        "search's version": 3,
        "classifier": fitted.classifier.fingerprint(),
        "lens": [fitted.backend.name, repr(fitted.backend), lens],
        # Of the data and the labels the first batch is looked at; data that differ later are not told apart.
        "data": [reader.total, float((first.double().flatten(1).mean(1) * weights).sum())],
        "labels": None if labels is None else float((labels.double() * weights).sum()),
        "masks": None if masks is None else hashlib.sha256(np.packbits(masks.numpy()).tobytes()).hexdigest(),
        "search": search,
        "n": n,
        "seed": seed,
    }


def _groups(
    fitted: Fitted,
    reader: Reader,
    found: Sweep,
    masks: Tensor | None,
    facts: Mapping[str, np.ndarray],
    confidence: float,
    seed: int,
) -> list[Group]:
    def take(index: np.ndarray) -> Tensor:
        return reader.take(torch.from_numpy(index))[0].cpu()

    def ask(inputs: Tensor) -> Tensor:
        return fitted.probabilities(inputs, batch=piece(inputs))

    seen, parts = found.seen, found.parts
    usual = 0.5 if masks is None else 1 - _object_share(masks[torch.from_numpy(seen.input)])
    groups = []
    for target in np.unique(seen.target).tolist():
        smallest = max(FEWEST, round(_SHARE * int((parts.target == target).sum())))
        for rows in clusters(parts, target, smallest):
            groups.append(
                describe(
                    rows,
                    parts,
                    seen,
                    names=fitted.class_names,
                    take=take,
                    ask=ask,
                    usual_outside=usual,
                    ranges=ranges_of_lens(fitted),
                    confidence=confidence,
                    seed=seed,
                )
            )
    groups = [dataclasses.replace(group, number=number) for number, group in enumerate(groups)]
    return _with_associations(groups, seen, facts, fitted.class_names)


def _tones(
    fitted: Fitted, reader: Reader, found: Sweep, masks: Tensor | None, confidence: float, seed: int
) -> list[Tone]:
    return tones_of(
        found.seen,
        names=fitted.class_names,
        ranges=ranges_of_lens(fitted),
        take=lambda index: reader.take(torch.from_numpy(index))[0].cpu(),
        ask=lambda inputs: fitted.probabilities(inputs, batch=piece(inputs)),
        objects=None if masks is None else lambda index: masks[torch.from_numpy(index)],
        confidence=confidence,
        seed=seed,
    )


def _with_associations(
    groups: list[Group], seen: Seen, facts: Mapping[str, np.ndarray], names: tuple[str, ...]
) -> list[Group]:
    raw = []
    for group in groups:
        inside = np.isin(seen.input, group.inputs.numpy())
        decided = seen.target == names.index(group.target)
        # Where nearly all decisions for the class are in the group, it can only be compared with other decisions.
        among = decided if group.share < _NEARLY_ALL else np.ones_like(decided)
        found = [association(name, values[seen.input[among]], inside[among]) for name, values in facts.items()]
        known = decided & (seen.label >= 0)
        if known.any():
            found.append(association("label", np.array(names)[seen.label[known]], inside[known]))
        raw += [(group.number, one) for one in found if one is not None]
    whose: dict[int, list[Any]] = {}
    for number, one in corrected(raw):
        whose.setdefault(number, []).append(one)
    return [
        dataclasses.replace(group, associations=tuple(sorted(whose.get(group.number, []), key=lambda one: one.p)))
        for group in groups
    ]


def _numbered(groups: list[Group], suspects: list[int]) -> tuple[list[Group], list[Any]]:
    """Return groups in order, suspects first, with their new numbers, and the alarms of these."""
    rank = {number: place for place, number in enumerate(suspects)}
    ordered = sorted(groups, key=lambda g: (rank.get(g.number, len(groups)), -g.share * g.effect))
    renewed = [dataclasses.replace(group, number=number) for number, group in enumerate(ordered)]
    return renewed, alarms_of(renewed)


def _thumbnails(fitted: Fitted, reader: Reader, edits: KeptEdits, group: Group, search: str) -> Tensor:
    """Return the exemplars before and after, ``(E, 2, C, H, W)``; those are explained anew that were not kept."""
    index = sorted(group.exemplars)
    inputs = reader.take(torch.tensor(index))[0].cpu()
    known = [edits.edited(i, image) for i, image in zip(index, inputs, strict=True)]
    if lost := [row for row, one in enumerate(known) if one is None]:
        with fitted.asking():
            moved = inputs[lost].to(fitted.device)
            again = evidence_of(fitted, moved, *fitted.classes(moved, None, None), search).filled.cpu()
        for row, one in zip(lost, again, strict=True):
            known[row] = one
    return torch.stack([inputs, torch.stack([one for one in known if one is not None])], 1)


def _notes(found: Sweep, names: tuple[str, ...], groups: int, shuffles: str | None) -> list[str]:
    notes = []
    if shuffles:
        notes.append(f"positions of inputs are in the order of one pass over {shuffles}, not of its data set")
    explained = len(found.seen.input)
    if explained < found.total:
        notes.append(f"time ran out after {explained} of {found.total} inputs")
    nothing = int((found.seen.parts == 0).sum())
    if nothing:
        notes.append(
            f"in {nothing} of {explained} inputs no place carries the decision: it may be tone or shape as a whole"
        )
    tried = contrasts(found.seen)
    number = np.bincount(found.parts.target, minlength=len(names))
    sparse = [names[target] for target in np.unique(found.seen.target).tolist() if number[target] < 2 * FEWEST]
    if sparse:
        notes.append(
            f"decisions for {_listed(sparse)} were not grouped, so that no shortcut could have been found among "
            f"them: that takes {2 * FEWEST} parts of edits, and they have fewer"
        )
    if len(np.unique(found.seen.target)) == 1:
        notes.append(
            f"all decisions are for {names[int(found.seen.target[0])]!r}: no group can be compared with others, "
            "and that no alarm is raised proves nothing"
        )
    few = [names[target] for target in np.unique(found.seen.target).tolist() if target not in tried]
    if few:
        notes.append(f"tone was not tried for decisions for {_listed(few)}: too few inputs of these or others")
    if groups > _SHOWN:
        notes.append(f"pictures are there of the first {_SHOWN} of {groups} groups")
    return notes


def _object_share(masks: Tensor) -> float:
    return float(masks.count_nonzero()) / masks.numel()


def _listed(names: list[str]) -> str:
    besides = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(map(repr, names[:_NAMED])) + besides
