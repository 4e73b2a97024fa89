"""Type-checks the Python blocks of README.md and docs/: ``python tests/typing/documents.py``.

Each page is one module, whose lines are the page's own, so that an error names the line of the page. A page that
names files, as in "`mine.py`:" above a block, is several: each of its blocks is one and stands on its own, and one
with a name can be imported.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from mypy import api

ROOT = Path(__file__).parents[2]

#: What pages take for granted, as their words say it; a page may give these names another value.
ASSUMED = '''"""Names that the pages assume."""

import torch as torch
import xlens as xlens

model: torch.nn.Module
images: torch.Tensor
labels: torch.Tensor
explainer: xlens.LensExplainer
explanation: xlens.Explanation
'''

#: Names of one page alone.
OWN: dict[str, str] = {
    "docs/guide/invariances.md": "found: xlens.Invariances\n",
    "docs/metrics.md": "from xlens.metrics import mean_embedding_test as mean_embedding_test\n"
    "from xlens.metrics import reconstruction_attack as reconstruction_attack\n"
    "images_of_another_class: torch.Tensor\n",
}

#: A page gives one name several values, as a notebook does, and its functions need no annotations; those without
#: any are not looked into. Said in each module, and not to mypy, so that what is cached of torch serves every run.
MANNERS = "# mypy: allow-redefinition, allow-untyped-defs, allow-incomplete-defs, no-check-untyped-defs"


def pages() -> list[Path]:
    """Return every document that may hold code."""
    written = ((ROOT / "docs" / "api"), (ROOT / "docs" / "run"))
    found = sorted((ROOT / "docs").rglob("*.md"))
    return [ROOT / "README.md", *(path for path in found if not any(map(path.is_relative_to, written)))]


def modules_of(page: str, name: str, assumed: str = "assumed") -> dict[str, str]:
    """Return the page's Python blocks as modules with the page's line numbers; all of them, or one each."""
    lines = page.splitlines()
    blocks: list[tuple[str | None, int, list[str]]] = []
    inside = False
    for number, line in enumerate(lines):
        if line.startswith("```"):
            inside = line.startswith("```python")
            if inside:
                named = re.fullmatch(r"`(\w+)\.py`:", next((x for x in reversed(lines[:number]) if x), ""))
                blocks.append((named[1] if named else None, number + 1, []))
        elif inside:
            blocks[-1][2].append(line)
    if any(own for own, _, _ in blocks):
        head = [MANNERS]
        return {own or f"{name}_{at}": _module(head, [(at, code)]) for own, at, code in blocks}
    head = [MANNERS, f"from {assumed} import *"]
    return {name: _module(head, [(at, code) for _, at, code in blocks])} if blocks else {}


def _module(head: list[str], blocks: list[tuple[int, list[str]]]) -> str:
    """Return a module of blocks of a page that begin after line `at`; no page begins with code."""
    lines = [*head, *[""] * (blocks[0][0] - len(head))]
    for at, code in blocks:
        lines += [*[""] * (at - len(lines)), *code]
    return "\n".join([*lines, ""])


def judge(modules: Mapping[str, str]) -> tuple[list[str], str]:
    """Type-check modules by the project's own settings, all in one run.

    Args:
        modules: name of a module -> its source.

    Returns:
        the lines ``NAME:LINE: error: ...``, and all that mypy said.
    """
    with tempfile.TemporaryDirectory() as folder:
        for name, source in modules.items():
            (Path(folder) / f"{name}.py").write_text(source, encoding="utf-8")
        files = [str(Path(folder) / f"{name}.py") for name in modules]
        settings = ["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(ROOT / ".mypy_cache")]
        said, broken, _ = api.run([*settings, "--no-error-summary", "--hide-error-context", *files])
    found = re.findall(r"^.*?(\w+)\.py:(\d+): (error: .*)$", said, re.M)
    return [f"{name}:{line}: {fault}" for name, line, fault in found], said + broken


def judge_pages() -> list[str]:
    """Return what is wrong with the code of the pages, by page and line."""
    modules, page_of = {"assumed": ASSUMED}, dict[str, str]()
    for page in pages():
        relative = page.relative_to(ROOT).as_posix()
        name = re.sub(r"\W", "_", relative)
        assumed = "assumed"
        if relative in OWN:
            assumed = f"assumed_{name}"
            modules[assumed] = ASSUMED + OWN[relative]
        found = modules_of(page.read_text(encoding="utf-8"), name, assumed)
        modules |= found
        page_of |= dict.fromkeys(found, relative)
    faults, said = judge(modules)
    if not faults and "error" in said:
        return said.splitlines()
    return [re.sub(r"^\w+", lambda name: page_of.get(name[0], name[0]), fault) for fault in faults]


if __name__ == "__main__":
    wrong = judge_pages()
    print("\n".join(wrong) or f"The code of {len(pages())} pages is right.")
    sys.exit(bool(wrong))
