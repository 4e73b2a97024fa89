"""Pages whose Python is run while the site is built: what it prints and draws stands under it."""

from __future__ import annotations

import ast
import contextlib
import fnmatch
import io
import json
import multiprocessing
import os
import re
import shutil
import sys
import tempfile
import traceback
import types
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sphinx.util import logging

if TYPE_CHECKING:
    from sphinx.application import Sphinx

__all__ = ["Output", "agrees", "blocks_of", "remembered", "run_page", "setup", "with_outputs"]

logger = logging.getLogger(__name__)
_BLOCK = re.compile(r"^```python\n(.*?)^```\n", re.S | re.M)


@dataclass
class Output:
    """What a block gave: text, pictures beside the page, pages of HTML that it wrote."""

    text: str
    pictures: list[str]
    reports: list[str]


def blocks_of(page: str) -> list[str]:
    """Return the Python blocks of a page."""
    return [match[1] for match in _BLOCK.finditer(page)]


def run_page(name: str, page: str, folder: Path) -> list[Output]:
    """Run the Python blocks of a page one after another, in an empty folder.

    Args:
        name: of the page, for its pictures and for errors.
        page: its Markdown.
        folder: takes pictures, and in ``pages`` the HTML that the blocks wrote.

    Returns:
        what each block gave.

    Raises:
        RuntimeError: a block raised; says which, and what.
    """
    slug, found, before = name.replace("/", "-"), list[Output](), Path.cwd()
    # Classes look their module up by its name.
    module = sys.modules["page"] = types.ModuleType("page")
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        try:
            for number, block in enumerate(blocks_of(page)):
                found.append(_run(f"{slug}-{number}", block, vars(module), folder))
        except Exception as fault:
            raise RuntimeError(f"{name}: block {len(found) + 1}: {traceback.format_exc()}") from fault
        finally:
            os.chdir(before)
    return found


def remembered(name: str, page: str, folder: Path) -> list[Output]:
    """Run a page as :func:`run_page` does, unless its code is what it was when it was run last."""
    file, code = folder / f"{name.replace('/', '-')}.json", blocks_of(page)
    if file.is_file() and (kept := json.loads(file.read_text(encoding="utf-8")))["code"] == code:
        return [Output(**output) for output in kept["outputs"]]
    outputs = run_page(name, page, folder)
    file.write_text(json.dumps({"code": code, "outputs": [vars(output) for output in outputs]}), encoding="utf-8")
    return outputs


def _run(slug: str, block: str, names: dict[str, Any], folder: Path) -> Output:
    """Run one block; its last expression is shown as a notebook does."""
    tree = ast.parse(block)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    out = io.StringIO()
    value = None
    with warnings.catch_warnings(record=True) as said, contextlib.redirect_stdout(out):
        warnings.simplefilter("default")
        # Between matplotlib, NumPy and torch, and nothing that a reader could do anything about.
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
        exec(compile(tree, slug, "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), slug, "eval"), names)
        pictures = list(_drawn(value, slug, folder))
        if value is not None and not pictures:
            print(value if hasattr(value, "to_markdown") else repr(value))
    texts = [f"{warning.category.__name__}: {warning.message}" for warning in said]
    reports = []
    for path in sorted(Path().glob("*.html")):
        target = folder / "pages" / f"{slug}-{path.name}"
        shutil.move(path, target)
        reports.append(target.name)
    return Output("\n".join([*texts, out.getvalue().rstrip()]).strip("\n"), pictures, reports)


def _drawn(value: Any, slug: str, folder: Path) -> Iterator[str]:
    from matplotlib.figure import Figure

    figures = value if isinstance(value, list) else [value]
    for number, figure in enumerate(figures):
        if isinstance(figure, Figure):
            path = folder / f"{slug}-{number}.png"
            figure.savefig(path, dpi=80, bbox_inches="tight", facecolor="white")
            yield path.name


def with_outputs(page: str, outputs: list[Output], to_root: str) -> str:
    """Return a page's Markdown with what each block gave under it."""
    left = iter(outputs)

    def shown(match: re.Match[str]) -> str:
        output, parts = next(left), [match[0]]
        if output.text:
            parts.append(f"```{{code-block}} text\n:class: output\n\n{output.text}\n```\n")
        parts += [f"![What the code above draws]({to_root}run/{name})\n" for name in output.pictures]
        parts += [
            f'<p><a href="{to_root}{name}">Open the page that this wrote</a></p>\n' for name in output.reports
        ]
        return "\n".join(parts)

    return _BLOCK.sub(shown, page)


def agrees(page: str, printed: str) -> bool:
    """Return whether the first output on a page is what was printed, but for numbers, which differ by machine."""
    (shown, *_) = re.findall(r"^```text\n(.*?)\n```$", page, re.S | re.M)
    lines = [line for line in printed.splitlines() if not line.startswith("UntrustworthyWarning:")]
    return re.sub(r"[\d.]+", "0", shown) == re.sub(r"[\d.]+", "0", "\n".join(lines))


def _started() -> None:
    """Set a worker up: one thread, no bars."""
    import torch

    torch.set_num_threads(1)
    os.environ["TQDM_DISABLE"] = "1"


def _run_all(app: Sphinx) -> None:
    """Run what has changed since the last build, on as many processes as there are cores."""
    source, folder = Path(app.srcdir), Path(app.srcdir) / "run"
    (folder / "pages").mkdir(parents=True, exist_ok=True)
    found: dict[str, list[Output]] = {}
    if app.config.execute_pages:
        every = sorted(path.relative_to(source).with_suffix("").as_posix() for path in source.rglob("*.md"))
        names = [name for name in every if any(fnmatch.fnmatch(name, x) for x in app.config.executed_pages)]
        texts = {name: (source / f"{name}.md").read_text(encoding="utf-8") for name in names}
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(2, os.cpu_count() or 1), context, _started) as pool:
            futures = {name: pool.submit(remembered, name, text, folder) for name, text in texts.items()}
            found = {name: future.result() for name, future in futures.items()}
        readme = (source.parent / "README.md").read_text(encoding="utf-8")
        if not agrees(readme, found["start"][0].text):
            logger.warning("README.md shows another output than its lines have; docs/start.md has them too")
    app.xlens_outputs = found  # type: ignore[attr-defined]


def _read(app: Sphinx, name: str, content: list[str]) -> None:
    outputs = app.xlens_outputs.get(name)  # type: ignore[attr-defined]
    if outputs:
        content[0] = with_outputs(content[0], outputs, "../" * name.count("/"))


def setup(app: Sphinx) -> dict[str, bool]:
    """Run the pages before they are read."""
    app.add_config_value("executed_pages", [], "env", list)
    app.add_config_value("execute_pages", True, "env", bool)
    app.connect("builder-inited", _run_all)
    app.connect("source-read", _read)
    return {"parallel_read_safe": False}
