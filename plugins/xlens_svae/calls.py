"""What an SVAE lens can be asked beside an explainer's methods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import xlens
from xlens.contracts import check_count, seeded
from xlens.data import as_inputs
from xlens.errors import DataError
from xlens_svae.lens import SVAELens

__all__ = ["InvarianceTest", "class_probabilities", "invariance_test", "kept_by_head", "redrawn"]

_BATCH = 256


@dataclass(frozen=True)
class InvarianceTest:
    """The paper's Fig. 2 for S standard deviations: the share of variants on which a prediction stays.

    Args:
        scales: ``(S,)`` standard deviations of z2.
        by_classifier: ``(S,)`` of the classifier's prediction on the input.
        by_head: ``(S,)`` of the lens's own, which encodes the variant again, as the paper does.
        distance: ``(S,)`` mean L2 norm of variant less reconstruction: a lens that ignores z2 has none.
    """

    scales: Tensor
    by_classifier: Tensor
    by_head: Tensor
    distance: Tensor


def class_probabilities(
    explainer: xlens.Explainer, inputs: Any, *, draws: int | None = None, seed: int = 0
) -> Tensor:
    """Class probabilities p(y|z1) ``(N, K)``: what the lens itself takes inputs for.

    Args:
        explainer: of an SVAE lens.
        inputs: ``(N, *S)``.
        draws: how many draws of q(z1|x) they are averaged over (paper, eq. 7); None: at the mean of q(z1|x).
        seed: seeds the draws, which all inputs share.

    Raises:
        UnsupportedError: its lens is of another backend.
        OptionError: `draws` is no whole number of at least 1, or the seed is wrong.
        DataError: inputs of another shape, none, or values that are not finite.
    """
    with xlens.asking(explainer, SVAELens, "class_probabilities") as lens:
        x = as_inputs(inputs, lens.spec.shape).to(lens.centres.device)
        return _predicted(lens, x, _noise(lens, draws, seed, "class_probabilities"))


def kept_by_head(
    explainer: xlens.Explainer, inputs: Any, variants: Any, *, draws: int | None = None, seed: int = 0
) -> Tensor:
    """Verdict of the lens's own head ``(N, n)``, bool: whether it predicts on a variant what it does on the input.

    It stands beside ``explainer.invariances(...).kept``, which is the classifier's.

    Args:
        explainer: of an SVAE lens.
        inputs: ``(N, *S)``.
        variants: ``(N, n, *S)``, as ``explainer.invariances(inputs, n).variants``; encoded again.
        draws, seed: as for :func:`class_probabilities`.

    Raises:
        UnsupportedError: its lens is of another backend.
        OptionError: `draws` is no whole number of at least 1, or the seed is wrong.
        DataError: inputs or variants of another shape, none, or values that are not finite.
    """
    with xlens.asking(explainer, SVAELens, "kept_by_head") as lens:
        x = as_inputs(inputs, lens.spec.shape).to(lens.centres.device)
        given = torch.as_tensor(variants)
        if given.dim() != x.dim() + 1 or len(given) != len(x) or given.shape[2:] != x.shape[1:]:
            raise DataError(
                "kept_by_head: the variants do not fit the inputs",
                given=tuple(given.shape),
                allowed=f"({len(x)}, n, *S) with S = {lens.spec.shape}",
                do="pass explainer.invariances(inputs, n).variants",
            )
        flat = as_inputs(given.flatten(0, 1), lens.spec.shape).to(x.device)
        noise = _noise(lens, draws, seed, "kept_by_head")
        own, other = (_predicted(lens, values, noise).argmax(1) for values in (x, flat))
        return other.view(given.shape[:2]) == own[:, None]


def invariance_test(
    explainer: xlens.Explainer,
    inputs: Any,
    scales: Sequence[float] = (0.1, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0),
    n: int = 5,
    *,
    draws: int | None = None,
    seed: int = 0,
) -> InvarianceTest:
    """Invariance test (paper, section 3.0.1): z2 from N(0, s^2), decoded, and judged by classifier and head.

    Args:
        explainer: of an SVAE lens.
        inputs: ``(N, *S)``.
        scales: the standard deviations s.
        n: variants per input.
        draws: as for :func:`class_probabilities`, of the head's predictions.
        seed: seeds everything.

    Raises:
        UnsupportedError: its lens is of another backend.
        OptionError: `n` or `draws` is no whole number of at least 1, or the seed is wrong.
        DataError: inputs of another shape, none, or values that are not finite.
    """
    check_count("invariance_test", n)
    with xlens.asking(explainer, SVAELens, "invariance_test") as lens:
        x = as_inputs(inputs, lens.spec.shape).to(lens.centres.device)
        noise = _noise(lens, draws, seed, "invariance_test")
        codes = torch.cat([lens.encode(part) for part in x.split(_BATCH)])
        rebuilt = torch.cat([lens.decode(part) for part in codes.split(_BATCH)]).unsqueeze(1)
        first = torch.cat([lens.classifier(part).argmax(1) for part in x.split(_BATCH)])
        own = _predicted(lens, x, noise).argmax(1)
        rows = []
        for scale in scales:
            drawn = lens.redrawn(codes, n, float(scale), seeded(seed, x.device)).flatten(0, 1)
            decoded = torch.cat([lens.decode(part) for part in drawn.split(_BATCH)])
            said = torch.cat([lens.classifier(part).argmax(1) for part in decoded.split(_BATCH)]).view(len(x), n)
            head = _predicted(lens, decoded, noise).argmax(1).view(len(x), n)
            moved = (decoded.view(len(x), n, *lens.spec.shape) - rebuilt).flatten(2).norm(dim=2)
            shares = [(said == first[:, None]).float().mean(), (head == own[:, None]).float().mean()]
            rows.append(torch.stack([*shares, moved.mean()]))
        by_classifier, by_head, distance = torch.stack(rows).cpu().T
    return InvarianceTest(torch.tensor([float(s) for s in scales]), by_classifier, by_head, distance)


def redrawn(explainer: xlens.Explainer, inputs: Any, n: int, scale: float = 1.0, *, seed: int = 0) -> Tensor:
    """Variants ``(N, n, *S)`` with z2 from N(0, scale^2) and z1 held, decoded: the paper's invariance test.

    ``explainer.invariances`` draws z2 around the input's own instead.

    Args:
        explainer: of an SVAE lens.
        inputs: ``(N, *S)``.
        n: variants per input.
        scale: standard deviation of z2.
        seed: seeds the draw.

    Raises:
        UnsupportedError: its lens is of another backend.
        OptionError: `n` is no whole number of at least 1, or the seed is wrong.
        DataError: inputs of another shape, none, or values that are not finite.
    """
    check_count("redrawn", n)
    with xlens.asking(explainer, SVAELens, "redrawn") as lens:
        x = as_inputs(inputs, lens.spec.shape).to(lens.centres.device)
        codes = torch.cat([lens.encode(part) for part in x.split(_BATCH)])
        drawn = lens.redrawn(codes, n, scale, seeded(seed, x.device)).flatten(0, 1)
        decoded = torch.cat([lens.decode(part) for part in drawn.split(_BATCH)])
    return decoded.view(len(x), n, *lens.spec.shape)


def _noise(lens: SVAELens, draws: int | None, seed: int, who: str) -> Tensor | None:
    """Return noise ``(draws, d)`` for codes, or None."""
    if draws is None:
        return None
    check_count(who, draws, "draws")
    device = lens.centres.device
    width = lens.model.evidence + lens.model.nuisance
    return torch.randn(draws, width, generator=seeded(seed, device), device=device)


def _predicted(lens: SVAELens, inputs: Tensor, noise: Tensor | None) -> Tensor:
    return torch.cat([lens.predict(part, noise) for part in inputs.split(_BATCH)])
