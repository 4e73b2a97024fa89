"""Plugins: found without importing, loaded one at a time, each breaking only itself."""

from __future__ import annotations

import shutil
import sys

import pytest
from made_plugins import GOOD

import xlens
from xlens.errors import BackendConflictError, BackendNotFoundError, PluginError, XlensWarning
from xlens.registry.loading import load_backend, offering, standing_in


def test_listing_imports_nothing(install):
    module = install("ridge")
    assert xlens.backends()["ridge"] == "Ridge: a lens that is a ridge."
    assert module not in sys.modules


@pytest.mark.parametrize("source", ["import xlens\n", "def broken(:\n", "raise RuntimeError\n"])
def test_a_summary_is_given_whatever_the_plugin_looks_like(install, source):
    install("ridge", source)
    assert xlens.backends()["ridge"] == "xlens-ridge 1.2 (no summary)"


def test_a_summary_of_a_module_that_is_not_there(install, tmp_path):
    (tmp_path / f"{install('ridge')}.py").unlink()
    assert xlens.backends()["ridge"] == "xlens-ridge 1.2 (no summary)"


def test_loading_gives_the_class(install):
    install("ridge")
    backend = load_backend("ridge")
    assert (backend.name, backend(rank=2).rank) == ("ridge", 2)
    assert "ridge" in offering("sample")
    assert "ridge" not in offering("invert")


def test_a_backend_that_is_not_installed(install):
    install("ridge")
    with pytest.raises(BackendNotFoundError, match=r"no backend 'rigde' is installed. Did you mean 'ridge'\?") as c:
        load_backend("rigde")
    assert "ridge" in str(c.value).split("Allowed:")[1]


def test_two_distributions_with_one_name(install):
    install("ridge")
    install("ridge", distribution="other-ridge", module="plugin_other")
    assert xlens.backends()["ridge"] == "conflict: claimed by other-ridge 1.2 and xlens-ridge 1.2"
    with pytest.raises(BackendConflictError, match="other-ridge 1.2 and xlens-ridge 1.2.*uninstall one"):
        load_backend("ridge")
    assert "ridge" not in offering("sample")


def swap(old, new):
    assert old in GOOD
    return GOOD.replace(old, new)


