"""What pulls the codes of the classes apart."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from xlens.metrics import mean_embedding_statistic

__all__ = ["Statistic", "hardly_compared", "logistic_separation", "mean_embedding_separation"]

#: The share of each class that serves as locations.
_PROTOTYPES = 0.25
#: A class with fewer rows in the batch, or that leaves fewer for the rest, is not compared.
_FEWEST = 4
_RIDGE = 1e-3


@dataclass(frozen=True)
class Statistic:
    """Which form of the mean embedding statistic Lambda is maximised.

    Args:
        logarithm: log(1 + Lambda), since Lambda grows without bound as classes become tight; the paper has Lambda.
        nu: scale of the linear kernel.
        gamma: what is added to the covariance's diagonal (paper); None: a thousandth of its mean, and nu cancels.
    """

    logarithm: bool = True
    nu: float = 1.0
    gamma: float | None = None

    def __call__(self, x: Tensor, y: Tensor, locations: Tensor) -> Tensor:
        """Return it for two samples ``(n, d)`` and ``(m, d)`` at locations ``(J, d)``, as ``()`` float64."""
        if self.gamma is None:
            found = mean_embedding_statistic(x, y, locations, ridge=_RIDGE)
        else:
            found = self._with_gamma(*(self.nu * rows.double() @ locations.double().T for rows in (x, y)))
        return found.log1p() if self.logarithm else found

    def _with_gamma(self, first: Tensor, second: Tensor) -> Tensor:
        n1, n2 = len(first), len(second)
        difference = first.mean(0) - second.mean(0)
        pooled = ((n1 - 1) * first.T.cov() + (n2 - 1) * second.T.cov()) / (n1 + n2 - 2)
        ridged = pooled + cast(float, self.gamma) * torch.eye(len(pooled)).to(pooled)
        return n1 * n2 / (n1 + n2) * difference @ torch.linalg.solve(ridged, difference)


def mean_embedding_separation(
    codes: Tensor, classes: Tensor, generator: torch.Generator, statistic: Statistic | None = None
) -> Tensor | None:
    """Return log(1 + Lambda), the mean over one-vs-rest comparisons; None where no class can be compared.

    Lambda is the mean embedding statistic with a linear kernel. A random quarter of each side are its locations,
    detached and left out of the means. Any backend may add it to its loss, not this one alone.

    Args:
        codes: ``(n, d)``.
        classes: ``(n,)``.
        generator: draws the locations.
        statistic: its form; None for the logarithm with a relative ridge.
    """
    statistic = statistic or Statistic()
    found = []
    present = classes.unique().tolist()
    # With two classes both comparisons are the same.
    for c in present if len(present) > 2 else present[:1]:
        sides = [(classes == c).nonzero()[:, 0], (classes != c).nonzero()[:, 0]]
        if min(map(len, sides)) < _FEWEST:
            continue
        means, locations = [], []
        for side in sides:
            drawn = side[torch.randperm(len(side), generator=generator, device=codes.device)]
            count = max(1, int(_PROTOTYPES * len(side)))
            locations.append(codes[drawn[:count]].detach())
            means.append(codes[drawn[count:]])
        found.append(statistic(means[0], means[1], torch.cat(locations)))
    return torch.stack(found).mean().to(codes.dtype) if found else None


def hardly_compared(probabilities: Tensor, rows: float) -> list[int]:
    """Return the classes of which batches hold too little for :func:`mean_embedding_separation`.

    Args:
        probabilities: ``(n, K)`` of each input's class.
        rows: in a batch.
    """
    usual = rows * probabilities.mean(0)
    present = probabilities.argmax(1).unique().tolist()
    return [c for c in present if float(usual[c]) < _FEWEST]


def logistic_separation(codes: Tensor, classes: Tensor, num_classes: int) -> Tensor:
    """Return the log loss of a classifier whose plane is fixed, in units of its value at chance.

    Two classes: the logit is the sum of the code (w = 1). More: each class sums its own block of the code.

    Args:
        codes: ``(n, d)``.
        classes: ``(n,)``.
        num_classes: K.
    """
    if num_classes == 2:
        loss = F.binary_cross_entropy_with_logits(codes.sum(1), classes.to(codes.dtype))
    else:
        blocks = codes.tensor_split(num_classes, 1)
        loss = F.cross_entropy(torch.stack([block.sum(1) for block in blocks], 1), classes)
    return loss / math.log(num_classes)
