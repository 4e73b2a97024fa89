"""The Lightning callback: it logs what the lens says, and the training never knows."""

from __future__ import annotations

import csv
import random
import textwrap

import lightning
import numpy as np
import pytest
import torch
import toys
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from matplotlib.figure import Figure
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import xlens
from xlens.datasets import load_images
from xlens.errors import OptionError, XlensWarning
from xlens.integrations.lightning import ExplainCallback

DIGITS = load_images("digits")
SMALL = {
    "mask": toys.SHORT_MASK,
    "backend": "svae",
    "steps": 6,
    "hidden": 16,
    "class_code": 3,
    "nuisance_code": 4,
    "batch_size": 16,
}
LOUD = {"enable_progress_bar": False, "enable_model_summary": False, "log_every_n_steps": 1}

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*pytree.*"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


class Net(lightning.LightningModule):
    """With what is easily disturbed: dropout, batch norm, momentum."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(4), nn.Flatten(),
            nn.Dropout(0.3), nn.Linear(32, 2),
        )  # fmt: skip

    def forward(self, images):
        return self.net(images)

    def training_step(self, batch, _):
        images, labels = batch
        # Noise from each of the global generators.
        images = images + 0.05 * torch.randn_like(images) + 0.01 * random.random() + 0.01 * np.random.rand()
        return nn.functional.cross_entropy(self(images), labels)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 1e-2)


def train(folder, *callbacks, epochs=2, logger=None):
    lightning.seed_everything(0, verbose=False)
    module = Net()
    loader = DataLoader(TensorDataset(DIGITS.train, DIGITS.train_labels), batch_size=48, shuffle=True)
    trainer = lightning.Trainer(
        max_epochs=epochs, accelerator="cpu", callbacks=list(callbacks), default_root_dir=folder,
        logger=logger or CSVLogger(folder, "csv"), enable_checkpointing=False, **LOUD,
    )  # fmt: skip
    trainer.fit(module, loader)
    return module, trainer


def test_the_training_is_the_same_bit_for_bit(tmp_path):
    def result(*callbacks):
        module, trainer = train(tmp_path, *callbacks)
        (optimizer,) = trainer.optimizers
        moments = {f"{i}.{k}": v for i, state in enumerate(optimizer.state.values()) for k, v in state.items()}
        grads = {f"grad {n}": p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}
        rng = {"torch": torch.rand(2), "numpy": np.random.rand(2), "python": random.random()}
        return {**module.state_dict(), **moments, **grads, **rng}

    callback = ExplainCallback(panel=DIGITS.test[:2], **SMALL)
    without, with_it = result(), result(callback)
    assert callback.explanation is not None
    assert without.keys() == with_it.keys()
    for key in without:
        assert torch.equal(torch.as_tensor(without[key]), torch.as_tensor(with_it[key])), key


def test_figures_and_fidelity_reach_the_loggers_of_the_trainer(tmp_path):
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

    callback = ExplainCallback(panel=DIGITS.test[:2], every_n_epochs=2, **SMALL)
    loggers = [CSVLogger(tmp_path, "csv"), TensorBoardLogger(tmp_path, "tensorboard")]
    _, trainer = train(tmp_path, callback, epochs=4, logger=loggers)
    pictures = sorted(path.name for path in (tmp_path / "csv").rglob("*.png"))
    assert pictures == [f"panel-{i}-epoch-{epoch}.png" for i in (0, 1) for epoch in (1, 3)]
    events = event_accumulator.EventAccumulator(loggers[1].log_dir)
    events.Reload()
    assert {"xlens/panel-0", "xlens/panel-1"} <= set(events.Tags()["images"])
    per_epoch = trainer.global_step // 4
    assert [event.step for event in events.Images("xlens/panel-0")] == [2 * per_epoch, 4 * per_epoch]
    with open(next((tmp_path / "csv").rglob("metrics.csv"))) as file:
        rows = [row for row in csv.DictReader(file) if row.get("xlens/agrees")]
    last = {"agrees": callback.explanation.fidelity.agrees, "trustworthy": callback.explanation.trustworthy}
    for name, values in last.items():
        assert float(rows[-1][f"xlens/{name}"]) == pytest.approx(float(values.float().mean()))
    assert 0 < float(rows[-1]["xlens/share_of_time"]) < 1
    assert float(rows[-1]["xlens/seconds"]) == pytest.approx(callback.seconds)


def test_the_lens_follows_the_classifier_from_where_it_was(tmp_path, monkeypatch):
    fits = []
    monkeypatch.setattr(
        "xlens.integrations.lightning.fit",
        lambda *args, **options: fits.append((args[2].steps, options["start_from"])) or xlens.fit(*args, **options),
    )
    named = lambda module: xlens.Classifier(module.net, class_names=DIGITS.class_names)  # noqa: E731
    callback = ExplainCallback(panel=DIGITS.test[:1], classifier=named, **SMALL)
    module, _ = train(tmp_path, callback, epochs=3)
    assert [steps for steps, _ in fits] == [6, 2, 2]
    assert [start is None for _, start in fits] == [True, False, False]
    assert callback.explanation.class_names == DIGITS.class_names
    # What is saved is bound to the classifier as it is now.
    callback.explainer.save(tmp_path / "lens")
    xlens.load(tmp_path / "lens", module.net)


def test_while_there_is_nothing_to_explain_it_warns_and_the_training_goes_on(tmp_path):
    class Constant(Net):
        def forward(self, images):
            return super().forward(images) * torch.tensor([1.0, 0.0]) + torch.tensor([1e4, 0.0])

    callback = ExplainCallback(panel=DIGITS.test[:1], classifier=lambda module: Constant(), **SMALL)
    with pytest.warns(XlensWarning, match="after epoch 0: DataError: data: the classifier puts every input in"):
        train(tmp_path, callback, epochs=1)
    assert callback.explainer is None


def test_options_are_checked_before_the_training(tmp_path):
    with pytest.raises(OptionError, match=r"every_n_epochs must be an int >= 1, got 0.*panel must be a tensor"):
        ExplainCallback("svae", [1], every_n_epochs=0)
    with pytest.raises(OptionError, match="stps"):
        ExplainCallback("svae", DIGITS.test[:1], stps=3)
    with pytest.raises(xlens.errors.BackendNotFoundError, match="svaee"):
        ExplainCallback("svaee", DIGITS.test[:1])
    with pytest.raises(OptionError, match="seed must be an int"):
        ExplainCallback("svae", DIGITS.test[:1], seed=-1)
    with pytest.raises(OptionError, match=r"mask must be xlens.MaskOptions\(...\) or None, got 3"):
        ExplainCallback("svae", DIGITS.test[:1], mask=3)
    wrong = ExplainCallback(panel=torch.zeros(1, 3, 8, 8), **SMALL)
    with pytest.raises(OptionError, match=r"different shapes. Given: \(3, 8, 8\) and \(1, 8, 8\)"):
        train(tmp_path, wrong)
    colour = torch.zeros(20, 3, 8, 8)
    with pytest.raises(xlens.errors.ModelError, match="the classifier fails on these data"):
        train(tmp_path, ExplainCallback(panel=colour[:1], data=colour, **SMALL))


@pytest.mark.parametrize("where", ["xlens.integrations.lightning.fit", "xlens.integrations.lightning.log_figure"])
def test_no_fault_of_ours_ends_the_training(tmp_path, monkeypatch, where):
    def fails(*_, **__):
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(where, fails)
    with pytest.warns(XlensWarning, match="OutOfMemoryError: no memory"):
        train(tmp_path, ExplainCallback(panel=DIGITS.test[:1], **SMALL), epochs=1)


def test_a_lens_says_when_its_classifier_has_learned_more(tmp_path):
    callback = ExplainCallback(panel=DIGITS.test[:1], every_n_epochs=2, **SMALL)
    module = train(tmp_path, callback, epochs=3)[0]
    with pytest.warns(XlensWarning, match="the classifier has changed since this lens was fitted"):
        callback.explainer.explain(DIGITS.test[:1])
    with pytest.warns(XlensWarning, match="save: the classifier has changed"):
        callback.explainer.save(tmp_path / "late")
    with pytest.raises(xlens.errors.StorageError, match="another classifier"):
        xlens.load(tmp_path / "late", module.net)


def test_a_stream_of_batches_asks_for_data(tmp_path):
    class Batches:
        def __iter__(self):
            yield from zip(DIGITS.train.split(64), DIGITS.train_labels.split(64), strict=True)

    def fit(**data):
        trainer = lightning.Trainer(
            max_epochs=1, logger=False, enable_checkpointing=False, accelerator="cpu",
            callbacks=[ExplainCallback(panel=DIGITS.test[:1], **data, **SMALL)], **LOUD,
        )  # fmt: skip
        trainer.fit(Net(), train_dataloaders=Batches())
        return trainer

    with pytest.raises(OptionError, match=r"a train loader of type Batches.*pass data="):
        fit()
    fit(data=DIGITS.train)


def test_without_lightning_the_error_has_the_command(programs, tmp_path):
    code = textwrap.dedent(
        """
        import sys
        sys.modules["lightning"] = None
        import xlens
        assert not [name for name in sys.modules if name.startswith("xlens.integrations")]
        try:
            import xlens.integrations.lightning
        except xlens.errors.MissingExtraError as fault:
            assert isinstance(fault, ImportError)
            print(fault)
        """
    )
    done = programs(cwd=tmp_path, code=code)
    assert done.returncode == 0, done.stderr
    assert b"pip install 'xlens[lightning]'" in done.stdout


def test_mlflow_and_wandb_take_figures(tmp_path, monkeypatch):
    package = pytest.importorskip("wandb")
    pytest.importorskip("mlflow")
    from lightning.pytorch.loggers import MLFlowLogger, WandbLogger

    from xlens.integrations._loggers import log_figure

    monkeypatch.setenv("WANDB_SILENT", "true")
    # The logger's offline mode is a variable that wandb reads when it is set up, which another test may have done.
    monkeypatch.setenv("WANDB_MODE", "offline")
    package.teardown()
    figure = Figure()
    figure.subplots().plot([1, 2])
    mlflow = MLFlowLogger(
        "xlens", tracking_uri=f"sqlite:///{tmp_path}/mlflow.db", artifact_location=(tmp_path / "kept").as_uri()
    )
    wandb = WandbLogger(save_dir=tmp_path, offline=True, project="xlens")
    for logger in (mlflow, wandb):
        assert log_figure(logger, "xlens/panel-0", figure, epoch=3, step=7)
    wandb.experiment.finish()
    assert len(list((tmp_path / "kept").rglob("xlens/panel-0-epoch-3.png"))) == 1
    assert len(list(tmp_path.rglob("media/images/xlens/panel-0*.png"))) == 1
