"""What no file of xlens may say or do: name a backend, assert, pickle, evaluate text."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CORE = sorted((ROOT / "xlens").rglob("*.py"))
PLUGINS = sorted(p for p in (ROOT / "plugins").rglob("*.py") if "tests" not in p.parts and p.name != "conftest.py")
THIRD_PARTY = sorted((ROOT / "examples").glob("*/src/**/*.py"))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@functools.cache
def backend_names() -> set[str]:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {*project["entry-points"]["xlens"], "ilvm", "svae", "dif", "introvac"}


def docstrings(tree: ast.AST) -> set[int]:
    places = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, places) and node.body and isinstance(node.body[0], ast.Expr)
    }


def named_backends(source: str) -> set[str]:
    tree = ast.parse(source)
    skipped = docstrings(tree)
    words: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped:
            words |= set(re.findall(r"[a-z]+", node.value.lower()))
        elif isinstance(node, ast.Name):
            words.add(node.id.lower())
        elif isinstance(node, ast.Attribute):
            words.add(node.attr.lower())
    return words & backend_names()


@pytest.mark.parametrize("path", CORE, ids=name_of)
def test_the_core_names_no_backend(path):
    assert not named_backends(path.read_text())


def test_the_check_of_names_can_fail():
    assert named_backends('if backend.name == "medxgan": pass') == {"medxgan"}
    assert not named_backends('"""Like medxgan."""')


FORBIDDEN_MODULES = {"pickle", "dill", "joblib", "cloudpickle", "shelve", "marshal"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}


def forbidden(source: str) -> list[str]:
    faults = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assert):
            faults.append(f"line {node.lineno}: assert")
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            faults += [f"line {node.lineno}: {n}" for n in names if n.split(".")[0] in FORBIDDEN_MODULES]
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            # Tensors that users have in .pt files are read without unpickling objects.
            tensors_only = any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in node.keywords)
            if called in FORBIDDEN_CALLS | {"torch.save"} or (called == "torch.load" and not tensors_only):
                faults.append(f"line {node.lineno}: {called}")
            pickles = (k for k in node.keywords if k.arg == "allow_pickle" and ast.unparse(k.value) != "False")
            faults += [f"line {node.lineno}: {k.arg}" for k in pickles]
    return faults


@pytest.mark.parametrize("path", [*CORE, *PLUGINS, *THIRD_PARTY], ids=name_of)
def test_no_asserts_no_pickles_no_evaluation(path):
    assert not forbidden(path.read_text())


@pytest.mark.parametrize(
    "source",
    ["assert x", "import pickle", "from joblib import load", "torch.load(p)", "eval(s)",
     "torch.load(p, weights_only=False)", "np.load(p, allow_pickle=True)"],
)  # fmt: skip
def test_the_check_of_forbidden_things_can_fail(source):
    assert forbidden(source)
    assert not forbidden("model.eval()\nre.compile('x')\ntorch.load(p, weights_only=True)")
