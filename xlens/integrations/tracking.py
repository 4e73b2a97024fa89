"""Explanations as tables of W&B and as artefacts of MLflow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xlens.errors import UnsupportedError
from xlens.explanation import Explanation
from xlens.integrations.trackers import CHANNELS, check_kind, imported_wandb, log_folder, made_folder
from xlens.plot.pixels import ranges_of, to_pixels
from xlens.plot.plain import finding, said, standing
from xlens.report.page import save_html

if TYPE_CHECKING:
    import wandb

__all__ = ["log_artifacts", "wandb_table", "write_artifacts"]

_DO = "pass what explainer.explain(inputs) returned"


def wandb_table(explanation: Explanation, *, names: Sequence[str] | None = None) -> wandb.Table:
    """Table of W&B with a row for each input: images before and after, what was found, the verdict, every figure.

    Log it as anything else, ``run.log({"why": wandb_table(explanation)})``; W&B sorts, filters and groups by it.

    Args:
        explanation: N inputs.
        names: N names of the inputs, such as file names.

    Raises:
        OptionError: it is no explanation.
        DataError: names do not fit.
        MissingExtraError: the package ``wandb`` is not installed.
    """
    check_kind("wandb_table", explanation, Explanation, _DO)
    wandb = imported_wandb("wandb_table")
    whole = explanation.to("cpu")
    shape = whole.inputs.shape[1:]
    ranges = ranges_of(whole)
    records = whole.records(names)
    facts = [name for name, value in records[0].items() if isinstance(value, str | int | float | bool | None)]
    # What has more channels than colours is a row without pictures.
    drawn = len(shape) == 3 and shape[0] <= CHANNELS
    pictures = ["before", "after"] if drawn else []
    table = wandb.Table(columns=[*pictures, "finding", "verdict", "model says", *facts])
    for i, record in enumerate(records):
        images = [wandb.Image(to_pixels(one[i], ranges)) for one in (whole.inputs, whole.counterfactual) if drawn]
        words = [finding(whole, ranges, i), standing(whole, i)[0], " → ".join(dict.fromkeys(said(whole, i)))]
        table.add_data(*images, *words, *(record[name] for name in facts))
    return table


def write_artifacts(
    explanation: Explanation, folder: str | Path, *, names: Sequence[str] | None = None
) -> list[Path]:
    """Write ``report.html``, ``explanations.csv`` and ``explanations.json`` into a folder, and return the files.

    What cannot be drawn, as images of more channels than colours, has its tables and no report.

    Raises:
        OptionError: it is no explanation, or no path.
        DataError: names do not fit.
        StorageError: the folder cannot be made, or a file cannot be written.
    """
    check_kind("write_artifacts", explanation, Explanation, _DO)
    folder = made_folder("write_artifacts", folder)
    files = [folder / name for name in ("report.html", "explanations.csv", "explanations.json")]
    explanation.to_csv(files[1], names=names)
    explanation.to_json(files[2], names=names)
    try:
        save_html(explanation, files[0], names=names)
    except UnsupportedError:
        return files[1:]
    return files


def log_artifacts(
    explanation: Explanation,
    folder: str = "xlens",
    *,
    names: Sequence[str] | None = None,
    run_id: str | None = None,
    client: Any = None,
) -> None:
    """Keep an explanation as artefacts of an MLflow run: the report, if it can be drawn, and tables: CSV and JSON.

    Args:
        explanation: N inputs.
        folder: among the artefacts of the run.
        names: N names of the inputs, such as file names.
        run_id: of the run; None for the one that is active.
        client: an ``MlflowClient``; None for one of the program's own settings.

    Raises:
        OptionError: it is no explanation.
        DataError: names do not fit.
        MissingExtraError: the package ``mlflow`` is not installed.
        StorageError: a file cannot be written.
    """
    check_kind("log_artifacts", explanation, Explanation, _DO)
    log_folder(
        "log_artifacts", lambda made: write_artifacts(explanation, made, names=names), folder, run_id, client
    )
