"""Writes ``overloads.pyi``: ``xlens.fit`` and ``xlens.explain`` as type checkers see them, with backends' options.

``python -m xlens.fitting.write_overloads`` brings it up to date with the backends that ship with xlens.
"""

from __future__ import annotations

import ast
import dataclasses
import json
import textwrap
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xlens.contracts.backend import Backend
from xlens.registry.installed import entries
from xlens.registry.loading import load_backend

__all__ = ["PLACE", "overloads"]

#: Where the overloads lie.
PLACE = Path(__file__).with_name("overloads.pyi")
#: The functions that take a backend and its options: where each is written, and what type its overloads return.
_FUNCTIONS = {"fit": ("api.py", "LensExplainer"), "explain": ("at_once.py", "Explanation")}

#: The distribution whose backends have overloads; another's are objects to a type checker, or any name.
_OWN = "xlens"

_HEAD = '''"""``xlens.fit`` and ``xlens.explain`` for type checkers, with the options of xlens's own backends.

Written by ``python -m xlens.fitting.write_overloads``; a test compares. Another distribution's backend is checked
where it is passed as an object, ``Mine(rank=3)``; by its name it takes any options.
"""
'''

_NO_SUCH_OPTION = '''class NoSuchOption:
    """What a call comes to whose backend has no such option, or whose option takes another type: an error.

    ``xlens fit --help`` and an editor list what there is.
    """
'''

#: Stands among the names of a module that is imported as a whole.
_WHOLE = ""
_ADVICE = "this backend has no such option, or it takes a value of another type"


def overloads() -> str:
    """Return the text of the stub.

    >>> from xlens.fitting.write_overloads import PLACE, overloads
    >>> PLACE.read_text(encoding="utf-8") == overloads()
    True
    """
    signatures = [_signature(name, place, returned) for name, (place, returned) in _FUNCTIONS.items()]
    own = {
        name: load_backend(name)
        for name, entry in entries().items()
        if any(distribution == _OWN for distribution, _ in entry.sources)
    }
    imports = {
        "typing": {"Any", "Literal", "TypedDict", "overload"},
        "typing_extensions": {"Unpack", "deprecated"},
    }
    for signature in signatures:
        for module, names in signature.imports.items():
            imports.setdefault(module, set()).update(names)
    calls = [call for signature in signatures for call in signature.overloads(own)]
    parts = [
        _HEAD,
        _import_lines(imports),
        *(_options(kind) for kind in own.values()),
        _NO_SUCH_OPTION,
    ]
    return "\n".join([*parts, "".join(calls)])


@dataclasses.dataclass(frozen=True)
class _Signature:
    """The arguments of a function that takes a backend, as they are written, without it and its options.

    Args:
        name, returned: of the function.
        before, after: the arguments before and after the backend; a lone ``*`` is among them.
        imports: what they need: module -> names.
    """

    name: str
    returned: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    imports: dict[str, set[str]]

    def overloads(self, own: Mapping[str, type[Backend]]) -> list[str]:
        """Return the overloads: one for each of our backends' names, for a misspelt option, and for all others."""
        named = ", ".join(_quoted(name) for name in own)
        return [
            *(
                self._overload(f"Literal[{_quoted(name)}]", f"Unpack[{kind.__name__}Options]")
                for name, kind in own.items()
            ),
            # A call with a fault would else be taken for one with a name that is not known here.
            self._overload(f"Literal[{named}]", "Any", "NoSuchOption", f"@deprecated({_quoted(_ADVICE)})"),
            self._overload("Backend", None),
            self._overload("None = None", None),
            self._overload("str", "Any"),
        ]

    def _overload(self, backend: str, options: str | None, returned: str = "", decorator: str = "") -> str:
        lines = [*self.before, f"backend: {backend}", *self.after]
        lines += [] if options is None else [f"**options: {options}"]
        head = ["@overload", *([decorator] if decorator else []), f"def {self.name}("]
        return "\n".join([*head, *(f"    {line}," for line in lines), f") -> {returned or self.returned}: ...\n"])


