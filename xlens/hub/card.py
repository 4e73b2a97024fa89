"""The model card of a lens: what it is, how to load it, what holds of it, and what it keeps of the data."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator

from xlens.contracts.options import to_dict
from xlens.explanation import Explanation
from xlens.fitted import Fitted
from xlens.hub.keeping import KeptData
from xlens.hub.names import HubName
from xlens.registry.installed import entries
from xlens.stages import StagedLens

__all__ = ["model_card"]

#: Verdict -> what it certifies, as the rows of a table say it.
_VERDICTS = {
    "flips": "flips: the classifier changes its decision on the counterfactual",
    "likeness": "likeness: the edited region is like what real inputs have there",
    "specific": "specific: the same mask moved elsewhere changes nothing",
    "stable": "stable: a mild blur and small shifts do not undo it",
    "local": "local: the edit is a part of the input",
    "complete": "complete: attributions sum to what they should",
}
#: Names of classes that are written out, at most.
_NAMED = 50
_OWN = "xlens"
#: What Markdown and HTML read as more than itself.
_SIGNS = re.compile(r"[\\`*_\[\]<>|&#~]")


def model_card(
    fitted: Fitted, name: HubName, kept: KeptData, *, licence: str | None, explanation: Explanation | None
) -> str:
    """Return the card ``README.md`` of a lens's repository, in Markdown with the hub's header.

    Args:
        fitted: the lens.
        name: where it will be.
        kept: what it keeps of the data.
        licence: the identifier that the hub knows it by, such as ``"mit"``; None where none was chosen.
        explanation: explanations of inputs that the lens was not fitted on, by which it is judged; None where
            nobody asked.
    """
    parts = [
        *_header(fitted, licence),
        f"# A lens around a {_word(_model_of(fitted))}",
        "",
        "It answers what would have to be different in an input for this classifier to decide otherwise: "
        "counterfactuals, attributions along the way there, and whether they hold. It was fitted around one "
        "trained classifier, which is not in this repository, and means nothing without it.",
        "",
        *_loading(fitted, name),
        "## What it is",
        "",
        "| | |",
        "|---|---|",
        *(f"| {what} | {said} |" for what, said in _facts(fitted)),
        "",
        "## What holds",
        "",
        *_judged(explanation),
        "",
        "## What it keeps of the data",
        "",
        *(f"- {_word(part.said)}" for part in kept.parts),
        "",
        "## Licence",
        "",
        _code(licence) if licence else "None was chosen: ask whoever published it before you use it.",
        "",
    ]
    return "\n".join(parts)


def _header(fitted: Fitted, licence: str | None) -> list[str]:
    tags = ("explainable-ai", "counterfactual-explanations", fitted.backend.name)
    said = [f"license: {json.dumps(licence)}"] if licence else []
    return ["---", f"library_name: {_OWN}", *said, "tags:", *(f"- {json.dumps(tag)}" for tag in tags), "---", ""]


def _loading(fitted: Fitted, name: HubName) -> list[str]:
    """Return how it is loaded, in lines that run where `classifier` and `inputs` are."""
    needed = " ".join(["'xlens[hub]'", *_distributions(fitted)])
    codec = ", codec=autoencoder" if _own_codec(fitted) else ""
    return [
        "## How to load it",
        "",
        f"    pip install {needed}",
        "",
        "```python",
        "import xlens",
        "",
        "# classifier: the trained torch.nn.Module that it was fitted around; one with other weights is refused",
        *(["# autoencoder: the one that it was fitted behind, which is not saved with it"] if codec else []),
        f'explainer = xlens.load("{name}", classifier{codec})',
        f"# inputs: (N, {', '.join(map(str, fitted.spec.shape))}), in the classifier's own normalisation",
        "explanation = explainer.explain(inputs)",
        "print(explanation.trustworthy, explanation.problems)",
        "```",
        "",
        "Loading runs nothing from this repository: two files are read, safetensors and JSON, and checked.",
        "",
    ]


def _facts(fitted: Fitted) -> Iterator[tuple[str, str]]:
    classifier, spec = fitted.classifier, fitted.spec
    yield "backend", f"{_code(fitted.backend.name)}, {_brought_by(fitted)}"
    yield "its options", _code(json.dumps(to_dict(fitted.backend), default=str))
    layer = f", hidden layer {_code(classifier.layer)}" if classifier.layer else ""
    yield "classifier", _word(_model_of(fitted)) + layer
    yield "fingerprint of the classifier", _code(fitted.bound.fingerprint)
    yield "its outputs", _word(classifier.outputs)
    yield "shape of one input", _code(str(tuple(spec.shape)))
    yield "values of the inputs", f"{min(spec.minimum):.4g} to {max(spec.maximum):.4g}"
    names = fitted.class_names
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    yield f"{len(names)} classes", _word(", ".join(names[:_NAMED])) + more
    for key in ("seed", "supervision", "passes", "codec", "surrogate", "decoder"):
        if key in fitted.provenance:
            yield f"fit: {key}", _code(json.dumps(fitted.provenance[key], default=str))
    yield "mask", "fitted" if fitted.mask is not None else "none"
    yield "xlens", sys.modules["xlens"].__version__


def _judged(explanation: Explanation | None) -> list[str]:
    """Return how many explanations hold, verdict by verdict, and the figures of fidelity."""
    if explanation is None or not len(explanation):
        return [
            "Nobody said: it was published without explanations to judge it by. Judge it on inputs of your own."
        ]
    n = len(explanation)
    held = int(explanation.trustworthy.sum())
    rows = []
    for verdict, found in explanation.verdicts.items():
        said = _VERDICTS.get(verdict, _word(verdict))
        rows.append(f"| {said} | {'does not apply' if found is None else f'{int(found.sum())} of {n}'} |")
    return [
        f"Of {n} explanations that it was judged by, {held} hold in every verdict that applies.",
        "",
        "| verdict | holds in |",
        "|---|---|",
        *rows,
        "",
        explanation.fidelity.to_markdown(),
    ]


def _model_of(fitted: Fitted) -> str:
    return type(fitted.classifier.model).__name__


def _own_codec(fitted: Fitted) -> bool:
    lens = fitted.lens
    return isinstance(lens, StagedLens) and bool(lens.stage.facts().get("own"))


def _sources(fitted: Fitted) -> tuple[tuple[str, str], ...]:
    entry = entries().get(fitted.backend.name)
    return () if entry is None else entry.sources


def _brought_by(fitted: Fitted) -> str:
    return " and ".join(f"of {_word(dist)} {version}" for dist, version in _sources(fitted)) or "not registered"


def _distributions(fitted: Fitted) -> list[str]:
    """Return the third parties' distributions that it takes to load it."""
    return [dist for dist, _ in _sources(fitted) if dist != _OWN]


def _word(text: str) -> str:
    """Return text in one line that means nothing to Markdown or HTML."""
    return _SIGNS.sub(r"\\\g<0>", " ".join(text.split()))


def _code(text: str) -> str:
    """Return text in one line as code, in a table too."""
    return "`" + " ".join(text.split()).replace("`", "'").replace("|", r"\|") + "`"
