"""Plugins: found without importing, loaded one at a time, each breaking only itself."""

from __future__ import annotations

import sys
import textwrap

import pytest

import xlens
from xlens.errors import BackendConflictError, BackendNotFoundError, PluginError
from xlens.registry import load_backend, offering

GOOD = '''
    """Ridge: a lens that is a ridge."""
    import xlens

    @xlens.options
    class Ridge(xlens.Backend):
        name = "{name}"
        capabilities = ("sample",)
        rank: int = xlens.param(3, ge=1, help="rank")

        def fit(self, classifier, data, run):
            raise NotImplementedError

        def build(self, classifier, spec):
            raise NotImplementedError

    @xlens.hookimpl
    def xlens_backend():
        return Ridge
'''


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install distributions into a folder on sys.path, as pip would."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def install(name, source=GOOD, *, distribution=None, module=None):
        module = module or f"plugin_{name}"
        distribution = distribution or f"xlens-{name}"
        (tmp_path / f"{module}.py").write_text(textwrap.dedent(source).lstrip().replace("{name}", name))
        info = tmp_path / f"{distribution.replace('-', '_')}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(f"[xlens]\n{name} = {module}\n")
        return module

    yield install
    for module in set(sys.modules) - before:
        if module.startswith("plugin_"):
            del sys.modules[module]


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


def test_an_unloadable_plugin_does_not_disturb_the_installed_ones(install):
    before = set(xlens.backends())
    install("ridge", "raise RuntimeError\n")
    assert set(xlens.backends()) == before | {"ridge"}
