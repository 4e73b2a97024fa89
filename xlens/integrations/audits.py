"""Audits as figures and tables of W&B and as artefacts of MLflow."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from PIL import Image

from xlens.auditing.result import Audit
from xlens.auditing.tables import COLUMNS
from xlens.integrations.trackers import CHANNELS, imported_wandb, log_folder
from xlens.plot.pixels import ranges_of_lens, to_pixels

__all__ = ["log_audit", "wandb_audit", "write_audit"]


def wandb_audit(audit: Audit) -> dict[str, Any]:
    """An audit as W&B takes it: its figure, a table of groups and tones, and how many alarms there are.

    Log it as anything else, ``run.log(wandb_audit(audit))``. A row of the table has an image before and filled
    where the page shows one, the verdict, and every figure.

    Raises:
        MissingExtraError: the package ``wandb`` is not installed.
    """
    wandb = imported_wandb("wandb_audit")
    ranges, drawn = ranges_of_lens(audit.fitted), audit.fitted.spec.shape[0] <= CHANNELS
    table = wandb.Table(columns=[*(["before", "filled"] if drawn else []), *COLUMNS])
    for row in audit.records():
        pairs = audit.thumbnails.get(row["group"]) if drawn else None
        images = [None if pairs is None else wandb.Image(to_pixels(pairs[0, i], ranges)) for i in (0, 1)]
        table.add_data(*(images if drawn else []), *row.values())
    return {
        "audit": wandb.Image(_drawn(audit)),
        "audit/groups": table,
        "audit/alarms": len(audit.alarms),
        "audit/suspicion": max((alarm.suspicion for alarm in audit.alarms), default=0.0),
    }


def _drawn(audit: Audit) -> Image.Image:
    # As pixels: of a figure W&B asks pyplot, which a program need not have imported.
    png = io.BytesIO()
    audit.plot().savefig(png, format="png")
    return Image.open(png)


def write_audit(audit: Audit, folder: str | Path) -> list[Path]:
    """Write ``audit.html``, ``audit.png``, ``groups.csv`` and ``audit.json`` into a folder, and return the files.

    Raises:
        StorageError: a file cannot be written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / name for name in ("audit.html", "audit.png", "groups.csv", "audit.json")]
    audit.save_html(files[0])
    audit.plot().savefig(files[1])
    audit.to_csv(files[2])
    audit.to_json(files[3])
    return files


def log_audit(audit: Audit, folder: str = "audit", *, run_id: str | None = None, client: Any = None) -> None:
    """Keep an audit as artefacts of an MLflow run: page, figure and tables; and the number of alarms as a metric.

    Args:
        audit: what :func:`xlens.audit` returned.
        folder: among the artefacts of the run.
        run_id: of the run; None for the one that is active.
        client: an ``MlflowClient``; None for one of the program's own settings.

    Raises:
        MissingExtraError: the package ``mlflow`` is not installed.
        StorageError: a file cannot be written.
    """
    client, run_id = log_folder("log_audit", lambda made: write_audit(audit, made), folder, run_id, client)
    client.log_metric(run_id, f"{folder}/alarms", len(audit.alarms))
