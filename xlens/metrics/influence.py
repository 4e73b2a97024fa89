"""How much each part of a code decides of the classifier's output: causal influence."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from xlens.errors import DataError, OptionError
from xlens.metrics.classes import Classify, probabilities_of

__all__ = ["causal_influence"]

_BATCH = 256


@torch.no_grad()
def causal_influence(
    classify: Classify,
    decode: Callable[[Tensor], Tensor],
    codes: Tensor,
    parts: Sequence[Sequence[int]],
    *,
    values: int = 24,
    others: int = 24,
    seed: int = 0,
) -> Tensor:
    """Causal influence of each part of the code on the class: information flow ``(F,)`` in nats, at most log K.

    That is ``E_a KL(p(y | part = a) || p(y))``, where ``p(y | part = a)`` is the mean of the classifier's
    probabilities on decodings in which the part is set to a and everything else is drawn on its own, from other
    codes. Every a meets the same draws of everything else: a part that the classifier does not listen to gets 0,
    and not what chance makes of the draws.

    Args:
        classify: maps inputs to logits ``(M, K)``.
        decode: maps codes to what `classify` takes.
        codes: ``(n, d)`` of real inputs, from which parts are drawn with replacement.
        parts: the dimensions of each part.
        values, others: how many a, and how many draws of the rest.
        seed: decides the draws; the same for every part.

    Raises:
        DataError: no codes, or a part that names a dimension that is not there.
        OptionError: a number below 1.

    References:
        O'Shaughnessy et al. (2020), Generative Causal Explanations of Black-box Classifiers.

    >>> import torch
    >>> codes = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    >>> sign = lambda x: torch.stack([x[:, 0], -x[:, 0]], 1) * 100
    >>> causal_influence(sign, lambda z: z, codes, [[0], [1]]).round(decimals=1)
    tensor([0.7000, 0.0000])
    """
    if codes.dim() != 2 or not len(codes):
        raise DataError("causal_influence: not a batch of codes", given=tuple(codes.shape), allowed="(n, d)")
    if min(values, others) < 1:
        raise OptionError(f"causal_influence: values and others must be >= 1, got {values!r} and {others!r}")
    width = codes.shape[1]
    if wrong := [list(part) for part in parts if not part or not all(0 <= i < width for i in part)]:
        raise DataError("causal_influence: no such part", given=wrong[0], allowed=f"dimensions 0 to {width - 1}")
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(len(codes), (values,), generator=generator).to(codes.device)
    rest = torch.randint(len(codes), (others,), generator=generator).to(codes.device)
    found = []
    for part in parts:
        dims = list(part)
        mixed = codes[rest].repeat(values, 1, 1)
        mixed[:, :, dims] = codes[rows][:, None, dims]
        flat = mixed.flatten(0, 1)
        probabilities = torch.cat([probabilities_of(classify, decode(few)) for few in flat.split(_BATCH)]).double()
        given = probabilities.view(values, others, -1).mean(1)
        overall = given.mean(0, keepdim=True)
        terms = given * (given.clamp_min(1e-300).log() - overall.clamp_min(1e-300).log())
        found.append(terms.sum(1).mean().clamp_min(0))
    return torch.stack(found).float() if found else torch.empty(0)
