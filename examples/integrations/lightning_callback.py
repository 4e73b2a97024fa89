"""Lightning: one callback, and every second epoch's explanations are in the trainer's own logger.

    pip install lightning
    python examples/integrations/lightning_callback.py

The training is, bit for bit, what it is without the callback.
"""

import argparse
from pathlib import Path

import lightning
import torch
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader, TensorDataset

import xlens
from xlens.datasets import load_images, small_cnn
from xlens.integrations.lightning import ExplainCallback


class Digits(lightning.LightningModule):
    """A network as anybody has it."""

    def __init__(self) -> None:
        """Make the network."""
        super().__init__()
        self.net = small_cnn((1, 8, 8))

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], _: int) -> torch.Tensor:
        """Return the loss."""
        images, labels = batch
        return torch.nn.functional.cross_entropy(self.net(images), labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return AdamW."""
        return torch.optim.AdamW(self.parameters(), 1e-3)


def main() -> None:
    """Train with the callback."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("examples-out"), help="folder for the logs")
    parser.add_argument("--steps", type=int, default=900, help="of fitting the first lens")
    chosen = parser.parse_args()

    digits = load_images("digits")
    lightning.seed_everything(0)
    explain = ExplainCallback(
        backend="svae",
        panel=digits.test[:2],
        every_n_epochs=2,
        classifier=lambda module: xlens.Classifier(module.net, class_names=digits.class_names),
        steps=chosen.steps,
    )
    trainer = lightning.Trainer(
        max_epochs=6,
        accelerator="cpu",
        logger=CSVLogger(chosen.out, "lightning"),  # or TensorBoardLogger, WandbLogger, MLFlowLogger
        callbacks=[explain],
        enable_checkpointing=False,
        log_every_n_steps=5,
    )
    loader = DataLoader(TensorDataset(digits.train, digits.train_labels), batch_size=32, shuffle=True)
    trainer.fit(Digits(), loader)
    print(explain.explanation, f"{explain.seconds:.0f} s", trainer.logger.log_dir, sep="\n")


if __name__ == "__main__":
    main()
