"""The examples run as they stand; with few steps, since what is tested is that every line works."""

import os
import runpy
import sys
from pathlib import Path

import pytest

import xlens.integrations.lightning  # noqa: F401  # before `fit` is replaced, which it takes by name

EXAMPLES = Path(__file__).parents[1] / "examples"


#: Example -> files that it leaves in its folder.
INTEGRATIONS = {
    "dict_batches": ["dict-batches.png"],
    "hugging_face": ["hugging-face.png"],
    "lightning_callback": [f"lightning/version_0/xlens/panel-{i}-epoch-{e}.png" for i in (0, 1) for e in (1, 3, 5)],
    "numpy_arrays": ["numpy-arrays.png"],
    "pytorch_loop": [f"pytorch-loop-{epoch}.png" for epoch in (1, 2)],
    "timm_model": ["timm-model.png"],
    "torchvision_model": ["torchvision-model.png"],
    "trackers": ["mlflow/mlflow.db"],
}


#: Options that make the classifiers small as well.
BRIEFLY = {
    "hugging_face": ["--epochs", "3"],
    "pytorch_loop": ["--epochs", "2"],
    "timm_model": ["--training-steps", "20"],
    "torchvision_model": ["--training-steps", "40"],
}


#: The first cell of the notebook in its test.
BRIEF_MASKS = """import functools, xlens.api
xlens.api.fit = functools.partial(xlens.api.fit, mask=xlens.MaskOptions(steps=3, batch_size=16, pool=64))"""


def test_every_integration_is_run():
    assert {path.stem for path in (EXAMPLES / "integrations").glob("*.py")} == set(INTEGRATIONS)
    listed = (EXAMPLES.parent / "Makefile").read_text()
    assert "examples/quickstart.py $(wildcard examples/integrations/*.py)" in listed


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", INTEGRATIONS)
def test_integrations(name, tmp_path, monkeypatch, short_masks):
    monkeypatch.setattr("xlens.integrations.lightning.fit", short_masks)
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--out", "out", "--steps", "4", *BRIEFLY.get(name, [])])
    runpy.run_path(str(EXAMPLES / "integrations" / f"{name}.py"), run_name="__main__")
    for file in INTEGRATIONS[name]:
        assert (tmp_path / "out" / file).stat().st_size > 5_000, file
    if name == "trackers":
        pictures = {path.name.split("_")[0] for path in (tmp_path / "out").rglob("*why*.png")}
        assert pictures == {"why.png", "why"}  # MLflow's, and W&B's with a number and a hash
        assert list((tmp_path / "out" / "tensorboard").glob("events.*"))


@pytest.mark.filterwarnings("ignore::xlens.errors.XlensWarning")
def test_quickstart(tmp_path, monkeypatch, capsys, short_masks):
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
    notebook.cells.insert(0, nbformat.v4.new_code_cell(BRIEF_MASKS))
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


def test_a_gradio_app_answers_and_its_page_is_built(monkeypatch, capsys):
    pytest.importorskip("gradio")
    monkeypatch.setattr(sys, "argv", ["gradio_app.py", "--check", "--steps", "3"])
    runpy.run_path(str(EXAMPLES / "gradio_app.py"), run_name="__main__")
    said = capsys.readouterr().out
    assert "'rust'" in said
    assert "###" in said
