"""What ``fit`` is called with, checked before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xlens.contracts.backend import Backend
from xlens.contracts.numbers import check_seed
from xlens.contracts.options import make
from xlens.counterfactual.mask_options import MaskOptions
from xlens.data import Data, side_info_table
from xlens.errors import DataError, OptionError, UnsupportedError
from xlens.registry.loading import load_backend, offering

__all__ = ["argument_faults", "as_backend", "check_uses", "device_faults", "side_info_rows"]

#: Arguments of ``fit`` beside a backend's options, for spelling suggestions.
_ARGUMENTS = (
    "side_info",
    "over",
    "start_from",
    "supervision",
    "mask",
    "decoder",
    "codec",
    "surrogate",
    "seed",
    "device",
    "output_dir",
    "resume",
    "on_step",
    "progress",
    "mixed_precision",
)


def as_backend(backend: str | Backend, options: dict[str, Any], faults: list[str]) -> Backend:
    """Return the backend of that name with these options, or the backend object as it is.

    Args:
        backend: a name or an object.
        options: fields of the backend, where it is a name.
        faults: what is wrong already, to be named in the same error.

    Raises:
        OptionError: anything is wrong.
        BackendNotFoundError: there is no such backend.
    """
    if isinstance(backend, str):
        return make(load_backend(backend), options, extra=_ARGUMENTS, faults=faults)
    if not isinstance(backend, Backend):
        raise OptionError(
            "fit: backend is neither a name nor a backend object",
            given=type(backend).__name__,
            allowed="a name from xlens.backends(), or an instance of a Backend",
        )
    if options:
        raise OptionError(
            "fit: options beside a backend object",
            given=", ".join(options),
            do=f"set them on the object: {type(backend).__name__}({', '.join(f'{k}=...' for k in options)})",
        )
    if faults:
        raise OptionError("fit: " + "; ".join(faults))
    return backend


def argument_faults(
    supervision: str,
    mask: Any,
    seed: int,
    device: Any,
    output_dir: str | Path | None,
    resume: bool,
    mixed_precision: str,
) -> list[str]:
    """Return, in words, what is wrong with the arguments of ``fit``."""
    faults = []
    if mask is not None and not isinstance(mask, MaskOptions):
        faults.append(f"mask must be xlens.MaskOptions(...) or None, got {mask!r}")
    if supervision not in ("classifier", "labels"):
        faults.append(f"supervision must be 'classifier' or 'labels', got {supervision!r}")
    try:
        check_seed(seed)
    except OptionError as fault:
        faults.append(str(fault).rstrip("."))
    if mixed_precision not in ("no", "bf16"):
        faults.append(f"mixed_precision must be 'no' or 'bf16', got {mixed_precision!r}")
    if resume and output_dir is None:
        faults.append("resume=True needs the output_dir of the interrupted run")
    if output_dir is not None and Path(output_dir).exists() and not Path(output_dir).is_dir():
        faults.append(f"output_dir must be a folder, got the file {str(output_dir)!r}")
    return faults + device_faults(device)


def device_faults(device: Any) -> list[str]:
    """Return, in words, why torch cannot use a device here."""
    if device is None:
        return []
    try:
        if torch.device(device).type == "mps":
            return ["device 'mps' has no float64, in which attributions are summed; use 'cpu' or 'cuda'"]
        torch.empty(0, device=device)
    except (RuntimeError, TypeError, AssertionError, NotImplementedError) as fault:
        says = (str(fault) or type(fault).__name__).splitlines()[0]
        return [f"device must be one that torch can use here, got {device!r} ({says})"]
    return []


def check_uses(backend: Backend, **arguments: Any) -> None:
    """Refuse arguments that the backend makes no use of."""
    for name, value in arguments.items():
        if value is not None and name not in backend.capabilities:
            raise UnsupportedError(
                f"fit: the backend {backend.name!r} does not use {name}",
                allowed=f"backends that do: {', '.join(offering(name)) or 'none is installed'}",
                do=f"leave {name} out, or choose another backend",
            )


def side_info_rows(side_info: Any, data: Data) -> Tensor | None:
    """Return side information ``(n, A)``, or None, and refuse a table that does not fit the data."""
    if side_info is None:
        return None
    table = side_info_table("fit", side_info)
    if not data.indexed or table.dim() != 2 or len(table) != len(data):
        raise DataError(
            "fit: side_info does not fit the data",
            given=tuple(table.shape),
            allowed=f"({len(data)}, A)" if data.indexed else "data with a stable order (a tensor or a Dataset)",
            do="pass one row of attributes per input, NaN where not observed",
        )
    return table
