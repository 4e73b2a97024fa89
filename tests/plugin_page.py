"""What docs/authors says of the contract and of the checks; ``python tests/plugin_page.py`` writes it there."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path

from xlens import asking, errors, hookspecs, options, param, training
from xlens.classifier.classifier import Classifier
from xlens.contracts import (
    ADDITIONS,
    CAPABILITIES,
    Addition,
    AskedMap,
    EditingLens,
    Feature,
    JudgedMaps,
    Lens,
    LocalEdit,
    check_count,
    seeded,
)
from xlens.contracts.backend import CONTRACT_VERSION, Backend, Run, Spec, StepEvent
from xlens.contracts.explainer import Explainer
from xlens.data import Batch, Data
from xlens.testing.checking import all_checks
from xlens.training import Trainer

#: Those that a plugin has reason to raise; they take what XlensError takes.
_ERRORS = ("OptionError", "DataError", "ModelError", "UnsupportedError", "TrainingError")


def contract_text() -> str:
    """Return every signature that a plugin sees, one a line."""
    lines = [f"contract {CONTRACT_VERSION}", "", "hook"]
    lines += [f"    {line}" for line in _functions(hookspecs, lambda f: hasattr(f, "xlens_spec"))]
    for cls in (Backend, Lens, EditingLens):
        lines += ["", cls.__name__, *_attributes(cls), *(f"    {line}" for line in _functions(cls))]
    for cls in (Data, Classifier, Trainer):
        lines += ["", cls.__name__, *(f"    {line}" for line in _functions(cls))]
    for cls in (Batch, Spec, Feature, LocalEdit, Run, StepEvent):
        lines += ["", cls.__name__, *_attributes(cls), *(f"    {line}" for line in _functions(cls))]
    for cls in (AskedMap, JudgedMaps, Addition, *ADDITIONS.values()):
        lines += ["", cls.__name__, *_attributes(cls), *(f"    {line}" for line in _functions(cls))]
    lines += ["", "Explainer, which Run.over is", *_attributes(Explainer)]
    lines += [f"    {line}" for line in _functions(Explainer)]
    lines += ["", "xlens", *(f"    {_signed(f)}" for f in (param, options, asking))]
    lines += ["", "xlens.contracts", *(f"    {_signed(f)}" for f in (check_count, seeded))]
    lines += ["", "xlens.training"]
    lines += [
        f"    {_signed(value)}" for name in training.__all__ if inspect.isfunction(value := vars(training)[name])
    ]
    lines += ["", "xlens.errors", f"    XlensError{_signature(errors.XlensError.__init__)}"]
    lines += [f"    {name}: {inspect.getdoc(vars(errors)[name])}" for name in _ERRORS]
    lines += ["", "capabilities"]
    for name, protocol in CAPABILITIES.items():
        argument = "fitted on any values" if name == "representations" else "an argument of fit"
        lines.append(f"    {name}" + {None: f"  ({argument})", EditingLens: "  (an EditingLens)"}.get(protocol, ""))
        listed = protocol if protocol is not EditingLens else None
        lines += [f"        {line}" for line in (_functions(listed) if listed else [])]
    return "\n".join(lines)


def checks_text() -> str:
    """Return every check with the first line of its docstring."""
    return "\n".join(f"{check.id}\n    {inspect.getdoc(check.function).splitlines()[0]}" for check in all_checks())


def _attributes(cls: type) -> list[str]:
    annotations = {name: str(hint) for name, hint in cls.__annotations__.items()}
    own = {name: f" = {vars(cls)[name]!r}" if name in vars(cls) else "" for name in annotations}
    return [f"    {name}: {annotations[name]}{own[name]}" for name in annotations]


def _functions(owner: object, wanted=lambda function: True) -> list[str]:
    found = []
    for name, member in vars(owner).items():
        function = member.fget if isinstance(member, property) else member
        own = inspect.isfunction(function) and function.__module__.partition(".")[0] == "xlens"
        # Only a trainer is constructed by plugins; the others they are handed.
        shown = ("__call__", "__len__", "__init__") if owner is Trainer else ("__call__", "__len__")
        hidden = name.startswith("_") and name not in shown
        if not own or hidden or not wanted(function):
            continue
        required = "" if not getattr(member, "__isabstractmethod__", False) else "  (required)"
        if isinstance(member, property):
            found.append(f"{name}: {inspect.signature(function).return_annotation}{required}")
        else:
            found.append(f"{name}{_signature(function)}{required}")
    return found


def _signed(function: Callable[..., object]) -> str:
    return f"{function.__name__}{_signature(function)}"


def _signature(function: Callable[..., object]) -> str:
    signature = inspect.signature(function)
    # Annotations are strings under "from __future__ import annotations"; quotes within them, of literals, stay.
    shown = [
        parameter.replace(annotation=_Shown(parameter.annotation))
        if parameter.annotation is not inspect.Parameter.empty
        else parameter
        for parameter in signature.parameters.values()
    ]
    returned = signature.return_annotation
    returned = returned if returned is inspect.Parameter.empty else _Shown(returned)
    text = str(signature.replace(parameters=shown, return_annotation=returned))
    text = re.sub(r"<function .*? at 0x\w+>", "...", text)
    return re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", text)


class _Shown:
    """An annotation as it is written, without the quotes of a string."""

    def __init__(self, annotation: object) -> None:
        self._text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)

    def __repr__(self) -> str:
        return self._text


def listings() -> dict[str, str]:
    """Return name of a page for authors -> the one list on it that is written by the code."""
    return {"contract.md": contract_text(), "publish.md": checks_text()}


def write(folder: Path) -> None:
    """Bring the lists on both pages up to date; the words around them are yours to mend."""
    for name, own in listings().items():
        before, _, after = (folder / name).read_text().partition("```text\n")
        (folder / name).write_text(f"{before}```text\n{own}\n```" + after[after.index("\n```") + 4 :])


if __name__ == "__main__":
    write(Path(__file__).parents[1] / "docs" / "authors")
