"""From an explanation to one HTML file that needs nothing else."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import torch

from xlens.errors import StorageError, UnsupportedError
from xlens.explanation import Explanation
from xlens.files.writing import write_whole
from xlens.plot.pixels import has_true_colours, ranges_of
from xlens.plot.words import end_of_path, other_case
from xlens.report.added import added_parts
from xlens.report.document import document, environment
from xlens.report.overall import overall
from xlens.report.payload import payload
from xlens.report.traversals import Traversal
from xlens.training.processes import processes

__all__ = ["check_writable", "notebook_html", "save_html", "to_html"]

_SCRIPTS = ("draw.js", "chart.js", "detail.js", "notes.js", "gallery.js", "print.js")
#: A notebook is stored with its outputs, so only so many are shown in it.
_NOTEBOOK = 8
_WRITE_TO = "choose a file in a folder that exists and can be written"
_WORST = {"score_gap": torch.max, "mse": torch.max, "coverage": torch.max}


def to_html(
    explanation: Explanation,
    *,
    names: Sequence[str] | None = None,
    title: str = "Explanations",
    traversals: Sequence[Traversal] = (),
    optional: bool = False,
    max_bytes: int | None = None,
    parts: Sequence[str] = (),
) -> str:
    """HTML report as one document; arguments as for :func:`save_html`."""
    explanation = explanation.to("cpu")
    return document(
        "report.html.j2",
        ("report.css",),
        _SCRIPTS,
        title=title,
        version=version("xlens"),
        data=payload(explanation, names, traversals, optional=optional, max_bytes=max_bytes),
        end=end_of_path(explanation),
        on_layer=explanation.reconstruction is None,
        decoded=explanation.decoded_from_layer,
        other=other_case(explanation),
        not_taught=bool(explanation.not_taught),
        true_colours=has_true_colours(explanation),
        count=len(explanation),
        held=int(explanation.trustworthy.sum()),
        summary=_summary(explanation),
        parts=added_parts(explanation, names, parts),
        overall=overall(explanation, ranges_of(explanation)) if len(explanation) > 1 else [],
    )


def save_html(
    explanation: Explanation,
    path: str | Path,
    *,
    names: Sequence[str] | None = None,
    title: str = "Explanations",
    traversals: Sequence[Traversal] = (),
    optional: bool = False,
    max_bytes: int | None = None,
    parts: Sequence[str] = (),
) -> None:
    """HTML report in one file that opens in any browser, without a network; of several processes the first writes.

    Args:
        explanation: N inputs that are images or signals.
        path: the file.
        names: N names of the inputs, such as file names.
        title: heading of the page.
        traversals: features set to several values (:func:`render_traversals`), which get sliders.
        optional: leave the last of them out, and say so on the page, where it would grow beyond `max_bytes`.
        max_bytes: what the file should stay below, by coarser pictures under the sliders; None for 2 MB for sixteen
            images of 64x64, and in proportion.
        parts: names of parts that third parties bring, which come last.

    Raises:
        UnsupportedError: the inputs are neither images nor signals.
        DataError: names or traversals do not fit, or there is no input.
        OptionError: `max_bytes` is no whole number above 0, or there is no such part.
        StorageError: the file cannot be written.

    >>> import tempfile
    >>> from xlens.report import save_html
    >>> save_html(explainer.explain(images[:2]), tempfile.mkdtemp() + "/why.html")
    """
    check_writable(path)
    page = to_html(
        explanation,
        names=names,
        title=title,
        traversals=traversals,
        optional=optional,
        max_bytes=max_bytes,
        parts=parts,
    )
    if not processes(explanation.inputs.device).writes:
        return
    try:
        write_whole(Path(path), page.encode())
    except (OSError, UnicodeError) as fault:
        raise StorageError("save_html: cannot write", given=fault, do=_WRITE_TO) from None


def check_writable(path: str | Path) -> None:
    """Refuse a file that a report cannot be written to, before the work that it takes.

    Raises:
        StorageError: its folder does not exist, or file or folder cannot be written.
    """
    file = Path(path)
    try:
        problem = _unwritable(file)
    except OSError as fault:
        problem = str(fault)
    if not problem:
        return
    raise StorageError("save_html: cannot write", given=f"{file}: {problem}", do=_WRITE_TO)


def _unwritable(file: Path) -> str:
    """Return, in words, why a file cannot be written, or nothing."""
    if file.is_dir():
        return "a folder"
    # A file is written beside its place first; a device is written to as it is.
    place = file if file.exists() and not file.is_file() else file.parent
    if not place.exists():
        return "no such folder"
    if not os.access(place, os.W_OK) or (file.exists() and not os.access(file, os.W_OK)):
        return f"{place} is read-only"
    return ""


def notebook_html(explanation: Explanation) -> str | None:
    """Return the report of the first eight inputs in a frame of its own, or None where nothing can be drawn."""
    if not len(explanation):
        return None
    shown = explanation[:_NOTEBOOK]
    try:
        page = to_html(shown)
    except UnsupportedError:
        return None
    template = environment().get_template("notebook.html.j2")
    return template.render(page=page, line=repr(explanation), shown=len(shown), count=len(explanation))


def _summary(explanation: Explanation) -> list[tuple[str, str, str]]:
    """Return the figures over the batch: name, mean, worst."""
    rows = []
    for field in dataclasses.fields(explanation.fidelity):
        values = getattr(explanation.fidelity, field.name).double()
        worst = _WORST.get(field.name, torch.min)(values)
        rows.append((field.name.replace("_", " "), f"{float(values.mean()):.3f}", f"{float(worst):.3f}"))
    return rows
