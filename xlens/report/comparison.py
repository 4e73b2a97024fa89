"""Explanations of the same inputs by several lenses, side by side on one page that needs no script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from xlens.errors import DataError, StorageError, UnsupportedError
from xlens.explanation import Explanation
from xlens.files.writing import write_whole
from xlens.plot.draw import limit_of
from xlens.plot.pixels import Ranges, has_true_colours, kind_of, ranges_of
from xlens.plot.plain import confidence, finding, percent, said, standing
from xlens.plot.words import complete_methods, method_title, other_case, question, unsigned_methods
from xlens.report.document import document
from xlens.report.page import check_writable
from xlens.report.sprites import frames_uri, maps_uri
from xlens.training.processes import processes

__all__ = ["save_comparison"]


def save_comparison(
    explanations: Mapping[str, Explanation],
    path: str | Path,
    *,
    names: Sequence[str] | None = None,
    title: str = "Lenses side by side",
) -> None:
    """Write explanations of the same inputs to one HTML page: a row for each input, a column for each lens.

    In each cell stand what would have to change, what the classifier says then, the verdict, and every attribution
    that was asked for; above, how many of each lens's explanations hold.

    Args:
        explanations: name of a lens, or of a way to ask one -> its explanation of the N inputs.
        path: the file.
        names: N names of the inputs, such as file names.
        title: heading of the page.

    Raises:
        DataError: inputs, classes or what is asked differ, names do not fit, or there is nothing to show.
        UnsupportedError: the inputs are no images.
        StorageError: the file cannot be written.

    >>> import tempfile
    >>> from xlens.report import save_comparison
    >>> one, other = (explainer.explain(images[:2], carry=carry) for carry in ("masked", "residual"))
    >>> save_comparison({"masked": one, "residual": other}, tempfile.mkdtemp() + "/both.html")
    """
    check_writable(path)
    whole = {str(name): one.to("cpu") for name, one in explanations.items()}
    _check(whole, names)
    first = next(iter(whole.values()))
    page = document(
        "comparison.html.j2",
        ("report.css", "comparison.css"),
        (),
        title=title,
        true_colours=has_true_colours(first),
        version=version("xlens"),
        lenses=[_lens(name, one) for name, one in whole.items()],
        rows=[_row(whole, i, f"input {i + 1}" if names is None else str(names[i])) for i in range(len(first))],
    )
    if not processes(next(iter(explanations.values())).inputs.device).writes:
        return
    try:
        write_whole(Path(path), page.encode())
    except (OSError, UnicodeError) as fault:
        raise StorageError("save_comparison: cannot write", given=fault, do="choose another file") from None


def _lens(name: str, one: Explanation) -> dict[str, Any]:
    after = float(one.counterfactual_scores.sigmoid().mean())
    return {
        "name": name,
        "held": f"{int(one.trustworthy.sum())} of {len(one)}",
        "flips": f"{sum(len(set(said(one, i))) == 2 for i in range(len(one)))} of {len(one)}",
        "after": percent(after),
        "area": "-" if one.mask is None else f"{float(one.mask.mean()):.0%}",
    }


def _row(whole: Mapping[str, Explanation], i: int, name: str) -> dict[str, Any]:
    first = next(iter(whole.values()))
    ranges = ranges_of(first)
    return {
        "name": name,
        "question": question(first, i),
        "target": first.class_names[int(first.target[i])],
        "contrast": first.class_names[int(first.contrast[i])],
        "before": percent(confidence(first, i)[0]),
        "picture": frames_uri(first.inputs[i : i + 1], ranges),
        "cells": [_cell(lens, one, i, ranges) for lens, one in whole.items()],
    }


def _cell(lens: str, one: Explanation, i: int, ranges: Ranges) -> dict[str, Any]:
    complete, unsigned = complete_methods(one), unsigned_methods(one)
    # Attributions that add up to the same difference share their scale, so that they can be compared.
    shared = max((limit_of(one.attributions[name][i]) for name in complete), default=1.0)
    maps = []
    for name, values in one.attributions.items():
        limit = shared if name in complete else limit_of(values[i])
        note = "" if name in complete else " (magnitude only)" if name in unsigned else " (own scale)"
        maps.append((method_title(name) + note, maps_uri([values[i]], [limit], [name in unsigned])))
    return {
        "lens": lens,
        "other": "" if one.reconstruction is not None else other_case(one),
        "picture": frames_uri(one.counterfactual[i : i + 1], ranges),
        "after": percent(confidence(one, i)[1]),
        "finding": finding(one, ranges, i),
        "holds": bool(one.trustworthy[i]),
        "verdict": standing(one, i)[0],
        "problems": list(one.problems[i]),
        "maps": maps,
    }


def _check(whole: Mapping[str, Explanation], names: Sequence[str] | None) -> None:
    if not whole or not all(len(one) for one in whole.values()):
        raise DataError(
            "save_comparison: nothing to show", given=f"{len(whole)} explanations", do="explain some inputs"
        )
    (name, first), *others = whole.items()
    if kind_of(tuple(first.inputs.shape[1:]), "save_comparison") != "image":
        raise UnsupportedError(
            "save_comparison: it shows images", given=f"inputs {tuple(first.inputs.shape[1:])}", allowed="(C, H, W)"
        )
    for other, one in others:
        for what in ("inputs", "target", "contrast"):
            if not torch.equal(getattr(first, what), getattr(one, what)):
                raise DataError(
                    f"save_comparison: {name!r} and {other!r} differ in their {what}",
                    do="explain the same inputs with the same target and contrast",
                )
        if one.class_names != first.class_names:
            raise DataError(
                f"save_comparison: {name!r} and {other!r} differ in their classes",
                given=f"{', '.join(first.class_names)}; {', '.join(one.class_names)}",
                do="compare lenses around one classifier",
            )
    if names is not None and len(names) != len(first):
        raise DataError("save_comparison: names do not fit", given=f"{len(names)} names", allowed=f"{len(first)}")
