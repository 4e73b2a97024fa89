"""The rules of the code base that a reader cannot check by eye."""

from __future__ import annotations

import ast
import graphlib
import json
import subprocess
import sys
from pathlib import Path

import arrows
import house
import pytest
from longest import LONGEST

ROOT = Path(__file__).parents[1]
CORE = sorted((ROOT / "xlens").rglob("*.py"))
PLUGINS = sorted(p for p in (ROOT / "plugins").rglob("*.py") if "tests" not in p.parts and p.name != "conftest.py")
THIRD_PARTY = sorted((ROOT / "examples").glob("*/src/**/*.py"))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.fixture(scope="module")
def sources():
    return arrows.read()


def test_every_file_has_its_place(sources):
    placed = {f"{room}.{name}" for room, names in house.ROOMS.items() for name in names}
    placed |= {room for room, names in house.ROOMS.items() if not names}
    own = {name for name in sources if name.count(".") != 1 or not name.endswith(".__init__")}
    assert own == placed


def test_imports_only_go_down(sources):
    assert arrows.upward(sources) == []


def test_there_is_no_circle_of_files(sources):
    assert arrows.circles(sources) == []


def test_what_the_lists_allow_is_still_there(sources):
    there = set(arrows.arrows(sources))
    for name, others in [*house.SUGAR.items(), *house.BY_NAME.items()]:
        for other in others:
            assert other == "*" or (name, other) in there, f"{name} -> {other} can leave the list"
    assert sum(len(others) for others in house.SUGAR.values()) <= 9


PLANTED = {
    "at the top": ("errors", "from xlens.data import Data\n"),
    "of a module": ("data.batch", "from xlens import api\n"),
    "inside a function": ("errors", "def f():\n    from xlens.data import Data\n"),
    "for a type checker": (
        "classifier.margins",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from xlens.fitted import Fitted\n",
    ),
    "behind a condition": ("data.batch", "try:\n    import xlens.storage\nexcept ImportError:\n    pass\n"),
    "of a file later in the room": ("codes.moves", "from xlens.codes.variants import traverse\n"),
    "relatively": ("codes.moves", "from . import variants\n"),
    "by a string": ("errors", "import importlib\ndef f():\n    importlib.import_module('xlens.data.batch')\n"),
    "in a table of names": (
        "nn.conv",
        "from xlens.deprecated import forwarded_module\n"
        "__getattr__ = forwarded_module('xlens.nn.conv', 'xlens.plot', ('draw',))\n",
    ),
    "in a table of functions": ("classifier.names", "HOME = {'fit': 'xlens.api:fit'}\n"),
    "by a string put together": (
        "codes.moves",
        "from importlib import import_module\nHOME = {'grid': 'codes.variants'}\n"
        "def f(name):\n    return import_module(f'xlens.{HOME[name]}')\n",
    ),
    "of its own package": ("codes.moves", "from xlens.codes import variants\nimport xlens.codes\n"),
}


@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_import_upward_is_found(sources, kind):
    name, line = PLANTED[kind]
    broken = {**sources, name: sources[name] + "\n" + line}
    assert {one for one, _ in arrows.upward(broken)} == {name}


def test_a_table_of_names_may_point_down_and_a_message_is_no_import(sources):
    lines = "DOWN = {'batch': 'xlens.data.batch:Batch'}\nSAID = 'xlens.api: no such thing'\nWHO = 'xlens'\n"
    found = arrows.seen(lines, sources)
    assert found == {"data.batch"}
    assert not arrows.upward({**sources, "explainer": sources["explainer"] + "\n" + lines})


def test_a_planted_circle_is_found(sources):
    broken = {**sources, "errors": sources["errors"] + "\nfrom xlens.explainer import LensExplainer\n"}
    assert {"errors", "explainer"} <= arrows.circles(broken)[0]


def test_the_walk_of_a_module_says_who_may_see_whom(sources):
    said = arrows.walk("fitted", sources)
    assert "sees      classifier.classifier" in said
    assert "is seen by record" in said


def test_nothing_below_the_explainer_names_it(sources):
    last = arrows.place("explainer")
    for name, source in sources.items():
        if name != "__init__" and arrows.place(name) < last:
            names = {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}
            assert "LensExplainer" not in names, name


def test_the_root_has_no_private_fragments_and_rooms_are_of_a_size():
    assert not [path.name for path in (ROOT / "xlens").glob("_*") if not path.name.startswith("__")]
    large = {name: text.count("\n") for name, text in arrows.read().items() if text.count("\n") > 400}
    assert not large


ROOMS_FOR_PLUGINS = {"contracts", "data", "datasets", "errors", "metrics", "nn", "testing", "training"}


def plugin_faults(package: str, source: str) -> list[str]:
    """Return what a plugin imports that is not meant for plugins."""
    faults = []
    for node in ast.walk(ast.parse(source)):
        targets = []
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            targets = ["." * node.level + (node.module or "")]
        for target in targets:
            parts = target.split(".")
            foreign = parts[0].startswith("xlens_") and parts[0] != package
            inner = parts[0] == "xlens" and len(parts) > 1 and (len(parts) > 2 or parts[1] not in ROOMS_FOR_PLUGINS)
            if foreign or inner or target.startswith("."):
                faults.append(target)
    return faults


@pytest.mark.parametrize("path", [*PLUGINS, *THIRD_PARTY], ids=name_of)
def test_plugins_see_only_what_is_exported_for_them(path):
    base = ROOT / "plugins" if path in PLUGINS else path.parents[1]
    assert plugin_faults(path.relative_to(base).parts[0], path.read_text()) == []


