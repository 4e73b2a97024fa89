"""Imports of the package, read from its sources, against the plan of the house.

``python tests/arrows.py MODULE`` prints what a module may see and what sees it.
"""

from __future__ import annotations

import ast
import functools
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from house import BY_NAME, ROOMS, SUGAR

ROOT = Path(__file__).parents[1]

#: What a relative import counts as.
RELATIVE = "a relative import"


def files(root: Path = ROOT) -> dict[str, Path]:
    """Return the files of the package by their dotted names without ``xlens.``; packages end in ``__init__``."""
    package = root / "xlens"
    return {
        ".".join(path.relative_to(package).with_suffix("").parts): path
        for path in sorted(package.rglob("*.py"))
        if "moved" not in path.relative_to(package).parts
    }


def seen(source: str, known: Mapping[str, object]) -> set[str]:
    """Return which of the known files a source imports: inside functions, for type checkers and by a string too."""
    return set(_seen(source, frozenset(known)))


# A test plants a line in one file of all: the others were read before.
@functools.cache
def _seen(source: str, known: frozenset[str]) -> frozenset[str]:
    tree = ast.parse(source)
    found = named(tree, known)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(name for alias in node.names if (name := _file(alias.name, known)))
        elif isinstance(node, ast.ImportFrom) and node.level:
            # Nobody's place: a relative import is wrong wherever it stands.
            found.add(RELATIVE)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "xlens":
            for alias in node.names:
                inner = _file(f"{node.module}.{alias.name}", known)
                whole = _file(str(node.module), known)
                found.update(name for name in (inner or whole,) if name)
    return frozenset(found)


def named(tree: ast.AST, known: frozenset[str]) -> set[str]:
    """Return which of the known files are named by strings, as tables of what is imported later name them.

    A string that is a path of a module counts, with ``:name`` behind it or not. Where a call of ``import_module``
    puts a path together, so does what makes one with its beginning.
    """
    beginnings = {""}
    strings: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            parts = [str(part.value) for part in ast.walk(node) if isinstance(part, ast.Constant)]
            beginnings |= {part for part in parts if re.fullmatch(r"xlens\.(\w+\.)*", part)}
        # A message that begins with a path has more than a name behind it.
        elif isinstance(node, ast.Constant) and (found := re.fullmatch(r"([\w.]+)(:\w+)?", str(node.value))):
            strings.append(found[1])
    paths = {beginning + string for beginning in beginnings for string in strings}
    # The bare name of the package is a word of messages.
    return {name for path in paths if "." in path and (name := _file(path, known))}


def _file(dotted: str, known: frozenset[str]) -> str | None:
    parts = dotted.split(".")
    if parts[0] != "xlens":
        return None
    inner = ".".join(parts[1:])
    if inner in known:
        return inner
    package = f"{inner}.__init__".strip(".")
    return package if package in known else None


def room_of(name: str) -> str:
    """Return the room of a file: its folder, or itself at the root."""
    return name.split(".")[0]


def arrows(sources: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield every import between two files."""
    for name, source in sources.items():
        for other in sorted(seen(source, sources)):
            if other != name:
                yield name, other


def place(name: str) -> tuple[int, int]:
    """Return where a file stands: its room's place, and its own in the room.

    Raises:
        KeyError: it has none.
    """
    if name == RELATIVE:
        return len(ROOMS), 0
    room = room_of(name)
    order = list(ROOMS)
    inside = ROOMS[room]
    own = name.split(".", 1)[1] if "." in name else ""
    # What a folder exports stands above its files.
    if own == "__init__":
        return order.index(room), len(inside)
    return order.index(room), inside.index(own) if own else 0


def upward(sources: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the imports that go up, or within a room against its order, and stand in no list."""
    found = []
    for name, other in arrows(sources):
        allowed = _allowed(name)
        if place(other) >= place(name) and other not in allowed and "*" not in allowed:
            found.append((name, other))
    return found


def _allowed(name: str) -> tuple[str, ...]:
    return SUGAR.get(name, ()) + BY_NAME.get(name, ())


def circles(sources: Mapping[str, str]) -> list[set[str]]:
    """Return the circles of files, without what the lists allow, the largest first."""
    graph: dict[str, set[str]] = {name: set() for name in sources}
    for name, other in arrows(sources):
        if other not in _allowed(name) and "*" not in _allowed(name) and other in graph:
            graph[name].add(other)
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[set[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in graph[name]:
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            circle: set[str] = set()
            while name not in circle:
                circle.add(stack.pop())
            if len(circle) > 1:
                found.append(circle)

    for name in graph:
        if name not in index:
            visit(name)
    return sorted(found, key=len, reverse=True)


def walk(name: str, sources: Mapping[str, str]) -> str:
    """Return, in lines, what a file may see and what sees it."""
    above = sorted({one for one, other in arrows(sources) if other == name}, key=place)
    below = sorted({other for one, other in arrows(sources) if one == name}, key=place)
    lines = [f"{name} stands in room {place(name)[0] + 1} of {len(ROOMS)}"]
    lines += [f"  sees      {other}" for other in below]
    lines += [f"  is seen by {other}" for other in above]
    return "\n".join(lines)


def read(root: Path = ROOT) -> dict[str, str]:
    """Return the source of every file."""
    return {name: path.read_text(encoding="utf-8") for name, path in files(root).items()}


if __name__ == "__main__":
    everything = read()
    for asked in sys.argv[1:] or everything:
        print(walk(asked.removeprefix("xlens."), everything))