def _signature(name: str, place: str, returned: str) -> _Signature:
    source = (Path(__file__).parents[1] / place).read_text(encoding="utf-8")
    tree = ast.parse(source)
    (function,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name)

    def written(node: ast.AST | None) -> str:
        return ast.get_source_segment(source, node) or "" if node is not None else ""

    plain = [f"{one.arg}: {written(one.annotation)}" for one in function.args.args]
    keywords = [
        f"{one.arg}: {written(one.annotation)} = {written(default)}"
        for one, default in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True)
    ]
    lines = [*plain, "*", *keywords]
    (at,) = (number for number, line in enumerate(lines) if line.startswith("backend:"))
    annotations = [one.annotation for one in (*function.args.args, *function.args.kwonlyargs)]
    used = {
        node.id for one in annotations if one is not None for node in ast.walk(one) if isinstance(node, ast.Name)
    }
    used.add(str(written(function.returns)).partition("[")[0])
    imports: dict[str, set[str]] = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module != "__future__":
            names = {alias.name for alias in node.names} & used
            if names:
                imports.setdefault(str(node.module), set()).update(names)
        elif isinstance(node, ast.Import) and {alias.name for alias in node.names} & used:
            for alias in node.names:
                if alias.name in used:
                    imports.setdefault(alias.name, set()).add(_WHOLE)
    return _Signature(name, returned, tuple(lines[:at]), tuple(lines[at + 1 :]), imports)


def _options(kind: type[Backend]) -> str:
    """Return the options of a backend as a TypedDict, each with its help and default."""
    hints = typing.get_type_hints(kind)
    lines = [
        f"class {kind.__name__}Options(TypedDict, total=False):",
        f'    """Options of ``{kind.name}``; a docstring beside each says what it is, and its default."""',
        "",
    ]
    for option in dataclasses.fields(kind):
        constraint = option.metadata.get("constraint")
        choices = () if constraint is None else constraint.choices or ()
        listed = choices and all(isinstance(choice, str) for choice in choices)
        hint = f"Literal[{', '.join(map(_quoted, choices))}]" if listed else _written(hints[option.name])
        lines += [f"    {option.name}: {hint}"]
        said = f"{option.metadata.get('help', '')} [{option.default!r}]"
        if len(said) <= 100:
            lines += [f'    """{said}"""']
        else:
            folded = textwrap.wrap(said, 100)
            lines += [f'    """{folded[0]}', *(f"    {line}" for line in folded[1:]), '    """']
    return "\n".join([*lines, ""])


def _written(hint: Any) -> str:
    """Return a type as it is written in a stub."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " | ".join(map(_written, parts))
    if origin is typing.Literal:
        return f"Literal[{', '.join(map(_quoted, parts))}]"
    if origin is not None:
        return f"{origin.__name__}[{', '.join(map(_written, parts))}]"
    if hint is Ellipsis:
        return "..."
    return "None" if hint is type(None) else "Any" if hint is Any else str(hint.__name__)


def _quoted(value: Any) -> str:
    return json.dumps(value) if isinstance(value, str) else repr(value)


def _import_lines(imports: dict[str, set[str]]) -> str:
    """Return import statements in the order that the linter wants."""
    ours = ("torch", _OWN)

    def section(module: str) -> int:
        top = module.partition(".")[0]
        return (
            2 if top == ours[1] else 1 if top in (ours[0], "typing_extensions") or top.startswith("xlens_") else 0
        )

    lines = []
    for place in range(3):
        modules = sorted(module for module in imports if section(module) == place)
        plain = [f"import {module}" for module in modules if _WHOLE in imports[module]]
        named = {module: sorted(imports[module] - {_WHOLE}, key=_case) for module in modules}
        froms = [f"from {module} import {', '.join(names)}" for module, names in named.items() if names]
        lines += ["\n".join([*plain, *froms]) + "\n"]
    return "\n".join(lines)


def _case(name: str) -> tuple[int, str]:
    """Return the order of names in an import: constants, classes, and then the rest."""
    return (0 if name.isupper() and len(name) > 1 else 1 if name[0].isupper() else 2), name


if __name__ == "__main__":
    PLACE.write_text(overloads(), encoding="utf-8")
