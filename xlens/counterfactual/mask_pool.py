"""What the mask is fitted on: inputs with what the lens makes of them, computed once."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from xlens.classifier.classifier import Classifier
from xlens.classifier.margins import default_contrast, margin_over_rest
from xlens.contracts.backend import Run
from xlens.contracts.lens import Lens
from xlens.counterfactual.mask import EditMask
from xlens.data import Data
from xlens.training.bar import Bar
from xlens.training.supervision import classifier_logits

__all__ = ["MaskPool", "pool_size"]

#: The least that is taken of a lens whose ``encode`` searches, and the least of any.
_SMALLEST_POOL = 512
#: Values of one input times inputs: 256 MB of float32 for each of three tensors.
_POOL_VALUES = 2**26


@dataclasses.dataclass(frozen=True)
class MaskPool:
    """Inputs with what the lens makes of them, computed once.

    Args:
        inputs, reconstruction, decoded: ``(n, *S)`` x, G(z), G(z0).
        contrast: ``(n,)`` class of G(z0).
        goal: ``(n,)`` margin that the classifier should reach.
        can_flip: ``(n,)`` 1 where the classifier flips on G(z0). Other inputs would only open the mask everywhere.
        maps: the classifier's feature maps of large inputs, as coarse as the mask works, in half precision; of
            small ones none, which are asked for anew in each step.
    """

    inputs: Tensor
    reconstruction: Tensor
    decoded: Tensor
    contrast: Tensor
    goal: Tensor
    can_flip: Tensor
    maps: tuple[Tensor, ...] = ()

    @classmethod
    @torch.no_grad()
    def of(
        cls,
        classifier: Classifier,
        lens: Lens,
        data: Data,
        run: Run,
        most: int,
        read: int,
        mask: EditMask | None = None,
    ) -> MaskPool:
        """Encode and decode inputs until there are enough.

        Args:
            classifier: the frozen classifier.
            lens: the fitted lens.
            data: the data.
            run: circumstances of the fit.
            most: inputs, at most.
            read: inputs at once.
            mask: the mask whose feature maps are kept, where inputs are large.
        """
        size = pool_size(run, lens, most)
        hide = None if run.progress is None else not run.progress
        bar = Bar(total=size, desc="encode", unit="input", disable=hide)
        generator = torch.Generator(run.device).manual_seed(run.seed)
        margins = torch.tensor(run.spec.class_margins, device=run.device)
        rows: list[tuple[Tensor, ...]] = []
        for batch in data.batches(read, generator=torch.Generator().manual_seed(run.seed)):
            batch = batch.to(run.device)
            inputs = batch.inputs
            # What the survey has asked of large inputs is not asked again.
            logits = classifier(inputs) if mask is None else classifier_logits(classifier, run, batch)
            target = logits.argmax(1)
            contrast = _training_contrast(logits, target, lens.reference_class, generator)
            codes = lens.encode(inputs)
            decoded = lens.decode(lens.counterfactual(codes, target, contrast))
            can_flip = (margin_over_rest(classifier(decoded), contrast) > 1).float()
            goal = margins[contrast, target].clamp_min(1.0)
            keep = _useful(target, lens.reference_class, generator)
            made = (inputs, lens.decode(codes), decoded, contrast, goal, can_flip)
            maps = [] if mask is None else mask.coarse_maps(inputs[keep])
            rows.append((*(part[keep].cpu() for part in made), *(one.half().cpu() for one in maps)))
            bar.update(int(keep.sum()))
            if sum(len(row[0]) for row in rows) >= size:
                break
        bar.close()
        inputs, reconstruction, decoded, contrast, goal, can_flip, *maps = (
            torch.cat(parts) for parts in zip(*rows, strict=True)
        )
        return cls(inputs, reconstruction, decoded, contrast, goal, can_flip, tuple(maps))

    def take(self, index: Tensor, device: torch.device) -> MaskPool:
        """Return these inputs on a device."""
        own = {name: part[index].to(device) for name, part in vars(self).items() if name != "maps"}
        return MaskPool(**own, maps=tuple(part[index].to(device, torch.float32) for part in self.maps))


def pool_size(run: Run, lens: Lens, most: int) -> int:
    """Return how many inputs a mask is fitted on, of `most` that are wanted."""
    largest = most if lens.encodes_directly else min(most, _SMALLEST_POOL)
    return max(min(most, _SMALLEST_POOL), min(largest, _POOL_VALUES // math.prod(run.spec.shape)))


def _useful(target: Tensor, reference: int | None, generator: torch.Generator) -> Tensor:
    """Keep a third of the inputs that lack evidence already: what is asked is mostly to take it away."""
    if reference is None:
        return torch.ones_like(target, dtype=torch.bool)
    drawn = torch.rand(len(target), generator=generator, device=target.device)
    return (target != reference) | (drawn < 1 / 3)


def _training_contrast(logits: Tensor, target: Tensor, reference: int | None, generator: torch.Generator) -> Tensor:
    """Half the classes that explaining would choose, half drawn among all others."""
    usual = default_contrast(logits, target, reference)
    n, k = logits.shape
    offset = torch.randint(1, k, (n,), generator=generator, device=logits.device)
    drawn = (target + offset) % k
    coin = torch.rand(n, generator=generator, device=logits.device) < 0.5
    return torch.where(coin, usual, drawn)
