"""The examples run as they stand; with few steps, since what is tested is that every line works."""

import os
import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.filterwarnings("ignore::xlens.errors.XlensWarning")
def test_quickstart(tmp_path, monkeypatch, capsys, short_mask):
    monkeypatch.setattr(sys, "argv", ["quickstart.py", "--out", str(tmp_path), "--steps", "12"])
    runpy.run_path(str(EXAMPLES / "quickstart.py"), run_name="__main__")
    assert {path.name for path in tmp_path.iterdir()} == {"lens", "why.png", "why.html"}
    assert "Explanation(24 of 1x8x8" in capsys.readouterr().out


def test_the_notebook(monkeypatch, tmp_path):
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    notebook = nbformat.read(EXAMPLES / "quickstart.ipynb", as_version=4)
    sources = "\n".join(cell.source for cell in notebook.cells)
    assert sources.count("STEPS = 700") == 1
    for cell in notebook.cells:
        cell.source = cell.source.replace("STEPS = 700", "STEPS = 12")
    notebook.cells.insert(0, nbformat.v4.new_code_cell("import xlens.training.edit_mask as m\nm._STEPS = 3"))
    place = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=place).execute()
    outputs = {cell.id: cell.get("outputs", []) for cell in notebook.cells}
    (shown,) = [output for output in outputs["ask"] if output.output_type == "execute_result"]
    assert "<iframe" in shown.data["text/html"]
    for name in ("plot", "traverse", "invariances", "features"):
        assert [output for output in outputs[name] if "image/png" in output.get("data", {})], name


def test_solar_cells_end_to_end(tmp_path, monkeypatch, capsys):
    if not os.environ.get("XLENS_SLOW"):
        pytest.skip("takes minutes: pip install what examples/solar_cells.py names, and set XLENS_SLOW=1")
    monkeypatch.setattr(
        sys, "argv", ["solar_cells.py", "--out", str(tmp_path), "--size", "32", "--epochs", "1", "--steps", "4"]
    )
    runpy.run_path(str(EXAMPLES / "solar_cells.py"), run_name="__main__")
    assert (tmp_path / "cells.html").stat().st_size > 10_000
    assert "judge, of the" in capsys.readouterr().out
