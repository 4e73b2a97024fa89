"""A Lightning callback that explains a fixed panel of images while the classifier is trained."""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from xlens.api import fit
from xlens.classifier.classifier import Classifier, as_classifier
from xlens.classifier.frozen import seeded
from xlens.contracts.backend import Backend, StepEvent
from xlens.contracts.explainer import Explainer
from xlens.contracts.numbers import is_count, whole
from xlens.counterfactual.mask_options import MaskOptions
from xlens.data import Batch, as_data
from xlens.errors import MissingExtraError, OptionError, XlensWarning
from xlens.explanation import Explanation
from xlens.fitting.arguments import as_backend
from xlens.registry.loading import load_backend
from xlens.training.survey import classify

try:
    from lightning.pytorch import Callback, LightningModule, Trainer

    from xlens.integrations._loggers import log_explanation, log_figure
except ImportError as fault:
    if (fault.name or "").split(".")[0] != "lightning":
        raise
    raise MissingExtraError(
        "xlens.integrations.lightning: the package 'lightning' is not installed",
        do="pip install 'xlens[lightning]', or: pip install lightning",
    ) from None

__all__ = ["ExplainCallback"]

#: A lens that begins with the last one takes this share of the backend's steps.
_WARM_SHARE = 1 / 3


class ExplainCallback(Callback):
    """Fits a lens as the classifier learns, and logs what it says of a few images.

    The first lens is fitted in full; each later one begins with the last and takes a third of the steps. Every
    logger of the trainer gets the means of the fidelity and the time that this took, and, where it takes them, a
    picture of each image of the panel; W&B a table of them, and MLflow the report among its artefacts. The training
    is not touched: weights, buffers, gradients, optimisers and random numbers are, bit for bit, what they are
    without the callback. Where no lens can be fitted, as while the network still puts everything into one class, or
    memory runs out, it warns and the training goes on.

    Args:
        backend: name of a backend, or a backend object.
        panel: ``(N, *S)`` the images to explain, in the classifier's own normalisation.
        every_n_epochs: epochs of training between two explanations.
        data: what the lens is fitted on, in any form that :func:`xlens.fit` takes; None for the data set behind the
            trainer's own train loader. One that keeps random state of its own should not be shared.
        classifier: takes the LightningModule and returns the classifier in it, e.g.
            ``lambda module: xlens.Classifier(module.net, class_names=names)``; None for the module itself, whose
            ``forward`` then returns logits.
        warm_steps: the backend's ``steps`` for a lens that begins with the last one; None for a third.
        mask: how each lens's mask is fitted; None for the defaults.
        seed: seeds the lens.
        **options: fields of the backend.

    Attributes:
        explainer: the last explainer, or None. It is of the classifier as it was after the epoch of its fit, and
            says so when it is asked, or saved, after the classifier has learned more.
        explanation: its explanation of the panel, or None.
        seconds: how long fitting, explaining and drawing have taken so far.

    Raises:
        OptionError: an option is outside its constraint, all faults in one error; or, when the training begins, the
            train loader has no data set that can be gone through a second time.
        ModelError: when the training begins, the panel does not go through the classifier.
        MissingExtraError: ``import xlens.integrations.lightning`` without the package ``lightning``.

    >>> from xlens.integrations.lightning import ExplainCallback
    >>> ExplainCallback(backend="medxgan", panel=images[:4], every_n_epochs=2, steps=200).every_n_epochs
    2
    """

    def __init__(
        self,
        backend: str | Backend,
        panel: Tensor,
        *,
        every_n_epochs: int = 1,
        data: Any = None,
        classifier: Callable[[LightningModule], torch.nn.Module | Classifier] | None = None,
        warm_steps: int | None = None,
        mask: MaskOptions | None = None,
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__()
        faults = [
            f"{name} must be an int >= 1, got {value!r}"
            for name, value in {"every_n_epochs": every_n_epochs, "warm_steps": warm_steps}.items()
            if (value is not None or name != "warm_steps") and not is_count(value)
        ]
        if (number := whole(seed)) is None or not 0 <= number < 2**63:
            faults.append(f"seed must be an int >= 0 and < 2**63, got {seed!r}")
        if mask is not None and not isinstance(mask, MaskOptions):
            faults.append(f"mask must be xlens.MaskOptions(...) or None, got {mask!r}")
        if not isinstance(panel, Tensor) or panel.dim() < 2 or len(panel) == 0:
            faults.append(f"panel must be a tensor (N, *S) of at least one image, got {_describe(panel)}")
        kind = load_backend(backend) if isinstance(backend, str) else type(backend)
        if warm_steps is not None and isinstance(kind, type) and issubclass(kind, Backend) and not _has_steps(kind):
            faults.append(f"warm_steps: the backend {kind.name!r} has no steps")
        self.backend = as_backend(backend, options, faults)
        self.panel, self.every_n_epochs, self.data, self.seed = panel, every_n_epochs, data, seed
        self.warm_steps, self.mask = warm_steps, mask
        self.explainer: Explainer | None = None
        self.explanation: Explanation | None = None
        self.seconds = 0.0
        self._find = classifier or (lambda module: module)
        self._trains_for: set[int] = set()
        self._began = 0.0
        self._without_pictures: set[type] = set()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check, before an epoch is spent, that the panel goes through the classifier and that there are data."""
        self._began = time.perf_counter()
        classifier = as_classifier(self._find(pl_module))
        # The data set may draw random numbers, as augmentations do.
        with seeded(None), classifier.frozen(), torch.no_grad():
            first = next(iter(self._source(trainer).batches(1)))
            if first.inputs.shape[1:] != self.panel.shape[1:]:
                raise OptionError(
                    "ExplainCallback: panel and data are of different shapes",
                    given=f"{tuple(self.panel.shape[1:])} and {tuple(first.inputs.shape[1:])}",
                    do="prepare the images of the panel as those that the lens is fitted on",
                )
            classify(classifier, Batch(self.panel.to(classifier.device)), [])

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Fit, explain and log, every `every_n_epochs` epochs."""
        if (trainer.current_epoch + 1) % self.every_n_epochs:
            return
        began = time.perf_counter()
        # Loggers may draw random numbers, e.g. for names of files.
        with seeded(None):
            with _harmless(f"no explanation after epoch {trainer.current_epoch}"):
                self.explanation = None
                self._explain(trainer, pl_module)
            if self.explanation is not None:
                self._log_figures(trainer)
            self.seconds += time.perf_counter() - began
            self._log_metrics(trainer)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint of the training keeps: the time. A lens begins anew after resuming."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the time from a checkpoint."""
        self.seconds = state_dict["seconds"]

    def _explain(self, trainer: Trainer, module: LightningModule) -> None:
        backend = self._warm() if self.explainer is not None else self.backend
        self.explainer = fit(
            self._find(module),
            self._source(trainer),
            backend,
            start_from=self.explainer,
            mask=self.mask,
            seed=self.seed,
            on_step=self._note,
            progress=False,
        )
        with warnings.catch_warnings():
            # What does not hold stands in the picture and in the figures of each epoch.
            warnings.simplefilter("ignore", XlensWarning)
            self.explanation = self.explainer.explain(self.panel)

    def _warm(self) -> Backend:
        """Return the backend for a lens that begins with the last one."""
        if self.warm_steps is not None:
            return _with_steps(self.backend, self.warm_steps)
        # A backend that trains nothing may mean something else by its steps.
        steps = getattr(self.backend, "steps", None) if _has_steps(self.backend) else None
        if steps is not None and steps in self._trains_for:
            return _with_steps(self.backend, max(1, round(steps * _WARM_SHARE)))
        return self.backend

    def _note(self, event: StepEvent) -> None:
        self._trains_for.add(event.total)

    def _source(self, trainer: Trainer) -> Any:
        if self.data is not None:
            return as_data(self.data)
        loader = trainer.train_dataloader
        if not isinstance(loader, DataLoader) or not as_data(loader.dataset).indexed:
            raise OptionError(
                "ExplainCallback: there is no data set to fit a lens on",
                given=f"a train loader of type {type(loader).__name__}",
                allowed="one torch DataLoader over a data set with a length",
                do="pass data=...",
            )
        return as_data(loader.dataset)

    def _log_figures(self, trainer: Trainer) -> None:
        if not trainer.is_global_zero:
            return
        place = {"epoch": trainer.current_epoch, "step": trainer.global_step}
        figures = []
        with _harmless("no pictures"):
            figures = [self.explanation.plot(i) for i in range(len(self.explanation))] if self.explanation else []
        for logger in trainer.loggers:
            with _harmless(f"no pictures in {type(logger).__name__}"):
                taken = [log_figure(logger, f"xlens/panel-{i}", one, **place) for i, one in enumerate(figures)]
                if self.explanation is not None:
                    log_explanation(logger, "xlens/panel", self.explanation, **place)
                if not all(taken) and type(logger) not in self._without_pictures:
                    self._without_pictures.add(type(logger))
                    warnings.warn(
                        f"ExplainCallback: {type(logger).__name__} gets figures of fidelity and no pictures; "
                        "lightning's own TensorBoardLogger, WandbLogger, MLFlowLogger and CSVLogger do",
                        XlensWarning,
                        stacklevel=2,
                    )

    def _log_metrics(self, trainer: Trainer) -> None:
        metrics = {
            "xlens/seconds": self.seconds,
            "xlens/share_of_time": self.seconds / max(time.perf_counter() - self._began, 1e-9),
        }
        if self.explanation is not None:
            fidelity = self.explanation.fidelity
            for field in dataclasses.fields(fidelity):
                metrics[f"xlens/{field.name}"] = float(getattr(fidelity, field.name).double().mean())
            metrics["xlens/trustworthy"] = float(self.explanation.trustworthy.double().mean())
        for logger in trainer.loggers:
            with _harmless(f"no figures in {type(logger).__name__}"):
                logger.log_metrics(metrics, step=trainer.global_step)


@contextmanager
def _harmless(what: str) -> Iterator[None]:
    """Within this context a fault becomes a warning: running out of memory, say, must not end a training."""
    try:
        yield
    except Exception as fault:  # noqa: BLE001 - whatever it is, the training is worth more
        warnings.warn(f"ExplainCallback: {what}: {type(fault).__name__}: {fault}", XlensWarning, stacklevel=4)


def _has_steps(backend: Backend | type[Backend]) -> bool:
    return any(field.name == "steps" for field in dataclasses.fields(backend))


def _with_steps(backend: Backend, steps: int) -> Backend:
    return dataclasses.replace(cast(Any, backend), steps=steps)


def _describe(value: Any) -> str:
    return f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
