"""Audits in W&B and MLflow, which stay on this machine."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import pytest
from shortcuts import ByStamp, explainer_of, stamped

import xlens
from xlens.errors import MissingExtraError, OptionError, StorageError
from xlens.integrations.audits import log_audit, wandb_audit, write_audit


@pytest.fixture(scope="module")
def found():
    images, labels, _ = stamped()
    return xlens.audit(explainer_of(ByStamp()), (images, labels), progress=False)


def test_a_figure_and_a_row_for_each_group(found):
    pytest.importorskip("wandb")
    logged = wandb_audit(found)
    table = logged["audit/groups"]
    assert table.columns[:4] == ["before", "filled", "kind", "group"]
    assert len(table.data) == len(found.records())
    row = dict(zip(table.columns, table.data[0], strict=True))
    assert row["before"].image.size == (24, 24)
    assert row["verdict"] == found.verdict(0)
    assert logged["audit/alarms"] == len(found.alarms) > 0
    assert logged["audit"].image.size[0] > 100


def test_page_figure_and_tables_are_artefacts(found, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    try:
        number = mlflow.create_experiment("xlens", artifact_location=(tmp_path / "kept").as_uri())
        with mlflow.start_run(experiment_id=number) as run:
            log_audit(found)
        alarms = mlflow.get_run(run.info.run_id).data.metrics["audit/alarms"]
    finally:
        mlflow.set_tracking_uri(before)
    (kept,) = (tmp_path / "kept").rglob("audit/audit.html")
    assert alarms == len(found.alarms)
    assert (kept.parent / "audit.png").read_bytes().startswith(b"\x89PNG")
    assert len(list(csv.DictReader((kept.parent / "groups.csv").open()))) == len(found.records())
    assert json.loads((kept.parent / "audit.json").read_text())["alarms"]


def test_what_is_missing_says_what_to_install(found, monkeypatch):
    for name, call in (("wandb", wandb_audit), ("mlflow", log_audit)):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(MissingExtraError, match=f"pip install {name}"):
            call(found)


@pytest.mark.parametrize("odd", [None, 5, "audit", {}, Path("audit.json")])
@pytest.mark.parametrize("call", [wandb_audit, log_audit, lambda odd: write_audit(odd, "audit")])
def test_what_is_no_audit_is_refused_in_words(call, odd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OptionError, match="_audit: that is no Audit. Given: .* Allowed: .* What to do: "):
        call(odd)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("odd", [None, 5, b"audit", ""])
def test_what_is_no_folder_is_refused_in_words(found, odd):
    with pytest.raises(OptionError, match="^write_audit: that is no path. Given: .* Allowed: .* What to do: "):
        write_audit(found, odd)


def test_where_no_folder_can_be_the_fault_is_said(found, tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "taken" / "audit.png").mkdir(parents=True)
    for folder in (tmp_path / "file", tmp_path / "file" / "x", Path("/dev/null/x"), "a\0b", tmp_path / "taken"):
        with pytest.raises(StorageError, match="^write_audit: cannot .* What to do: "):
            write_audit(found, folder)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_is_made_and_written_anew(found, tmp_path):
    for _ in range(2):
        files = write_audit(found, str(tmp_path / "new" / "folder"))
        assert [file.name for file in files] == ["audit.html", "audit.png", "groups.csv", "audit.json"]
        assert all(file.is_file() for file in files)
