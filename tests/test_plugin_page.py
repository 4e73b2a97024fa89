"""docs/authors: every block runs, in an empty folder, in the order of the pages; nothing on them is out of date."""

import dataclasses
import os
import re
import shlex
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from forking import Forking
from ours import OURS
from plugin_page import contract_text, listings, write

from xlens.registry.loading import load_backend

FOLDER = Path(__file__).parents[1] / "docs" / "authors"
#: In the order in which an author meets them; what a page makes is there on the next.
PAGES = {name: (FOLDER / f"{name}.md").read_text() for name in ("lens", "training", "more", "publish", "contract")}
#: The name of the file that a block goes into, if one stands before it; its language; its code.
BLOCKS = [
    block
    for page in PAGES.values()
    for block in re.findall(r"(?:^`([\w.]+)`:\n\n)?^```(\w+)\n(.*?)^```", page, re.S | re.M)
]


#: The mask is fitted in few steps: what is tested is that every line runs, not that edits are local.
SHORT_MASK = """
import functools, xlens
xlens.fit = functools.partial(xlens.fit, mask=xlens.MaskOptions(steps=3, batch_size=16, pool=64))
"""

#: What takes seconds to import, and is not xlens's.
IMPORTS = """
import sys
import matplotlib.pyplot, sklearn.datasets, sklearn.linear_model, torch, torch._dynamo
assert "xlens" not in sys.modules
"""


def section(page: str, title: str) -> str:
    return PAGES[page].split(f"\n## {title}\n")[1].split("\n## ")[0]


@pytest.mark.parametrize(("name", "text"), listings().items())
def test_the_pages_say_what_the_code_says(name, text):
    (written,) = re.findall(r"```text\n(.*?)\n```", (FOLDER / name).read_text(), re.S)
    assert written == text, f"docs/authors/{name} is out of date: mend it, and run python tests/plugin_page.py"


def test_both_lists_are_written_anew(tmp_path):
    for name in listings():
        old = re.sub(r"```text\n.*?\n```", "```text\nold\n```", (FOLDER / name).read_text(), flags=re.S)
        (tmp_path / name).write_text(old)
    write(tmp_path)
    assert all((tmp_path / name).read_text() == (FOLDER / name).read_text() for name in listings())


def test_the_pages_are_all_there_and_none_is_long():
    assert {path.stem for path in FOLDER.glob("*.md")} == set(PAGES)
    assert max(text.count("\n") for text in PAGES.values()) <= 350


@pytest.mark.parametrize(
    "change",
    [
        lambda patch: patch.setattr("xlens.hookspecs.xlens_backend", _another_hook),
        lambda patch: patch.setattr("xlens.contracts.Lens.encode", _another_hook),
        lambda patch: patch.setattr("plugin_page.CONTRACT_VERSION", 2),
        lambda patch: patch.setitem(__import__("xlens").contracts.CAPABILITIES, "fly", None),
        lambda patch: patch.setattr("xlens.contracts.Spec.span", _another_hook),
        lambda patch: patch.setattr("xlens.contracts.Explainer.sample", _another_hook),
        lambda patch: patch.setattr("xlens.training.survey", _another_hook),
        lambda patch: patch.setattr("plugin_page.param", _another_hook),
        lambda patch: patch.setattr("xlens.errors.XlensError.__init__", _another_hook),
        lambda patch: patch.setattr("xlens.contracts.Run.progress", False),
        lambda patch: patch.setattr("xlens.contracts.Feature.class_index", 0),
    ],
    ids=[
        "hookspec",
        "method",
        "version",
        "capability",
        "method of Spec",
        "method of Explainer",
        "training",
        "param",
        "errors",
        "default of Run",
        "default of Feature",
    ],
)
def test_a_change_of_the_contract_is_noticed(monkeypatch, change):
    before = contract_text()
    change(monkeypatch)
    assert contract_text() != before


def _another_hook(self, model: int) -> None: ...


_another_hook.__module__ = "xlens.contracts"
_another_hook.xlens_spec = {}


def tables(title: str) -> list[list[list[str]]]:
    """Return each table of a section: rows of cells, and of each cell the names in it."""
    found = re.findall(r"(?:^\|.*\n)+", section("publish", title), re.M)
    return [
        [
            [re.findall(r"`([^`]+)`", cell) for cell in row.strip("|").split("|")]
            for row in table.strip().split("\n")[2:]
        ]
        for table in found
    ]


