"""What a release is made of, as far as it can be seen without building one; ``make dist`` does the rest."""

import importlib.util
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

import xlens

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
#: Bytes that a file in git may have, and those that may have more.
MOST, LARGE = 1_500_000, set()


def released(name):
    """Return a script of releasing/, which is no package."""
    spec = importlib.util.spec_from_file_location(f"releasing_{name}", ROOT / "releasing" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tracked():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode or not listed.stdout:
        pytest.skip("not a clone")
    return [ROOT / name for name in listed.stdout.split("\0") if name]


def test_the_version_is_said_alike():
    citation = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), re.M).group(1)
    newest = re.search(r"^## (\S+?),? ", (ROOT / "CHANGELOG.md").read_text(), re.M).group(1)
    assert {xlens.__version__, PROJECT["project"]["version"], citation, newest} == {xlens.__version__}


def test_no_file_in_git_is_large():
    sizes = {str(path.relative_to(ROOT)): path.stat().st_size for path in tracked() if path.is_file()}
    assert not {name: size for name, size in sizes.items() if size > MOST and name not in LARGE}


def test_nothing_lies_about_at_the_top():
    loose = {path.name for path in tracked() if path.parent == ROOT and path.suffix not in (".md", ".toml", ".cff")}
    allowed = {".gitignore", ".pre-commit-config.yaml", "LICENSE", "Makefile", "conftest.py"}
    assert loose <= allowed


def test_every_dependency_has_a_lower_bound():
    project = PROJECT["project"]
    wanted = [*project["dependencies"], *sum(project["optional-dependencies"].values(), [])]
    assert not [one for one in wanted if ">=" not in one and not one.startswith("xlens[")]


def test_every_shipped_backend_is_in_the_wheel():
    packages = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    there = {f"plugins/{path.parent.name}" for path in (ROOT / "plugins").glob("xlens_*/__init__.py")}
    assert {name for name in packages if name.startswith("plugins/")} == there
    named = {point.partition(".")[0] for point in PROJECT["project"]["entry-points"]["xlens"].values()}
    assert {f"plugins/{name}" for name in named} == there


GOOD = {name + ("page.html" if name.endswith("/") else ""): 10 for name in released("contents").NEEDED}
FAULTS = {
    "a test": ({"xlens_svae/tests/test_svae.py": 1}, 100, "is a test"),
    "a conftest": ({"xlens/conftest.py": 1}, 100, "is a test"),
    "a large picture": ({"xlens/large.png": 2_000_000}, 100, "may have 1,500,000"),
    "a large wheel": ({}, 5_000_000, "may have 4,000,000"),
    "another package": ({"benchmarks/figures.py": 1}, 100, "only xlens"),
    "a pickle": ({"xlens/lens.pkl": 1}, 100, "no file for others"),
}


def test_a_good_wheel_has_no_fault():
    assert released("contents").faults(".whl", 100, GOOD) == []


@pytest.mark.parametrize("case", FAULTS)
def test_what_must_not_be_in_a_wheel_is_found(case):
    more, whole, said = FAULTS[case]
    (found,) = released("contents").faults(".whl", whole, {**GOOD, **more})
    assert said in found


@pytest.mark.parametrize("name", sorted(GOOD))
def test_what_is_missing_in_a_wheel_is_found(name):
    (found,) = released("contents").faults(".whl", 100, {one: size for one, size in GOOD.items() if one != name})
    assert "is missing" in found


def test_the_tests_for_wheels_are_there():
    for versions in ("lowest", "newest"):
        text = (ROOT / "releasing" / f"{versions}.txt").read_text()
        named = [one for one in text.split() if one.startswith("tests/")]
        assert named
        assert not [one for one in named if not (ROOT / one).exists()]


def test_the_templates_ask_for_what_can_be_run():
    yaml = pytest.importorskip("yaml")
    for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        found = yaml.safe_load(path.read_text())
        if path.name != "config.yml":
            assert {"name", "description", "body"} <= found.keys()
            assert (
                any(part.get("validations", {}).get("required") for part in found["body"]) or path.name != "bug.yml"
            )
    assert "xlens --version" in (ROOT / ".github" / "ISSUE_TEMPLATE" / "bug.yml").read_text()