BROKEN = {
    "raises on import": (GOOD + "\n    raise RuntimeError('no GPU')", "cannot be imported.*RuntimeError: no GPU"),
    "exits on import": (GOOD + "\n    raise SystemExit('bye')", "cannot be imported.*SystemExit: bye"),
    "does not parse": ("def broken(:\n", "cannot be imported.*SyntaxError"),
    "misses a dependency": ("import no_such_module\n", "cannot be imported.*no_such_module"),
    "takes an argument": (swap("def xlens_backend()", "def xlens_backend(model)"), "does not implement the hook"),
    "misspells the hook": (swap("def xlens_backend", "def xlens_backends"), "does not implement the hook"),
    "has no hook": (swap("@xlens.hookimpl", ""), "brings no backend.*0 implementations"),
    "raises in the hook": (swap("return Ridge", "return 1 / 0"), "does not implement the hook.*ZeroDivisionError"),
    "returns an instance": (swap("return Ridge", "return Ridge()"), r"brings no backend.*Given: Ridge\(rank=3\)"),
    "returns another class": (swap("return Ridge", "return dict"), "brings no backend.*class 'dict'"),
    "returns None": (swap("return Ridge", "return None"), "brings no backend"),
    "has another name": (swap('"{name}"', '"bridge"'), "another name. Given: 'bridge'. Allowed: 'ridge'"),
    "has no name": (swap('name = "{name}"', ""), "another name. Given: None"),
    "declares what nobody knows": (swap('("sample",)', '("fly",)'), "unknown capabilities. Given: fly"),
    "is of an older contract": (
        swap("capabilities", "contract = 0; capabilities"),
        "another version of xlens's contract. Given: contract 0. Allowed: contract 1. .* upgrade xlens-ridge",
    ),
    "is of a newer contract": (
        swap("capabilities", "contract = 2; capabilities"),
        "another version of xlens's contract. Given: contract 2.*upgrade xlens, or",
    ),
    "is of no contract": (swap("capabilities", "contract = None; capabilities"), "Given: contract None"),
    "exits in the hook": (swap("return Ridge", "raise SystemExit(0)"), "does not implement the hook.*SystemExit"),
    "panics on import": (GOOD + "\n    raise BaseException('panic')", "cannot be imported.*BaseException: panic"),
    "declares None": (swap('("sample",)', "None"), "declares its capabilities wrongly. Given: None"),
    "declares a number": (swap('("sample",)', "3"), "declares its capabilities wrongly. Given: 3"),
    "declares a list in a tuple": (swap('("sample",)', "([1],)"), r"wrongly. Given: \(\[1\],\)"),
    "declares a string": (swap('("sample",)', '"sample"'), "wrongly. Given: 'sample'. Allowed: a tuple of strings"),
    "is abstract": (swap("def build", "def built"), "abstract.*build"),
    "has no options": (swap("@xlens.options", ""), "xlens.options"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_plugin_is_named_and_breaks_only_itself(install, fault):
    source, message = BROKEN[fault]
    install("ridge", source)
    install("sound")
    with pytest.raises(PluginError, match=message) as caught:
        load_backend("ridge")
    assert "xlens-ridge 1.2" in str(caught.value)
    assert {"ridge", "sound"} <= set(xlens.backends())
    assert load_backend("sound").name == "sound"
    assert "sound" in offering("sample")
    assert "ridge" not in offering("sample")


POINTS = {
    "the class itself": ("plugin_ridge:Ridge", "brings no backend.*name a module in the entry point"),
    "a number": ("plugin_ridge:NUMBER", "brings no backend|does not implement the hook"),
    "a list, which cannot be hashed": ("plugin_ridge:LIST", "brings no backend|does not implement the hook"),
    "nothing that is there": ("plugin_ridge:Rigde", "cannot be imported.*Rigde"),
    "a module that is not there": ("plugin_rigde", "cannot be imported.*plugin_rigde"),
    "no valid reference": ("!! not a module", "cannot be imported"),
    "nothing": ("", "cannot be imported"),
}


@pytest.mark.parametrize("what", POINTS)
def test_an_entry_point_to_what_is_no_plugin(install, tmp_path, what):
    value, message = POINTS[what]
    install("ridge", GOOD + "\n    NUMBER = 3\n    LIST = []\n")
    (tmp_path / "xlens_ridge-1.2.dist-info" / "entry_points.txt").write_text(f"[xlens]\nridge = {value}\n")
    install("sound")
    assert "sound" in xlens.backends()
    assert load_backend("sound").name == "sound"
    if "ridge" not in xlens.backends():
        assert value == ""  # an entry point without a value is none
        return
    with pytest.raises(PluginError, match=message) as caught:
        load_backend("ridge")
    assert "xlens-ridge 1.2" in str(caught.value)


def test_a_plugin_that_says_nothing_was_written_for_the_first_contract(install, monkeypatch):
    install("ridge")
    assert load_backend("ridge").contract == 1
    monkeypatch.setattr("xlens.registry.loading.CONTRACT_VERSION", 2)
    with pytest.raises(PluginError, match="Given: contract 1. Allowed: contract 2. .* upgrade xlens-ridge"):
        load_backend("ridge")


@pytest.mark.parametrize("metadata", ["", "Name: xlens-ridge\n", "not metadata at all", None])
def test_damaged_metadata_break_nothing(install, tmp_path, metadata):
    install("ridge")
    path = tmp_path / "xlens_ridge-1.2.dist-info" / "METADATA"
    path.unlink() if metadata is None else path.write_text(metadata)
    assert xlens.backends()["ridge"] == "Ridge: a lens that is a ridge."
    assert load_backend("ridge").name == "ridge"


@pytest.mark.parametrize("damage", [b"\xff\xfe[xlens]\nother = nothing\n", b"[xlens]\nother\xe9 = x\n"])
def test_entry_points_that_cannot_be_read_cost_no_other(install, tmp_path, damage):
    install("other")
    (tmp_path / "xlens_other-1.2.dist-info" / "entry_points.txt").write_bytes(damage)
    install("ridge")
    with pytest.warns(XlensWarning, match="entry points of xlens-other cannot be read"):
        assert "ridge" in xlens.backends()
    with pytest.warns(XlensWarning):
        assert load_backend("ridge").name == "ridge"
    with pytest.warns(XlensWarning):
        assert "ridge" in offering("sample")


@pytest.mark.parametrize("metadata", [b"", b"Name: \xff\xfe\n"])
def test_two_damaged_distributions_with_one_name_are_a_conflict(install, tmp_path, metadata):
    install("ridge")
    install("ridge", distribution="other-ridge", module="plugin_other")
    for distribution in ("xlens_ridge", "other_ridge"):
        (tmp_path / f"{distribution}-1.2.dist-info" / "METADATA").write_bytes(metadata)
    with pytest.raises(BackendConflictError, match=r"claimed twice. Given: .*other\) and .*ridge\)"):
        load_backend("ridge")
    assert xlens.backends()["ridge"].startswith("conflict: ")


def test_one_distribution_with_one_name_twice_is_a_conflict(install, tmp_path):
    install("ridge")
    (tmp_path / "plugin_other.py").write_text("")
    points = tmp_path / "xlens_ridge-1.2.dist-info" / "entry_points.txt"
    points.write_text("[xlens]\nridge = plugin_ridge\nridge = plugin_other\n")
    with pytest.raises(BackendConflictError, match="claimed twice.*_other.*_ridge.*repair or uninstall"):
        load_backend("ridge")


def test_one_distribution_that_is_visible_twice_is_no_conflict(install, tmp_path, monkeypatch):
    install("ridge")
    again = tmp_path / "again"
    shutil.copytree(tmp_path / "xlens_ridge-1.2.dist-info", again / "xlens_ridge-1.2.dist-info")
    monkeypatch.syspath_prepend(again)
    assert load_backend("ridge").name == "ridge"


def test_two_backends_of_one_package_have_summaries_of_their_own(install, tmp_path):
    install("ridge")
    package = tmp_path / "plugin_many"
    (package / "lasso").mkdir(parents=True)
    (package / "__init__.py").write_text('"""Many lenses."""\nraise RuntimeError\n')
    (package / "ridges.py").write_text('"""Ridges."""\n')
    (package / "lasso" / "__init__.py").write_text('"""Lassos."""\n')
    (tmp_path / "xlens_ridge-1.2.dist-info" / "entry_points.txt").write_text(
        "[xlens]\nridge = plugin_many.ridges\nlasso = plugin_many.lasso:plugin\ngone = plugin_many.gone\n"
    )
    found = xlens.backends()
    assert (found["ridge"], found["lasso"]) == ("Ridges.", "Lassos.")
    assert found["gone"] == "xlens-ridge 1.2 (no summary)"


def test_a_failing_plugin_does_not_break_the_import_of_xlens(install, tmp_path, programs):
    install("ridge", "raise RuntimeError('no GPU')\n")
    code = "import xlens; print('ridge' in xlens.backends())"
    done = programs(cwd=tmp_path, sites=(str(tmp_path),), code=code)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"True\n", b"")


def test_a_class_stands_in_for_a_plugin_for_a_while(install):
    install("ridge")
    installed = load_backend("ridge")

    class Other(installed):
        pass

    with standing_in(Other):
        assert load_backend("ridge") is Other
    assert load_backend("ridge") is installed


def test_an_unloadable_plugin_does_not_disturb_the_installed_ones(install):
    before = set(xlens.backends())
    install("ridge", "raise RuntimeError\n")
    assert set(xlens.backends()) == before | {"ridge"}
