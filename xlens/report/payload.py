"""What a report holds, as plain JSON: pictures as data URIs, figures rounded, sentences."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from xlens.contracts.numbers import is_count
from xlens.errors import DataError, OptionError
from xlens.explanation import Explanation
from xlens.plot.draw import least_edit, limit_of, strongest
from xlens.plot.pixels import Ranges, kind_of, ranges_of, to_unit
from xlens.plot.plain import confidence, finding, percent, reasons, said, standing, unchanged
from xlens.plot.words import (
    complete_methods,
    end_of_path,
    method_title,
    other_case,
    probability_of,
    question,
    scores_of,
    sentences,
    unsigned_methods,
)
from xlens.report.sliders import allowance, slider_items
from xlens.report.sprites import frames_uri, maps_uri, mask_uri
from xlens.report.traversals import Traversal

__all__ = ["payload"]

# Signals are drawn by the page from whole numbers of this many steps.
_STEPS = 1000
# Bytes of everything on the page that is not about an input, and of the sliders' figures.
_PAGE = 60_000


def payload(
    explanation: Explanation,
    names: Sequence[str] | None = None,
    traversals: Sequence[Traversal] = (),
    *,
    optional: bool = False,
    max_bytes: int | None = None,
) -> dict[str, Any]:
    """Return everything that the page shows.

    Args:
        explanation: N inputs that are images or signals.
        names: N names of the inputs, such as file names.
        traversals: of the same N inputs, the most important first.
        optional: whether traversals of images are left out where the page would grow too large.
        max_bytes: what is too large; None for 2 MB for sixteen images of 64x64, and in proportion.

    Raises:
        UnsupportedError: the inputs are neither images nor signals.
        DataError: names or traversals do not fit, or there is no input.
        OptionError: `max_bytes` is no whole number above 0.
    """
    if max_bytes is not None and not is_count(max_bytes):
        raise OptionError(
            "report: max_bytes is no size", given=repr(max_bytes), allowed="an int >= 1, or None for the usual size"
        )
    shape = tuple(explanation.inputs.shape[1:])
    kind = kind_of(shape, "report")
    _check(explanation, names, traversals)
    whole = explanation.to("cpu")
    ranges = ranges_of(whole)
    complete, unsigned = complete_methods(whole), unsigned_methods(whole)
    methods = [
        {"title": method_title(name), "complete": name in complete, "unsigned": name in unsigned}
        for name in whole.attributions
    ]
    items = [_item(whole, i, kind, ranges, names) for i in range(len(whole))]
    left_out = _add_traversals(items, traversals, whole, kind, ranges, optional, max_bytes)
    return {
        "kind": kind,
        "height": shape[-2] if kind == "image" else 0,
        "width": shape[-1],
        "channels": torch.Size(shape[:-1]).numel() if kind == "signal" else shape[0],
        "frames": whole.path.shape[1],
        "reconstruction": whole.reconstruction is not None,
        # A lens on a hidden layer makes no inputs, so the other is a case of its own: real, or decoded from there.
        "retrieved": whole.reconstruction is None,
        "decoded": whole.decoded_from_layer,
        "other": other_case(whole),
        # With carry="none" the path leads to the reconstruction, and the input is a picture of its own.
        "end": end_of_path(whole),
        "methods": methods,
        "features": list(whole.feature_names),
        "notTaught": list(whole.not_taught),
        "leftOut": left_out,
        "items": items,
    }


def _item(
    whole: Explanation,
    i: int,
    kind: str,
    ranges: Ranges,
    names: Sequence[str] | None,
) -> dict[str, Any]:
    shown = [*whole.path[i], *([whole.reconstruction[i]] if whole.reconstruction is not None else [])]
    if end_of_path(whole) != "input":
        shown.append(whole.inputs[i])
    # A magnitude: colours of both signs stand for the two classes, and for nothing else on the page.
    edit = strongest(whole.inputs[i] - whole.counterfactual[i]).abs()
    maps = [edit, *(values[i] for values in whole.attributions.values())]
    unsigned = unsigned_methods(whole)
    limits = _limits(whole, maps)
    target, contrast = (whole.class_names[int(c[i])] for c in (whole.target, whole.contrast))
    return {
        "name": str(names[i]) if names is not None else f"input {i + 1}",
        "question": question(whole, i),
        "target": target,
        "contrast": contrast,
        "p": probability_of(target, contrast, len(whole.class_names)),
        "holds": bool(whole.trustworthy[i]),
        "reasons": reasons(whole, i),
        "problems": list(whole.problems[i]),
        "unchanged": unchanged(whole, i),
        "finding": finding(whole, ranges, i),
        "verdict": list(standing(whole, i)),
        "before": percent(confidence(whole, i)[0]),
        "after": percent(confidence(whole, i)[1]),
        # Of more classes than two: as if the model had only these to choose from.
        "against": "" if len(whole.class_names) == 2 else f" against {contrast}",
        "says": list(said(whole, i)),
        "score": _round(whole.scores[i]),
        "end": _round(whole.counterfactual_scores[i]),
        "gap": _round(whole.fidelity.score_gap[i]),
        "path": [_round(score) for score in whole.path_scores[i]],
        "images": _images(torch.stack(shown), kind, ranges),
        "maps": _maps(maps, limits, kind, [True, *(name in unsigned for name in whole.attributions)]),
        "limits": [_round(limit, 2) for limit in limits],
        "mask": mask_uri(whole.mask[i]) if kind == "image" and whole.mask is not None else None,
        "said": [[holds, sentence] for holds, sentence in sentences(whole, i)],
        "contributions": [_round(value) for value in whole.feature_contributions[i]],
        "table": _table(whole, i),
        "traversals": [],
        "note": "",
    }


def _add_traversals(
    items: list[dict[str, Any]],
    traversals: Sequence[Traversal],
    whole: Explanation,
    kind: str,
    ranges: Ranges,
    optional: bool,
    max_bytes: int | None,
) -> list[str]:
    """Give each item its traversals, and return the names of those that were left out."""
    if kind == "image":
        most = allowance(len(items), whole.inputs.shape[1:]) if max_bytes is None else max_bytes
        left = most - len(json.dumps(items)) - _PAGE
        written, left_out = slider_items(traversals, ranges, left, optional=optional)
    else:
        written = [
            [{"images": _images(f.cpu(), kind, ranges), "stacked": False} for f in t.frames] for t in traversals
        ]
        left_out = []
    for one, frames in zip(traversals, written, strict=False):
        for i, item in enumerate(items):
            facts = {
                "feature": one.feature,
                "values": list(one.values),
                "scores": [_round(score) for score in one.scores[i]],
            }
            item["traversals"].append(facts | frames[i])
    return left_out


def _images(frames: Tensor, kind: str, ranges: Ranges) -> str | list[list[int]]:
    if kind == "image":
        return frames_uri(frames, ranges)
    whole = ranges if len(ranges) == 1 else [(min(r[0] for r in ranges), max(r[1] for r in ranges))]
    return [(_STEPS * to_unit(frame, whole)).round().int().flatten().tolist() for frame in frames]


def _maps(maps: list[Tensor], limits: list[float], kind: str, unsigned: list[bool]) -> str | list[list[int]]:
    if kind == "image":
        return maps_uri(maps, limits, unsigned)
    return [_signed(values, limit) for values, limit in zip(maps, limits, strict=True)]


def _signed(values: Tensor, limit: float) -> list[int]:
    total = values.float() if values.dim() == 1 else values.float().sum(0)
    return (_STEPS * total / limit).clamp(-_STEPS, _STEPS).round().int().tolist()


def _limits(whole: Explanation, maps: list[Tensor]) -> list[float]:
    """Return the end of each map's scale; attributions that add up to the same difference share theirs."""
    complete = [name in complete_methods(whole) for name in whole.attributions]
    own = [limit_of(maps[0], least_edit(whole.data_range)), *map(limit_of, maps[1:])]
    shared = max((limit for limit, yes in zip(own[1:], complete, strict=True) if yes), default=1.0)
    return [own[0], *(shared if yes else limit for limit, yes in zip(own[1:], complete, strict=True))]


