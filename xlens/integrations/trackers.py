"""What explanations and audits share with the trackers that they are logged to: W&B and MLflow."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from xlens.auditing.writing import as_path
from xlens.errors import MissingExtraError, OptionError, StorageError

__all__ = ["CHANNELS", "check_kind", "imported_wandb", "log_folder", "made_folder"]

#: Channels of images that W&B draws.
CHANNELS = 4


def check_kind(method: str, given: Any, kind: type, do: str) -> None:
    """Refuse what is not of the kind that is written or logged.

    Raises:
        OptionError: it is something else.
    """
    if not isinstance(given, kind):
        name = kind.__name__
        raise OptionError(
            f"{method}: that is no {name}", given=type(given).__name__, allowed=f"an xlens.{name}", do=do
        )


def made_folder(method: str, path: Any) -> Path:
    """Return a folder, which is made where it is not there.

    Raises:
        OptionError: it is no path.
        StorageError: it cannot be made.
    """
    folder = as_path(path, method)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as fault:
        raise StorageError(
            f"{method}: cannot make the folder",
            given=fault,
            allowed="a folder, or a path at which one can be made",
            do="choose a folder that is no file and can be written",
        ) from None
    return folder


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
