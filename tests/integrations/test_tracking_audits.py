"""Audits in W&B and MLflow, which stay on this machine."""

from __future__ import annotations

import csv
import json
import sys

import pytest
from shortcuts import ByStamp, explainer_of, stamped

import xlens
from xlens.errors import MissingExtraError
from xlens.integrations.audits import log_audit, wandb_audit


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