def _table(whole: Explanation, i: int) -> list[list[str]]:
    """Return rows of the table of numbers: what, value."""
    target, contrast = (whole.class_names[int(c[i])] for c in (whole.target, whole.contrast))
    p = probability_of(target, contrast, len(whole.class_names))
    rows = [
        [f"score and {p} on the {name}", f"{float(s[i]):+.3f}, {float(s[i].sigmoid()):.3f}"]
        for name, s in scores_of(whole)
    ]
    for field in dataclasses.fields(whole.fidelity):
        value = getattr(whole.fidelity, field.name)[i]
        shown = ("yes" if value else "no") if value.dtype == torch.bool else f"{float(value):.4g}"
        rows.append([field.name.replace("_", " "), shown])
    for name, delta in whole.convergence_delta.items():
        rows.append([f"{method_title(name)}: sum minus score difference", f"{float(delta[i]):+.3g}"])
    return rows


def _round(value: Tensor | float, digits: int = 4) -> float:
    return float(f"{float(value):.{digits}g}")


def _check(explanation: Explanation, names: Sequence[str] | None, traversals: Sequence[Traversal]) -> None:
    n = len(explanation)
    if not n:
        raise DataError("report: nothing to show", given="an explanation of 0 inputs", do="explain some inputs")
    if names is not None and len(names) != n:
        raise DataError("report: names do not fit", given=f"{len(names)} names", allowed=f"{n}, one per input")
    for one in traversals:
        wanted = (n, len(one.values), *explanation.inputs.shape[1:])
        if tuple(one.frames.shape) != wanted or tuple(one.scores.shape) != wanted[:2]:
            raise DataError(
                f"report: the traversal of {one.feature!r} does not fit the explanation",
                given=f"frames {tuple(one.frames.shape)}, scores {tuple(one.scores.shape)}",
                allowed=f"{wanted} and {wanted[:2]}",
                do="render it from the same inputs, with render_traversals(explainer, explanation)",
            )
