"""The mutation study counts as caught only what a check caught."""

import importlib
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def mutations():
    return importlib.import_module("benchmarks.engine.mutations")


@pytest.mark.parametrize(
    ("code", "found", "kind"),
    [
        ("print('READY'); print('SURVIVED')", "SURVIVED", "survived"),
        ("print('READY'); print('CAUGHT by a.b')", "CAUGHT by a.b", "caught by what a check says"),
        (
            "print('READY'); print('CAUGHT by an exception in a.b')",
            "CAUGHT by an exception in a.b",
            "caught by an exception within a check",
        ),
        (
            "raise ImportError('gone')",
            "NOT IMPORTED: ImportError: gone",
            "not imported or constructed, before any check",
        ),
        ("import os; print('READY', flush=True); os._exit(3)", "CRASHED: exit code 3", "crashed"),
        ("import time; time.sleep(60)", "TIMED OUT", "timed out"),
    ],
)
def test_outcomes_are_told_apart(mutations, code, found, kind):
    assert mutations.judge(None, code, 2.0, "{candidate}") == found
    assert mutations._kind(found) == kind


def test_it_stops_where_a_plugin_fails_by_itself(mutations, monkeypatch, capsys):
    monkeypatch.setattr(mutations, "judge", lambda mutant, candidate, limit: "CAUGHT by a.b")
    monkeypatch.setattr(mutations, "trained_autoencoder", lambda folder: folder)
    monkeypatch.setattr(sys, "argv", ["mutations.py", "--count", "2"])
    with pytest.raises(SystemExit, match="every mutant would count as caught"):
        mutations.main()
    assert "as it is: CAUGHT by a.b" in capsys.readouterr().out


def test_each_statement_can_be_removed(mutations, tmp_path):
    package = ROOT / "plugins" / "xlens_medxgan"
    every = mutations.mutants(package, "lens.py")
    every[0].write(tmp_path)
    assert every[0].text() in (package / "lens.py").read_text()
    changed = (tmp_path / "xlens_medxgan" / "lens.py").read_text()
    assert len(every) > 30
    compile(changed, "lens.py", "exec")
    assert changed != (package / "lens.py").read_text()
