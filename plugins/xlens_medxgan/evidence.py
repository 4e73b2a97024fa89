"""Class evidence in the code: blocks, shells, and what the classifier should say of them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xlens import Spec

__all__ = ["Evidence"]

#: Real inputs may carry somewhat more evidence than the median of their class.
_MOST = 1.25


class Evidence(nn.Module):
    """K - 1 code blocks, one per class but the reference class, at most one of them not zero.

    A block holds r * u: r is the amount of evidence and u its kind, a point on the sphere of radius
    sqrt(d2). r = 0 is the reference class at its median margin, r = 1 the block's class at its own, and
    between them the classifier's margin is asked to rise evenly.

    Args:
        spec: the classes and the classifier's median margins on real inputs.
        reference: the reference class.
        block: width d2 of a block.
        gaussian: u is drawn from N(0, I), as in the paper, and the generator is not told r beside the blocks.
    """

    margins: Tensor
    below: Tensor
    above: Tensor
    classes: Tensor
    seen: Tensor
    drawable: Tensor

    def __init__(self, spec: Spec, reference: int, block: int, gaussian: bool = False) -> None:
        super().__init__()
        self.reference, self.block, self.num_classes = reference, block, spec.num_classes
        self.gaussian = gaussian
        seen = (torch.tensor(spec.class_margins) > 0).any(1)
        margins = spec.usual_margins()
        self.register_buffer("margins", margins, persistent=False)
        self.register_buffer("below", margins[reference], persistent=False)
        self.register_buffer("above", margins[:, reference], persistent=False)
        classes = [c for c in range(spec.num_classes) if c != reference]
        self.register_buffer("classes", torch.tensor(classes), persistent=False)
        # Classes that the classifier gives to some input; no others are drawn, or aimed at, while training.
        self.register_buffer("seen", seen, persistent=False)
        drawable = [c for c in classes if bool(seen[c])] or classes
        self.register_buffer("drawable", torch.tensor(drawable), persistent=False)

    @property
    def width(self) -> int:
        """Code dimensions of all blocks together."""
        return self.block * (self.num_classes - 1)

    @property
    def condition_width(self) -> int:
        """Width of what :meth:`condition` returns."""
        return self.width + (0 if self.gaussian else self.num_classes - 1)

    def of_logits(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Return the strongest class but the reference ``(N,)`` and the amount of its evidence ``(N,)``."""
        others = logits.clone()
        others[:, self.reference] = -torch.inf
        chosen = others.argmax(1)
        margin = logits.gather(1, chosen[:, None])[:, 0] - logits[:, self.reference]
        amount = (margin + self.below[chosen]) / (self.below[chosen] + self.above[chosen])
        return chosen, amount.clamp(0, _MOST)

    def place(self, classes: Tensor, amount: Tensor, kind: Tensor) -> Tensor:
        """Return the blocks ``(N, (K-1) d2)``: amount times kind in the block of each class, zero elsewhere.

        Args:
            classes: ``(N,)``; the reference class has no block, so its rows are zero.
            amount: ``(N,)``.
            kind: ``(N, d2)``.
        """
        own = (classes[:, None] == self.classes).to(kind.dtype)
        return (own[:, :, None] * (amount[:, None] * kind)[:, None, :]).flatten(1)

    def take(self, blocks: Tensor, classes: Tensor) -> Tensor:
        """Return the block of each row's class, ``(N, d2)``; zero for the reference class."""
        own = (classes[:, None] == self.classes).to(blocks.dtype)
        return (blocks.view(len(blocks), -1, self.block) * own[:, :, None]).sum(1)

    def on_sphere(self, values: Tensor) -> Tensor:
        """Scale vectors ``(N, d2)`` to length sqrt(d2)."""
        return F.normalize(values, dim=1) * self.block**0.5

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw kinds of evidence, ``(n, d2)``."""
        drawn = torch.randn(n, self.block, generator=generator, device=generator.device)
        return drawn if self.gaussian else self.on_sphere(drawn)

    def condition(self, blocks: Tensor) -> Tensor:
        """Return the blocks ``(N, (K-1) d2)``, and unless they are Gaussian the amount in each beside them."""
        if self.gaussian:
            return blocks
        amounts = (blocks.view(len(blocks), -1, self.block).square().mean(2) + 1e-8).sqrt()
        return torch.cat([blocks, 2 * amounts], 1)

    def target(self, classes: Tensor, amount: Tensor, soft: bool = True) -> Tensor:
        """Return the class probabilities that the classifier should give, ``(N, K)``.

        Args:
            classes: ``(N,)`` class of the block.
            amount: ``(N,)`` evidence in it.
            soft: as real inputs have them at that amount; else certain, as in the paper.
        """
        margin = amount * (self.below[classes] + self.above[classes]) - self.below[classes]
        probability = margin.sigmoid() if soft else (amount > 0.5).to(margin.dtype)
        wanted = torch.zeros(len(classes), self.num_classes, device=probability.device)
        wanted[:, self.reference] = 1 - probability
        return wanted.scatter_add_(1, classes[:, None], probability[:, None])
