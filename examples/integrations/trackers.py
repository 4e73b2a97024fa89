"""Figures in TensorBoard, Weights & Biases and MLflow: `explanation.plot()` is what each of them takes.

    pip install tensorboard wandb mlflow
    python examples/integrations/trackers.py
    tensorboard --logdir examples-out/tensorboard

Everything stays on this machine: W&B runs offline, MLflow writes to a database in a file.
"""

import argparse
import os
from pathlib import Path

import torch

import xlens
from xlens.datasets import load_images, small_cnn, train_classifier
from xlens.integrations.tracking import log_artifacts, wandb_table


def tensorboard(explanation: xlens.Explanation, folder: Path) -> None:
    """Write to an event file."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(folder) as writer:
        writer.add_figure("why", explanation.plot(0), global_step=1)
        writer.add_scalar("agrees", explanation.fidelity.agrees.float().mean(), global_step=1)


def weights_and_biases(explanation: xlens.Explanation, folder: Path) -> None:
    """Write to an offline run, which `wandb sync` uploads."""
    import wandb

    folder.mkdir(exist_ok=True)
    with wandb.init(mode="offline", dir=folder, project="xlens") as run:
        run.log({"why": wandb.Image(explanation.plot(0)), "agrees": explanation.fidelity.agrees.float().mean()})
        # Every input in a row, with its images: to sort, filter and group by in W&B.
        run.log({"explanations": wandb_table(explanation)})


def mlflow(explanation: xlens.Explanation, folder: Path) -> None:
    """Write to a local store."""
    import mlflow

    folder.mkdir(exist_ok=True)
    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    known = mlflow.get_experiment_by_name("xlens")
    pictures = (folder / "pictures").absolute().as_uri()
    experiment = known.experiment_id if known else mlflow.create_experiment("xlens", artifact_location=pictures)
    with mlflow.start_run(experiment_id=experiment):
        mlflow.log_figure(explanation.plot(0), "why.png")
        mlflow.log_metric("agrees", float(explanation.fidelity.agrees.float().mean()))
        # The report that people open, and its table as CSV and JSON.
        log_artifacts(explanation)


def main() -> None:
    """Train, fit, ask, and log the answer three times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("examples-out"), help="folder for everything")
    parser.add_argument("--steps", type=int, default=900, help="of fitting the lens")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)

    digits = load_images("digits")
    torch.manual_seed(0)
    model = train_classifier(small_cnn((1, 8, 8)), digits.train, digits.train_labels, steps=150)
    explainer = xlens.fit(
        xlens.Classifier(model, class_names=digits.class_names), digits.train, "svae", steps=chosen.steps
    )
    explanation = explainer.explain(digits.test[:8])
    for log in (tensorboard, weights_and_biases, mlflow):
        log(explanation, chosen.out / log.__name__)
    print(f"look into {os.listdir(chosen.out)}")


if __name__ == "__main__":
    main()
