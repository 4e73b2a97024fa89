"""What a flow lens can be asked beside an explainer's methods."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import xlens
from xlens.data import as_inputs
from xlens_flow.health import inversion_errors
from xlens_flow.lens import FlowLens

__all__ = ["inversion_error"]

_BATCH = 64


def inversion_error(explainer: xlens.Explainer, inputs: Any) -> Tensor:
    """Inversion error ``(N,)``: mean squared error of each input's code, decoded, in squared ranges of the data.

    ``explainer.lens.inversion_error`` is its mean over some inputs of the fit. More ``ode_steps`` make it smaller.

    Args:
        explainer: of a flow lens.
        inputs: ``(N, *S)``.

    Raises:
        UnsupportedError: its lens is of another backend.
        DataError: inputs of another shape, none, or values that are not finite.
    """
    with xlens.asking(explainer, FlowLens, "inversion_error") as lens:
        parts = as_inputs(inputs, lens.spec.shape).to(lens.low.device).split(_BATCH)
        return torch.cat([inversion_errors(lens, part, lens.decode(lens.encode(part))) for part in parts])
