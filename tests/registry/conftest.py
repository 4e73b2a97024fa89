"""Distributions that are installed for one test."""

from __future__ import annotations

import sys
import textwrap

import pytest
from made_plugins import GOOD


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
