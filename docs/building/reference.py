"""The API reference: a page for each public room, written from its ``__all__`` before the pages are read."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from building import copies
from xlens.contracts import Backend
from xlens.registry.described import described, options_rows

if TYPE_CHECKING:
    from sphinx.application import Sphinx

__all__ = ["ROOMS", "documented", "pages", "setup"]

#: Rooms and what each is for the reader, in the order of the reference. A name that several export is described in
#: the first of them, and is a link in the others.
ROOMS: dict[str, str] = {
    "xlens": "Fit, explain, load; Classifier, LensExplainer, Explanation",
    "xlens.plot": "Figures",
    "xlens.report": "Pages of HTML",
    "xlens.evaluation": "Judging lenses and attributions",
    "xlens.metrics": "Metrics",
    "xlens.auditing": "Audits: shortcuts and spurious correlations",
    "xlens.attr": "Path attributions: integrated gradients",
    "xlens.classifier": "Classifiers",
    "xlens.data": "Data: loaders, arrays, DICOM and NIfTI",
    "xlens.datasets": "Data sets",
    "xlens.teaching": "Teaching: active learning",
    "xlens.storage": "Saved lenses and explanations",
    "xlens.codec": "Autoencoders for large images",
    "xlens.surrogate": "Surrogates that answer for the classifier in a fit",
    "xlens.counterfactual": "Edits, masks, carrying",
    "xlens.integrations.lightning": "Lightning callback",
    "xlens.integrations.quantus": "Quantus",
    "xlens.integrations.tracking": "W&B and MLflow",
    "xlens.errors": "Errors and warnings",
    "xlens.contracts": "The contract of plugins",
    "xlens.testing": "The conformance kit",
    "xlens.training": "Training, several processes",
    "xlens.nn": "Building blocks",
    "xlens.registry": "Installed backends",
    "xlens.stages": "Hidden layers as stages",
    "xlens_medxgan": "medxgan: a GAN with an encoder",
    "xlens_infill": "infill: patches and fills, nothing trained",
    "xlens_introvac": "introvac: an introspective VAE with directions",
    "xlens_dif": "dif: few named features",
    "xlens_flow": "flow: a rectified flow",
    "xlens_ilvm": "ilvm: a hidden layer in words",
    "xlens_ilvm.jlvm": "jlvm: a VAE with named dimensions",
    "xlens_svae": "svae: what the classifier ignores",
}

#: Which of the root's names come first, and what the others are for.
_FIRST = ("fit", "explain", "load", "Classifier", "LensExplainer", "Explanation", "Fidelity", "audit", "evaluate")


def documented() -> dict[str, list[str]]:
    """Return each room's public names, without modules: those described there, in order."""
    seen: set[int] = set()
    found: dict[str, list[str]] = {}
    for room in ROOMS:
        own = []
        for name, value in _public(room):
            if not inspect.ismodule(value) and (not _is_code(value) or id(value) not in seen):
                own.append(name)
                seen.add(id(value))
        found[room] = own
    return found


def pages() -> dict[str, str]:
    """Return the reference: name of each page -> its Markdown."""
    own = documented()
    homes = {id(value): f"{room}.{name}" for room in ROOMS for name, value in _public(room) if name in own[room]}
    found = {_page(room): _written(room, title, own[room], homes) for room, title in ROOMS.items()}
    rows = [f"| [{room}]({_page(room)}.md) | {title} |" for room, title in ROOMS.items()]
    listed = "\n".join(_page(room) for room in ROOMS)
    found["index"] = (
        "# API reference\n\nEvery public name, from its docstring. The three to know are "
        "{py:class}`xlens.Classifier`, {py:class}`xlens.LensExplainer` and {py:class}`xlens.Explanation`.\n\n"
        "| module | what is in it |\n|---|---|\n"
        + "\n".join(rows)
        + f"\n\n```{{toctree}}\n:hidden:\n{listed}\n```\n"
    )
    return found


