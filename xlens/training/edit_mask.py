"""Fitting the mask: the smallest area in which the lens's change flips f."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from xlens.classifier import Classifier
from xlens.contracts import Lens, Run
from xlens.data import Batch, Data
from xlens.nn.features import margin_over_rest
from xlens.nn.mask import EditMask, carried
from xlens.training.trainer import Trainer

__all__ = ["default_contrast", "fit_edit_mask"]

_STEPS = 280
_BATCH = 64
_FLIP_SHARE = 0.95
_DUAL_RATE = 0.15


def default_contrast(logits: Tensor, target: Tensor, reference: int | None) -> Tensor:
    """Return the class to explain against: the lens's reference class, else f's runner-up, ``(N,)``."""
    others = logits.scatter(1, target.unsqueeze(1), -torch.inf)
    runner_up = others.argmax(1)
    if reference is None:
        return runner_up
    return torch.where(target == reference, runner_up, torch.full_like(target, reference))


def fit_edit_mask(classifier: Classifier, lens: Lens, data: Data, run: Run, sample: Tensor) -> EditMask:
    """Fit the mask, with f and the lens frozen.

    Minimises the area and the change subject to f flipping. The weight of flipping is a dual variable
    that settles where the wanted share of inputs flips, among those that G(z0) itself flips.

    Args:
        classifier: the frozen classifier.
        lens: the fitted lens, in eval mode.
        data: the data.
        run: circumstances of the fit.
        sample: some inputs, for the statistics of f's features.
    """
    spec = run.spec
    mask = EditMask(classifier, spec.shape[0], sample.to(run.device)).to(run.device)
    low, high = spec.per_channel("minimum").to(run.device), spec.per_channel("maximum").to(run.device)
    span = float((high - low).mean())
    trainer = Trainer(
        run,
        "mask",
        networks={"mask": mask},
        optimizers={"mask": torch.optim.Adam(mask.parameters(), 3e-3)},
        steps=_STEPS,
        schedule=lambda done: min(1.0, (1 - done) / 0.4),
        clip=1.0,
    )

    def step(batch: Batch) -> Mapping[str, Tensor]:
        inputs = batch.inputs
        with torch.no_grad():
            logits = classifier(inputs)
            target = logits.argmax(1)
            contrast = _training_contrast(logits, target, lens.reference_class, trainer.generator)
            codes = lens.encode(inputs)
            reconstruction = lens.decode(codes)
            decoded = lens.decode(lens.counterfactual(codes, target, contrast))
            # Inputs that even the whole change does not flip would only open the mask everywhere.
            can_flip = (margin_over_rest(classifier(decoded), contrast) > 1).float()
        opened = trainer.networks["mask"](inputs, reconstruction, decoded)
        edited = carried(inputs, decoded, opened, low, high)
        margin = margin_over_rest(classifier(edited), contrast)
        area = opened.sigmoid().mean()
        change = (edited - inputs).abs().mean() / span
        saturated = F.relu(opened.abs() - 5).square().mean()
        flip = (can_flip * F.softplus(1 - margin)).mean()
        weight = mask.log_lambda.exp()
        loss = (4 * area + 3 * change + 0.05 * saturated + weight * flip) / (1 + weight)
        trainer.minimise(loss, "mask")
        share = (can_flip * (margin > 0)).sum() / can_flip.sum().clamp_min(1)
        mask.log_lambda.add_(_DUAL_RATE * (_FLIP_SHARE - share.detach())).clamp_(-4, 4)
        return {"area": area, "flips": share, "loss": loss}

    trainer.fit(data, step, batch_size=_BATCH)
    return mask.eval()


def _training_contrast(
    logits: Tensor, target: Tensor, reference: int | None, generator: torch.Generator
) -> Tensor:
    """Half the classes that explaining would choose, half drawn among all others."""
    usual = default_contrast(logits, target, reference)
    n, k = logits.shape
    offset = torch.randint(1, k, (n,), generator=generator, device=logits.device)
    drawn = (target + offset) % k
    coin = torch.rand(n, generator=generator, device=logits.device) < 0.5
    return torch.where(coin, usual, drawn)
