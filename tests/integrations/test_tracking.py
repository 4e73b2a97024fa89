"""Explanations in W&B and MLflow, which stay on this machine."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import pytest
from drawings import made, reshaped

from xlens.errors import DataError, MissingExtraError, OptionError, StorageError
from xlens.integrations.tracking import log_artifacts, wandb_table, write_artifacts


def test_a_row_for_each_input_with_its_images():
    pytest.importorskip("wandb")
    one = made(3, n=2)
    table = wandb_table(one, names=["a.png", "b.png"])
    assert table.columns[:5] == ["before", "after", "finding", "verdict", "model says"]
    assert len(table.data) == 2
    row = dict(zip(table.columns, table.data[1], strict=True))
    assert (row["before"].image.size, row["model says"]) == ((8, 8), "ill → healthy")
    assert row["verdict"] == "This explanation holds."
    assert "b.png" in row.values()
    # A signal has no picture, and everything else.
    signal = wandb_table(reshaped(made(n=2), (64,)))
    assert signal.columns == table.columns[2:]
    # Nor have images of more channels than there are colours.
    assert wandb_table(made(5, n=2)).columns == table.columns[2:]
    with pytest.raises(DataError, match="names"):
        wandb_table(one, names=["a.png"])


def test_the_report_and_its_table_are_artefacts(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    try:
        number = mlflow.create_experiment("xlens", artifact_location=(tmp_path / "kept").as_uri())
        with mlflow.start_run(experiment_id=number) as run:
            log_artifacts(made(3, n=2), names=["a.png", "b.png"])
        log_artifacts(made(3, n=1), "later", run_id=run.info.run_id)
    finally:
        mlflow.set_tracking_uri(before)
    (kept,) = (tmp_path / "kept").rglob("xlens/report.html")
    assert "a.png" in kept.read_text()
    assert json.loads((kept.parent / "explanations.json").read_text())
    assert len(list(csv.DictReader((kept.parent / "explanations.csv").open()))) == 2
    assert list((tmp_path / "kept").rglob("later/report.html"))


def test_what_cannot_be_drawn_has_its_table(tmp_path):
    files = write_artifacts(made(5, n=2), tmp_path)
    assert [file.name for file in files] == ["explanations.csv", "explanations.json"]
    assert [file.is_file() for file in files] == [True, True]


def test_what_is_missing_says_what_to_install(monkeypatch):
    for name, call in (("wandb", wandb_table), ("mlflow", log_artifacts)):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(MissingExtraError, match=f"pip install {name}"):
            call(made(n=1))


@pytest.mark.parametrize("odd", [None, 5, "explanation", {}])
@pytest.mark.parametrize("call", [wandb_table, log_artifacts, lambda odd: write_artifacts(odd, "folder")])
def test_what_is_no_explanation_is_refused_in_words(call, odd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OptionError, match=": that is no Explanation. Given: .* Allowed: .* What to do: "):
        call(odd)
    assert list(tmp_path.iterdir()) == []


def test_where_no_folder_can_be_the_fault_is_said(tmp_path):
    (tmp_path / "file").write_text("mine")
    for folder in (tmp_path / "file", tmp_path / "file" / "x", Path("/dev/null/x"), "a\0b"):
        with pytest.raises(StorageError, match="^write_artifacts: cannot .* What to do: "):
            write_artifacts(made(n=2), folder)
    for folder in (None, 5, b"folder", ""):
        with pytest.raises(OptionError, match="^write_artifacts: that is no path. Given: .* What to do: "):
            write_artifacts(made(n=2), folder)