@pytest.mark.parametrize(
    ("source", "wrong"),
    [
        ("from xlens.nn import held", False),
        ("import xlens", False),
        ("from xlens_mine.lens import Lens", False),
        ("from xlens.nn.held import held", True),
        ("from xlens.explaining import explain", True),
        ("from xlens_other import Other", True),
        ("def f():\n    from xlens.fitted import Fitted", True),
        ("from .lens import Lens", True),
    ],
)
def test_the_check_of_plugins_can_fail(source, wrong):
    assert bool(plugin_faults("xlens_mine", source)) == wrong


def plugin_circles(package: str) -> list[set[str]]:
    graph = {
        path.stem: {
            target.split(".")[1]
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.ImportFrom) and (target := node.module or "").startswith(f"{package}.")
        }
        for path in (ROOT / "plugins" / package).glob("*.py")
    }
    try:
        tuple(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as fault:
        return [set(fault.args[1])]
    return []


@pytest.mark.parametrize("package", sorted({path.relative_to(ROOT / "plugins").parts[0] for path in PLUGINS}))
def test_no_plugin_has_a_circle(package):
    assert plugin_circles(package) == []


def loops_that_ask(source: str) -> list[int]:
    """Return the lines on which a loop asks for margins: a search beside the one of ``xlens.nn``."""
    asked = {"margin_over_rest", "score_margin"}
    tree = ast.parse(source)
    # What draws until enough of it convinces searches nothing.
    draws = {
        id(node)
        for one in ast.walk(tree)
        if getattr(one, "name", "") in ("sample", "draw")
        for node in ast.walk(one)
    }
    return [
        call.lineno
        for loop in ast.walk(tree)
        if isinstance(loop, ast.For | ast.While) and id(loop) not in draws
        for call in ast.walk(loop)
        if isinstance(call, ast.Call) and ast.unparse(call.func).rpartition(".")[2] in asked
    ]


#: Loops that ask the classifier of everything there is, and stop for no answer.
ASKS_ALL = {
    "xlens/auditing/slopes.py": "each piece of the points",
    "xlens/counterfactual/mask_pool.py": "each batch that a mask is fitted on",
}


@pytest.mark.parametrize("path", [*CORE, *PLUGINS, *THIRD_PARTY], ids=name_of)
def test_until_the_classifier_is_convinced_there_is_one_search(path):
    if name_of(path) in ASKS_ALL:
        assert loops_that_ask(path.read_text()), f"{name_of(path)} can leave the list"
        return
    assert not loops_that_ask(path.read_text()), "use smallest_step or step_that_reaches of xlens.nn"


def test_the_check_of_searches_can_fail():
    assert loops_that_ask("for s in (1, 2):\n    m = nn.score_margin(f(s), c, t)\n") == [2]
    assert not loops_that_ask("def sample(n):\n    while n:\n        m = margin_over_rest(f(z), c)\n")
    assert not loops_that_ask("def score(rows, s):\n    return score_margin(f(s), c, t)\n")


#: Functions of the name of their file, which a package exports in its place; the list may only shrink.
SHADOWING = {
    "cli.main",
    "contracts.options",
    "datasets.parts",
    "datasets.planted",
    "metrics.interpretability",
    "metrics.leakage",
    "nn.held",
    "training.processes",
    "training.survey",
}


def test_no_function_stands_in_the_place_of_its_file(sources):
    found = {
        f"{name.removesuffix('.__init__')}.{exported}"
        for name, source in sources.items()
        if name.endswith(".__init__")
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom)
        for exported in (alias.name for alias in node.names)
        if f"{name.removesuffix('.__init__')}.{exported}" in sources
    }
    assert found == SHADOWING


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


def doubled(paths: list[Path]) -> dict[str, list[str]]:
    """Return the names that several of some test files have, and where those are."""
    places: dict[str, list[str]] = {}
    for path in paths:
        places.setdefault(path.name, []).append(str(path))
    return {name: where for name, where in places.items() if len(where) > 1}


def test_no_two_test_files_have_one_name():
    paths = [
        path.relative_to(ROOT)
        for folder in ("tests", "plugins", "xlens", "examples", "benchmarks")
        for path in sorted((ROOT / folder).rglob("test_*.py"))
        # An installed copy is nobody's test.
        if not {".venv", "site-packages"} & set(path.parts)
    ]
    same = doubled(paths)
    assert paths
    assert not same, "tests are collected by the names of their files, so no two may have the same: " + "; ".join(
        f"{name} is {' and '.join(where)}" for name, where in same.items()
    )


def test_the_files_that_several_workers_begin_with_are_there():
    assert not [path for path in LONGEST if not (ROOT / path).is_file()]


def test_the_check_of_names_of_test_files_can_fail():
    one, other = Path("tests/data/test_names.py"), Path("tests/classifier/test_names.py")
    assert doubled([one, other, Path("tests/test_data.py")]) == {"test_names.py": [str(one), str(other)]}


def test_the_list_of_rooms_for_readers_is_the_plan(sources):
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    listed = page.split("xlens/\n", 1)[1].split("plugins/", 1)[0]
    named = [line.strip().split("  ")[0] for line in listed.splitlines()]
    rooms = [name.rstrip("/") for line in named for name in line.split()]
    assert rooms == [name for name in [*house.ROOMS, "moved"] if name != "__init__"]