def test_the_names_of_options_are_those_of_the_backends():
    named, renamed = tables("Names of options")
    having = {
        name: {f.name: f.metadata.get("formerly") for f in dataclasses.fields(load_backend(name))} for name in OURS
    }
    for (option,), _, backends in named:
        assert sorted(backends) == sorted(name for name, options in having.items() if option in options), option
    said = {
        (backend, old.split("=")[0], new.split("=")[0])
        for (backend,), before, now in renamed
        for old, new in zip(before, now, strict=True)
    }
    assert said == {(b, old, new) for b, options in having.items() for new, old in options.items() if old}


def test_the_first_lens_is_short():
    (code,) = [code for name, _, code in BLOCKS if name == "xlens_pca.py"]
    statements = [line for line in code.splitlines() if line.strip()]
    assert len(statements) <= 45
    # Without the imports, the docstring and the hook, which every plugin has.
    assert len(code[code.index("class PCALens") : code.index("@xlens.hookimpl")].split("\n")) <= 50


def test_every_block_is_run():
    assert {language for _, language, _ in BLOCKS} == {"python", "toml", "sh", "text"}
    assert sum(page.count("```") for page in PAGES.values()) == 2 * len(BLOCKS)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """An empty folder, and an environment in which xlens is installed and nothing else will be changed."""
    root = tmp_path_factory.mktemp("plugin")
    environment, folder = root / "venv", root / "xlens-pca"
    folder.mkdir()
    venv.create(environment, with_pip=False)
    (site,) = environment.glob("lib/python*/site-packages")
    ours = sysconfig.get_paths()["purelib"]
    (site / "everything_else.pth").write_text(f"import site; site.addsitedir({ours!r})\n")
    python = environment / "bin" / "python"
    script = environment / "bin" / "pip"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m pip --python {python} "$@"\n')
    script.chmod(0o755)
    # What builds it is among what the tests need, so that building takes no network.
    variables = {
        **os.environ,
        "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
        "PIP_NO_BUILD_ISOLATION": "0",
        "PIP_NO_INDEX": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
    }
    return folder, python, site, variables


@pytest.fixture(scope="module")
def run(place):
    """Run a block of Python, or lines of a shell, in the folder and return what is shown."""
    folder, python, site, variables = place
    # The two commands that are Python's own programs.
    programs = {"pytest": ["pytest", "-p", "no:cacheprovider"], "xlens": ["xlens.cli"]}
    shown = folder.parent / "shown"
    shown.mkdir()

    def run(language, code):
        program = programs.get(code.split()[0]) if language == "sh" else None
        if language == "sh" and program is None:
            # Dependencies are resolved when it is installed first.
            more = {"PIP_NO_DEPS": "1"} if list(site.glob("xlens_pca*.dist-info")) else {}
            given = {"cwd": folder, "env": {**variables, **more}, "capture_output": True}
            done = subprocess.run(["sh", "-e", "-c", code], **given)
        elif program is not None:
            arguments = [*program[1:], *shlex.split(code)[1:]]
            done = forking.run(cwd=folder, sites=(str(site),), module=program[0], arguments=arguments)
        else:
            done = forking.run(cwd=folder, sites=(str(site),), code=SHORT_MASK + code)
        said = (done.stdout + done.stderr).decode()
        assert done.returncode == 0, f"{code}\n{said}"
        return said

    with Forking(str(python), IMPORTS, shown, cwd=folder, env=variables) as forking:
        yield run


def test_the_pages_run_from_an_empty_folder(place, run):
    folder, shown = place[0], []
    for name, language, code in BLOCKS:
        if name:
            (folder / name).write_text(code)
        elif language != "text":
            # The two programs' lines by themselves.
            parts = re.split(r"(?m)^((?:pytest|xlens) .*\n)", code) if language == "sh" else [code]
            shown += [run(language, part) for part in parts if part]
    everything = "\n".join(shown)
    assert re.search(r"^pca +xlens-pca +0\.1\.0 +Principal components, moved", everything, re.M)
    assert "Explainer(pca, " in everything
    assert re.search(r"\d+ passed, \d+ skipped, 2 xfailed", everything)
    assert "manners.resumes_where_it_stopped passed" in everything
    assert (folder / "why.png").stat().st_size > 10_000
    (wheel,) = (folder / "dist").glob("xlens_pca-0.1.0-*.whl")
    assert "xlens_pca.py" in zipfile.ZipFile(wheel).namelist()
