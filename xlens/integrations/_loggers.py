"""Pictures into the loggers of a Lightning trainer, as far as each takes them."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from matplotlib.figure import Figure

from xlens.explanation import Explanation
from xlens.integrations.tracking import log_artifacts, wandb_table
from xlens.plot.figure import save_figure

__all__ = ["log_explanation", "log_figure"]


def log_figure(logger: Logger, name: str, figure: Figure, *, epoch: int, step: int) -> bool:
    """Hand a figure to a logger; whether it takes any.

    TensorBoard and W&B keep it as an image, MLflow as an artifact; beside a CSV logger's table it is a PNG file.

    Args:
        logger: one of ``trainer.loggers``.
        name: e.g. ``"xlens/panel-0"``.
        figure: a matplotlib figure.
        epoch, step: where the training stands.
    """
    file = f"{name}-epoch-{epoch}.png"
    if isinstance(logger, TensorBoardLogger):
        logger.experiment.add_figure(name, figure, step)
    elif isinstance(logger, WandbLogger):
        logger.log_image(name, [figure], step=step)
    elif isinstance(logger, MLFlowLogger):
        logger.experiment.log_figure(logger.run_id, figure, file)
    elif isinstance(logger, CSVLogger):
        path = Path(logger.log_dir) / file
        save_figure(figure, path)
    else:
        return False
    return True


def log_explanation(logger: Logger, name: str, explanation: Explanation, *, epoch: int, step: int) -> None:
    """Hand all of an explanation to a logger that takes more than pictures: a table to W&B, artefacts to MLflow."""
    if isinstance(logger, WandbLogger):
        logger.experiment.log({f"{name}-table": wandb_table(explanation)}, step=step)
    elif isinstance(logger, MLFlowLogger) and logger.run_id is not None:
        log_artifacts(explanation, f"{name}-epoch-{epoch}", run_id=logger.run_id, client=logger.experiment)
