"""The rules of the code base that a reader cannot check by eye."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CORE = sorted((ROOT / "xlens").rglob("*.py"))
PLUGINS = sorted((ROOT / "plugins").rglob("*.py"))
THIRD_PARTY = sorted((ROOT / "examples").glob("*/src/**/*.py"))
# Each only from those before it; names in one tuple form one layer and may use each other.
ORDER = (
    ("errors",), ("explanation", "invariances"), ("capabilities",), ("contracts",), ("params",),
    ("classifier", "_frozen", "_tail"), ("data",), ("datasets",), ("nn",), ("attr",), ("metrics",), ("training",),
    ("hookspecs",), ("registry",), ("status",), ("storage",),
    ("explainer", "_begin", "_bound", "_gather", "_pictures", "_arguments", "_attributions", "_divergence", "_edit",
     "_editor", "_explain", "_explain_layer", "_feature_maps", "_quantus", "_teach", "_variations", "_vary"),
    ("api",), ("evaluation",), ("plot",), ("report",), ("label",),
    ("cli", "demo", "__main__", "integrations"), ("testing",),
)  # fmt: skip
RANK = {name: rank for rank, names in enumerate(ORDER) for name in names}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def module_level_imports(source: str) -> set[str]:
    """Return the xlens modules imported when the module runs, without those for type checkers."""
    found: set[str] = set()

    def visit(body):
        for node in body:
            if isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                prefix = "." * node.level + (node.module or "")
                found.add(prefix)
                found.update(f"{prefix}.{alias.name}" for alias in node.names if prefix == "xlens")
            elif isinstance(node, ast.If):
                if "TYPE_CHECKING" not in ast.unparse(node.test):
                    visit(node.body)
                visit(node.orelse)
            elif isinstance(node, ast.Try):
                visit([*node.body, *node.orelse, *node.finalbody, *(n for h in node.handlers for n in h.body)])
            elif isinstance(node, ast.With | ast.ClassDef | ast.For | ast.While):
                visit(node.body)

    visit(ast.parse(source).body)
    return found


def wrong_imports(module: str, source: str) -> list[str]:
    faults = []
    for target in module_level_imports(source):
        parts = target.split(".")
        if target.startswith("."):
            faults.append(f"{module} imports relatively: {target}")
        elif parts[0] == "xlens" and len(parts) > 1:
            if parts[1] not in RANK:
                if target != "xlens.__version__":
                    faults.append(f"{module} imports {target}, which has no place in the order")
            elif RANK[parts[1]] > RANK[module]:
                faults.append(f"{module} imports {target}, which comes later")
        elif parts[0].startswith("xlens_"):
            faults.append(f"{module} imports the plugin {target}")
    return faults


@pytest.mark.parametrize(
    "path", [p for p in CORE if p.parent != ROOT / "xlens" or p.name != "__init__.py"], ids=name_of
)
def test_imports_go_one_way(path):
    module = path.relative_to(ROOT / "xlens").parts[0].removesuffix(".py")
    assert module in RANK, f"{module} has no place in the order"
    assert not wrong_imports(module, path.read_text())


@pytest.mark.parametrize(
    ("module", "source", "wrong"),
    [
        ("data", "from xlens.training import Trainer", True),
        ("data", "from xlens.errors import DataError", False),
        ("data", "if True:\n    import xlens.api", True),
        ("data", "try:\n    from xlens import storage\nexcept ImportError:\n    pass", True),
        ("data", "if TYPE_CHECKING:\n    from xlens.api import fit", False),
        ("data", "def f():\n    from xlens.api import fit", False),
        ("api", "import xlens_medxgan", True),
        ("api", "from .errors import x", True),
    ],
)
def test_the_check_of_imports_can_fail(module, source, wrong):
    assert bool(wrong_imports(module, source)) == wrong


@pytest.mark.parametrize("path", PLUGINS, ids=name_of)
def test_plugins_import_no_other_plugin_and_nothing_private(path):
    package = path.relative_to(ROOT / "plugins").parts[0]
    for target in module_level_imports(path.read_text()):
        parts = target.split(".")
        assert not (parts[0].startswith("xlens_") and parts[0] != package), target
        assert not (parts[0] == "xlens" and any(part.startswith("_") for part in parts)), target


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
            faults += [f"line {node.lineno}: {k.arg}" for k in node.keywords if k.arg == "allow_pickle"]
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


def test_every_public_name_is_there():
    import xlens

    for name in xlens.__all__:
        assert getattr(xlens, name) is not None
    assert set(dir(xlens)) == set(xlens.__all__)
    with pytest.raises(AttributeError, match="'xlens' has no attribute 'fitt'"):
        _ = xlens.fitt


PROBE = """
import json, sys, time
start = time.perf_counter()
import torch
middle = time.perf_counter()
before = set(sys.modules)
import xlens
end = time.perf_counter()
print(json.dumps([middle - start, end - middle, sorted(set(sys.modules) - before)]))
"""


@pytest.fixture(scope="module")
def fresh_imports():
    def once():
        done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True, cwd=ROOT)
        return json.loads(done.stdout)

    return [once() for _ in range(3)]


def test_importing_xlens_loads_nothing_heavy(fresh_imports):
    loaded = {name.split(".")[0] for name in fresh_imports[0][2]}
    heavy = {
        "matplotlib",
        "sklearn",
        "timm",
        "torchvision",
        "torchmetrics",
        "captum",
        "accelerate",
        "zuko",
        "lightning",
    }
    assert not loaded & heavy
    assert not [name for name in loaded if name.startswith("xlens_")]
    assert "xlens" in loaded


def test_importing_xlens_costs_next_to_nothing_over_torch(fresh_imports):
    torch_alone = min(torch_time for torch_time, _, _ in fresh_imports)
    both = min(torch_time + xlens_time for torch_time, xlens_time, _ in fresh_imports)
    assert both / torch_alone <= 1.1
