"""A resnet18 trained with and without the Lightning callback: the same weights, and what it costs.

    python -m benchmarks.engine.lightning_callback

Fashion-MNIST, coat against shirt, 1,000 images. The callback explains four test images after every epoch.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
import warnings

import lightning
import timm
import torch
import torch.nn.functional as F
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.common.tasks import Task, pair
from xlens.integrations.lightning import ExplainCallback


class ResNet18(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = timm.create_model("resnet18", num_classes=2, in_chans=1)

    def forward(self, images):
        return self.net(images)

    def training_step(self, batch, _):
        images, labels = batch
        flipped = torch.where(torch.rand(len(images))[:, None, None, None] < 0.5, images.flip(3), images)
        return F.cross_entropy(self(flipped), labels)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.02, momentum=0.9, weight_decay=5e-4)


def train(task: Task, epochs: int, seed: int, folder: str, callbacks: list) -> tuple[dict, float, float]:
    """Return the trainer's final state, seconds and test accuracy."""
    lightning.seed_everything(seed, verbose=False)
    module = ResNet18()
    loader = DataLoader(TensorDataset(task.train, task.train_labels), batch_size=64, shuffle=True)
    trainer = lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        callbacks=callbacks,
        logger=CSVLogger(folder, version=f"{len(callbacks)}"),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    began = time.perf_counter()
    trainer.fit(module, loader)
    seconds = time.perf_counter() - began
    state = {**module.state_dict(), "random numbers": torch.rand(8)}
    for i, moments in enumerate(trainer.optimizers[0].state.values()):
        state[f"momentum {i}"] = moments["momentum_buffer"]
    with torch.no_grad():
        found = torch.cat([module.eval()(part).argmax(1) for part in task.test.split(256)])
    return state, seconds, float((found == task.test_labels).float().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="svae")
    parser.add_argument("--steps", type=int, default=90, help="of the first lens; the later ones take a third")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    task = pair()
    task.train, task.train_labels = task.train[: chosen.images], task.train_labels[: chosen.images]
    warm: list[dict[str, float]] = []

    class Noted(ExplainCallback):
        def on_train_epoch_end(self, trainer, pl_module) -> None:
            before = self.seconds
            super().on_train_epoch_end(trainer, pl_module)
            if self.seconds > before and self.explanation is not None:
                fidelity = self.explainer.explain(task.test[:200], n_steps=8).fidelity
                warm.append(
                    {
                        "epoch": trainer.current_epoch + 1,
                        "seconds": self.seconds - before,
                        "the classifier agrees": float(fidelity.agrees.float().mean()),
                        "flips": float(fidelity.flips.float().mean()),
                        "MSE": float(fidelity.mse.mean()),
                    }
                )

    with tempfile.TemporaryDirectory() as folder:
        plain, alone, accuracy = train(task, chosen.epochs, chosen.seed, folder, [])
        callback = Noted(chosen.backend, task.test[:4], every_n_epochs=chosen.every, steps=chosen.steps)
        watched, together, _ = train(task, chosen.epochs, chosen.seed, folder, [callback])
    different = [key for key in plain if not torch.equal(plain[key], watched[key])]
    print(f"weights, buffers, momenta and random numbers that differ: {len(different)} of {len(plain)}")
    print(f"test accuracy {accuracy:.3f}; {chosen.epochs} epochs alone: {alone:.0f} s")
    share = callback.seconds / (alone + callback.seconds)
    print(f"callback: {callback.seconds:.0f} s in all, {share:.0%} of a run with it")
    print(
        "\n| after epoch | seconds | the classifier agrees | the classifier flips on x' | MSE |\n"
        "|---|---|---|---|---|"
    )
    for row in warm:
        shares = f"{row['f agrees']:.3f} | {row['flips']:.3f} | {row['MSE']:.4f}"
        print(f"| {row['epoch']} | {row['seconds']:.0f} | {shares} |")


if __name__ == "__main__":
    main()
