"""The autoencoders that the user has handed over, by name.

A backend is its options, and options are plain values that are saved as JSON. So the option is a *name*, and the
module behind it is handed over in the running program: before fitting, and again before loading. What is saved is
the module's weights, as the lens's own; its architecture is whatever module the user registers under that name.
Nothing is pickled, and no file says what code is to be run.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from xlens.errors import OptionError, UnsupportedError, did_you_mean

__all__ = ["decoded", "encoded", "register", "registered"]

_known: dict[str, nn.Module] = {}


def register(autoencoder: nn.Module, name: str | None = None) -> str:
    """Hand over an autoencoder, and return the name under which ``LatentShift(autoencoder=name)`` finds it.

    Args:
        autoencoder: a module with ``encode`` and ``decode``. They may return tensors, tuples whose first element is
            one, or objects as diffusers' ``AutoencoderKL`` does (``.latent_dist`` with ``mode()``, ``.latents``,
            ``.sample``). It takes inputs in the classifier's normalisation.
        name: how to call it; the class's name if None. A name that you give and that is taken goes to the new one.

    Raises:
        OptionError: no module, or one without ``encode`` and ``decode``; a second of a class without a name.
    """
    if not isinstance(autoencoder, nn.Module) or not all(
        callable(getattr(autoencoder, method, None)) for method in ("encode", "decode")
    ):
        raise OptionError(
            "latentshift: this is no autoencoder",
            given=type(autoencoder).__name__,
            allowed="a torch.nn.Module with encode(inputs) and decode(latents)",
        )
    default = type(autoencoder).__name__
    # Lenses find their autoencoder by name, so another must not come under it unasked.
    if not name and _known.get(default, autoencoder) is not autoencoder:
        raise OptionError(
            f"latentshift: another autoencoder is called {default!r} already",
            given=f"a second {default} without a name",
            do="name it: register(autoencoder, 'second'), or LatentShift.of(autoencoder, name='second')",
        )
    name = name or default
    _known[name] = autoencoder
    return name


def registered(name: str) -> nn.Module:
    """Return a copy of the autoencoder of that name; of the only one if the name is empty.

    Raises:
        OptionError: none of that name, or several where none was named.
    """
    if not name and len(_known) == 1:
        (name,) = _known
    if name not in _known:
        wrong = f"there is no autoencoder {name!r}.{did_you_mean(name, _known)}" if name else "which autoencoder?"
        raise OptionError(
            f"latentshift: {wrong}",
            allowed=", ".join(_known) or "none is registered",
            do="xlens_latentshift.register(autoencoder, name), before fitting and before loading",
        )
    # A copy, because a lens is moved, frozen and filled with saved weights, and the module is the user's.
    return copy.deepcopy(_known[name])


def encoded(autoencoder: nn.Module, inputs: Tensor) -> Tensor:
    """Return latents ``(N, *L)``: the mode where the autoencoder gives a distribution."""
    found = autoencoder.encode(inputs)
    distribution = getattr(found, "latent_dist", found)
    if callable(getattr(distribution, "mode", None)) and not isinstance(distribution, Tensor):
        return distribution.mode()
    return _tensor(found, "encode", "latents", "latent")


def decoded(autoencoder: nn.Module, latents: Tensor) -> Tensor:
    """Return inputs ``(N, *S)``."""
    return _tensor(autoencoder.decode(latents), "decode", "sample")


def _tensor(found: Any, method: str, *names: str) -> Tensor:
    found = next((getattr(found, name) for name in names if isinstance(getattr(found, name, None), Tensor)), found)
    if isinstance(found, tuple | list) and found:
        found = found[0]
    if not isinstance(found, torch.Tensor):
        raise UnsupportedError(
            f"latentshift: cannot find the tensor in what {method} returns",
            given=type(found).__name__,
            allowed=f"a tensor, a tuple whose first element is one, or an object with .{' or .'.join(names)}",
        )
    return found
