"""Audits as figures and tables of W&B and as artefacts of MLflow."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from PIL import Image

from xlens.auditing.result import Audit
from xlens.auditing.tables import COLUMNS
from xlens.errors import StorageError
from xlens.integrations.trackers import CHANNELS, check_kind, imported_wandb, log_folder, made_folder
from xlens.plot.figure import save_figure
from xlens.plot.pixels import ranges_of_lens, to_pixels

__all__ = ["log_audit", "wandb_audit", "write_audit"]

_DO = "pass what xlens.audit(explainer, data) returned"


def wandb_audit(audit: Audit) -> dict[str, Any]:
    """An audit as W&B takes it: its figure, a table of groups and tones, and how many alarms there are.

    Log it as anything else, ``run.log(wandb_audit(audit))``. A row of the table has an image before and filled
    where the page shows one, the verdict, and every figure.

    Raises:
        OptionError: it is no audit.
        MissingExtraError: the package ``wandb`` is not installed.
    """
    check_kind("wandb_audit", audit, Audit, _DO)
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

    Args:
        audit: what :func:`xlens.audit` returned.
        folder: is made where it is not there.

    Raises:
        OptionError: it is no audit, or no path.
        StorageError: the folder cannot be made, or a file cannot be written.
    """
    check_kind("write_audit", audit, Audit, _DO)
    folder = made_folder("write_audit", folder)
    files = [folder / name for name in ("audit.html", "audit.png", "groups.csv", "audit.json")]
    audit.save_html(files[0])
    try:
        save_figure(audit.plot(), files[1])
    except OSError as fault:
        raise StorageError(
            "write_audit: cannot write the figure", given=fault, do="choose a folder that can be written"
        ) from None
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
        OptionError: it is no audit.
        MissingExtraError: the package ``mlflow`` is not installed.
        StorageError: a file cannot be written.
    """
    check_kind("log_audit", audit, Audit, _DO)
    client, run_id = log_folder("log_audit", lambda made: write_audit(audit, made), folder, run_id, client)
    client.log_metric(run_id, f"{folder}/alarms", len(audit.alarms))
