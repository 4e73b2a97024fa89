"""Fitting the mask: the smallest area in which the lens's change flips the classifier."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Mapping
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from xlens.classifier.classifier import Classifier
from xlens.classifier.margins import margin_over_rest
from xlens.contracts.backend import Run, Spec
from xlens.contracts.lens import Lens
from xlens.counterfactual.carry import carried, clamped
from xlens.counterfactual.mask import EditMask
from xlens.counterfactual.mask_options import MaskOptions, is_large
from xlens.counterfactual.mask_pool import MaskPool, pool_size
from xlens.data import Batch, Data
from xlens.training.trainer import Trainer

__all__ = ["MASK_PHASE", "MaskCost", "MaskOptions", "cost_of_mask", "fit_edit_mask", "wants_mask"]

#: What the mask's training is called.
MASK_PHASE = "mask"
#: Evidence that takes less than the first area is local: there, the smallest edit that flips the classifier is
#: sought. From the second on it is spread out, and nothing is gained by trimming: there, an edit counts as flipped
#: from half of the wanted margin on, which other classifiers confirm far more often.
_LOCAL_AREA, _SPREAD_AREA = 0.10, 0.18
_SPREAD_REACH = 0.5
_DUAL_RATE = 0.15
#: Inputs that such a lens encodes, and steps that are taken, to see what a mask costs.
_SEARCHED, _TIMED = 8, 3


def wants_mask(lens: Lens, spec: Spec, options: MaskOptions | None) -> bool:
    """Return whether a mask is fitted: inputs are images that the lens decodes to, and it or the user wants one."""
    return spec.is_image and lens.decodes_to == "inputs" and (options is not None or lens.masked)


def fit_edit_mask(
    classifier: Classifier,
    lens: Lens,
    data: Data,
    run: Run,
    sample: Tensor,
    earlier: EditMask | None = None,
    options: MaskOptions | None = None,
) -> EditMask:
    """Fit the mask, with the classifier and the lens frozen.

    Minimises the area and the change subject to the classifier flipping. The weight of flipping is a dual variable
    that settles where the wanted share of inputs flips, among those that G(z0) itself flips. The margin that it is
    pushed to is the median that the classifier gives to real inputs of the contrast class: an edit at which it
    merely flips convinces no other classifier.

    Args:
        classifier: the frozen classifier.
        lens: the fitted lens, in eval mode.
        data: the data.
        run: circumstances of the fit.
        sample: some inputs, for the statistics of the classifier's features.
        earlier: the mask to begin with; of another size, as around another architecture, it is left aside.
        options: how it is fitted.
    """
    spec = run.spec
    wanted = MaskOptions() if options is None else options
    plan = wanted.plan(spec)
    mask = EditMask(classifier, spec.shape[0], spec.num_classes, sample.to(run.device)).to(
        run.device, torch.float32
    )
    warm = earlier is not None and _begin(mask, earlier)
    steps = min(plan.warm_start_steps, plan.steps) if warm else plan.steps
    low, high = spec.per_channel("minimum").to(run.device), spec.per_channel("maximum").to(run.device)
    span = float(spec.span().mean())
    pool = MaskPool.of(classifier, lens, data, run, plan.pool, plan.read, mask if is_large(spec) else None)
    trainer = Trainer(
        # What it starts from is none of the lens's networks, and was taken above.
        dataclasses.replace(run, start_from=None),
        MASK_PHASE,
        networks={"mask": mask},
        optimizers={"mask": torch.optim.Adam(mask.parameters(), 3e-3)},
        steps=steps,
        schedule=lambda done: min(1.0, (1 - done) / 0.4),
        clip=1.0,
    )

    def step(batch: Batch) -> Mapping[str, Tensor]:
        some = pool.take(cast(Tensor, batch.index).cpu(), run.device)
        opened = trainer.networks["mask"](
            some.inputs, some.reconstruction, some.decoded, some.contrast, some.maps or None
        )
        edited = carried("masked", some.inputs, some.reconstruction, some.decoded, opened.sigmoid())
        edited = clamped(edited, some.inputs, low, high)
        margin = margin_over_rest(classifier(edited), some.contrast)
        area = opened.sigmoid().flatten(1).mean(1)
        change = (edited - some.inputs).abs().flatten(1).mean(1) / span
        saturated = F.relu(opened.abs() - 5).square().flatten(1).mean(1)
        flip = some.can_flip * F.softplus(some.goal - margin)
        weight = mask.log_lambda.exp()[some.contrast]
        loss = ((4 * area + 3 * change + 0.05 * saturated + weight * flip) / (1 + weight)).mean()
        trainer.minimise(loss, "mask")
        _follow_area(mask, area.detach(), some)
        if trainer.step_index == 3 * steps // 5:
            spread = (mask.area - _LOCAL_AREA) / (_SPREAD_AREA - _LOCAL_AREA)
            mask.reach.copy_(_SPREAD_REACH * spread.clamp(0, 1))
        reached = some.can_flip * (margin > mask.reach[some.contrast] * some.goal)
        _dual_step(mask.log_lambda, reached.detach(), some, wanted.flip_share)
        return {"area": area.mean(), "flips": (some.can_flip * (margin > 0)).mean(), "loss": loss}

    trainer.fit(Data(pool.inputs), step, batch_size=plan.batch_size)
    return mask.eval()


@dataclasses.dataclass(frozen=True)
class MaskCost:
    """What fitting a mask takes.

    Args:
        steps: training steps.
        step: seconds of one.
        pool: seconds in which the inputs that it is fitted on are encoded and decoded.
        bytes: main memory in which they are kept.
    """

    steps: int
    step: float
    pool: float
    bytes: int


def cost_of_mask(
    classifier: Classifier, lens: Lens, run: Run, sample: Tensor, warm: bool, options: MaskOptions | None
) -> MaskCost:
    """Return what :func:`fit_edit_mask` will take, from a few steps of a mask that is thrown away.

    Args:
        classifier: the frozen classifier.
        lens: a lens of the same kind, which need not be trained.
        run: circumstances of the fit.
        sample: some inputs; the data themselves are not read.
        warm: whether the mask will begin from an earlier one.
        options: how it will be fitted.
    """
    wanted = MaskOptions() if options is None else options
    plan = wanted.plan(run.spec)
    rows = max(plan.read, plan.batch_size) if lens.encodes_directly else _SEARCHED
    few, seconds = Data(sample[:rows]), []
    run = dataclasses.replace(
        run, output_dir=None, resume=False, on_step=None, progress=False, start_from=None, over=None,
        timed=lambda _phase, _steps, step: seconds.append(step),
    )  # fmt: skip
    # Once for the warm-up, and once by the clock.
    MaskPool.of(classifier, lens, Data(sample[:1]), run, 1, plan.read)
    began = time.perf_counter()
    MaskPool.of(classifier, lens, few, run, rows, plan.read)
    pool = (time.perf_counter() - began) / min(rows, len(sample))
    short = dataclasses.replace(wanted, steps=_TIMED, pool=rows)
    fit_edit_mask(classifier, lens, few, run, sample, None, short)
    steps = min(plan.warm_start_steps, plan.steps) if warm else plan.steps
    size = pool_size(run, lens, plan.pool)
    return MaskCost(steps, seconds[0], pool * size, 3 * 4 * size * math.prod(run.spec.shape))


def _begin(mask: EditMask, earlier: EditMask) -> bool:
    """Copy an earlier mask, but for the statistics of the classifier's features, which are the classifier's own;
    whether it fits."""
    known = {key: value for key, value in earlier.state_dict().items() if not key.startswith("maps.")}
    own = {key: value for key, value in mask.state_dict().items() if not key.startswith("maps.")}
    if {key: value.shape for key, value in known.items()} != {key: value.shape for key, value in own.items()}:
        return False
    mask.load_state_dict(known, strict=False)
    return True


@torch.no_grad()
def _follow_area(mask: EditMask, area: Tensor, some: MaskPool) -> None:
    """Keep a running mean, per contrast class, of the area that flips the classifier."""
    counts = torch.zeros_like(mask.area).index_add_(0, some.contrast, some.can_flip)
    sums = torch.zeros_like(mask.area).index_add_(0, some.contrast, some.can_flip * area)
    seen = counts > 0
    mask.area[seen] = mask.area[seen].lerp(sums[seen] / counts[seen], 0.05)


@torch.no_grad()
def _dual_step(log_lambda: Tensor, reached: Tensor, some: MaskPool, share: float) -> None:
    """Raise the weight of flipping for classes that too few inputs reach, and lower it for the others."""
    counts = torch.zeros_like(log_lambda).index_add_(0, some.contrast, some.can_flip)
    hits = torch.zeros_like(log_lambda).index_add_(0, some.contrast, reached)
    seen = counts > 0
    missing = share - hits[seen] / counts[seen]
    # Rare classes are judged by few inputs, so their step is smaller.
    rate = _DUAL_RATE * (counts[seen] / counts.sum() * int(seen.sum())).clamp(max=1)
    log_lambda[seen] = (log_lambda[seen] + rate * missing).clamp(-4, 4)
