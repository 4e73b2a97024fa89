"""What an SVAE lens can be asked beside an explainer's methods."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import xlens
from xlens.contracts import check_count, seeded
from xlens.data import as_inputs
from xlens_svae.lens import SVAELens

__all__ = ["class_probabilities", "redrawn"]

_BATCH = 256


def class_probabilities(explainer: xlens.Explainer, inputs: Any) -> Tensor:
    """Class probabilities p(y|z1) ``(N, K)``: what the lens itself takes inputs for.

    Args:
        explainer: of an SVAE lens.
        inputs: ``(N, *S)``.

    Raises:
        UnsupportedError: its lens is of another backend.
        DataError: inputs of another shape, none, or values that are not finite.
    """
    with xlens.asking(explainer, SVAELens, "class_probabilities") as lens:
        parts = as_inputs(inputs, lens.spec.shape).to(lens.centres.device).split(_BATCH)
        return torch.cat([lens.class_probabilities(lens.encode(part)) for part in parts])


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
