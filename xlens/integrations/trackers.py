"""What explanations and audits share with the trackers that they are logged to: W&B and MLflow."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from xlens.errors import MissingExtraError

__all__ = ["CHANNELS", "imported_wandb", "log_folder"]

#: Channels of images that W&B draws.
CHANNELS = 4


def imported_wandb(method: str) -> ModuleType:
    """Return the package ``wandb``.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import wandb
    except ImportError:
        raise MissingExtraError(f"{method}: the package 'wandb' is not installed", do="pip install wandb") from None
    return wandb


def log_folder(
    method: str, write: Callable[[Path], object], folder: str, run_id: str | None, client: Any
) -> tuple[Any, str]:
    """Keep what is written into a folder as artefacts of an MLflow run, and return the client and the run's id.

    Args:
        method: who asks, as an error says it.
        write: writes into the folder that it is given.
        folder: among the artefacts of the run.
        run_id: of the run; None for the one that is active.
        client: an ``MlflowClient``; None for one of the program's own settings.

    Raises:
        MissingExtraError: the package ``mlflow`` is not installed.
    """
    try:
        import mlflow
    except ImportError:
        raise MissingExtraError(
            f"{method}: the package 'mlflow' is not installed", do="pip install mlflow"
        ) from None
    if run_id is None:
        active = mlflow.active_run() or mlflow.start_run()
        run_id = active.info.run_id
    client = client or mlflow.MlflowClient()
    with tempfile.TemporaryDirectory() as made:
        write(Path(made))
        client.log_artifacts(run_id, made, folder)
    return client, run_id