def _public(room: str) -> Iterator[tuple[str, Any]]:
    module = importlib.import_module(room)
    names = [name for name in module.__all__ if name != "xlens_backend"]
    first = [name for name in _FIRST if name in names] if room == "xlens" else []
    for name in [*first, *(name for name in names if name not in first)]:
        yield name, getattr(module, name)


def _is_code(value: Any) -> bool:
    return inspect.isclass(value) or inspect.isroutine(value)


def _page(room: str) -> str:
    return room.replace(".", "-")


def _written(room: str, title: str, own: list[str], homes: dict[int, str]) -> str:
    """Return the page of a room: its sentence, its options where it is a backend, its names."""
    module = importlib.import_module(room)
    head = inspect.getdoc(module) or ""
    lines = [f"# {title}", "", f"```{{py:module}} {room}\n```", "", f"`{room}`", ""]
    lines += ["```{eval-rst}", _without_references(head), "```", ""]
    elsewhere = [homes[id(value)] for name, value in _public(room) if _is_code(value) and name not in own]
    if elsewhere:
        lines += ["Described elsewhere: " + ", ".join(f"{{py:obj}}`{home}`" for home in elsewhere) + ".", ""]
    for name in own:
        lines += [_described(room, name, getattr(module, name)), ""]
    return "\n".join(lines)


def _without_references(head: str) -> str:
    """Return a module's docstring with its references as a list, whose lines belong together."""
    before, found, references = head.partition("References:\n")
    if not found:
        return head
    entries = re.sub(r"\n {5,}", " ", references).strip().splitlines()
    return f"{before}**References**\n\n" + "\n".join(f"- {entry.strip()}" for entry in entries)


def _described(room: str, name: str, value: Any) -> str:
    if inspect.isclass(value):
        options = [":members:"]
        if name == "LensExplainer":
            options.append(":inherited-members: object")
        body = "\n   ".join([f".. autoclass:: {room}.{name}", *options])
        table = _options(value) if issubclass(value, Backend) and not inspect.isabstract(value) else ""
        return f"## {name}\n\n```{{eval-rst}}\n{body}\n```\n{table}"
    if inspect.isroutine(value):
        return f"## {name}\n\n```{{eval-rst}}\n.. autofunction:: {room}.{name}\n```"
    said = "\n".join(f"   {line}" for line in _comment(room, name))
    return f"## {name}\n\n```{{eval-rst}}\n.. py:data:: {name}\n   :module: {room}\n\n{said}\n```"


def _comment(room: str, name: str) -> list[str]:
    """Return what is said of a constant above it, where it is assigned."""
    package = importlib.import_module(room).__name__.partition(".")[0]
    for module in [value for key, value in sorted(sys.modules.items()) if key.partition(".")[0] == package]:
        if not (path := getattr(module, "__file__", None)):
            continue
        lines = Path(path).read_text(encoding="utf-8").splitlines()
        for at, line in enumerate(lines):
            if re.match(rf"{name}(: .*?)? = ", line):
                above = at
                while above and lines[above - 1].startswith("#:"):
                    above -= 1
                return [text[2:].strip() for text in lines[above:at]]
    return []


def _options(backend: type[Backend]) -> str:
    """Return a backend's options as a table."""
    header, *rows = options_rows(described(backend))
    cells = [[re.sub(r"([|<>*_\[\]])", r"\\\1", cell) for cell in row] for row in rows]
    lines = ["| " + " | ".join(row) + " |" for row in [list(header), ["---"] * len(header), *cells]]
    return f'\nOptions of `{backend.name}`, for `xlens.fit(model, images, "{backend.name}", ...)`:\n\n' + "\n".join(
        lines
    )


def setup(app: Sphinx) -> dict[str, bool]:
    """Write the reference before the pages are read."""
    copies.write(Path(app.srcdir) / "api", pages())
    return {"parallel_read_safe": True}
