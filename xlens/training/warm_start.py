"""Beginning where an earlier lens stands."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from xlens.contracts.lens import Lens
from xlens.errors import OptionError, UnsupportedError

__all__ = ["begin_from"]


def begin_from(networks: Mapping[str, nn.Module], lens: Lens, phase: str) -> None:
    """Copy the weights of an earlier lens into those networks that have the name of one of its modules.

    What helped to train it and was not kept, as critics, begins anew.

    Args:
        networks: name -> network about to be trained.
        lens: the earlier lens.
        phase: name of the stage, for messages.

    Raises:
        UnsupportedError: none of the networks is part of the lens under its name.
        OptionError: a network has other shapes than the earlier one; all of them in one error.
    """
    modules = dict(lens.named_modules())
    # A lens trained as a whole may be called anything.
    found = {name: lens if isinstance(net, Lens) else modules.get(name) for name, net in networks.items()}
    earlier = {name: module for name, module in found.items() if module is not None}
    shared = list(earlier)
    if not shared:
        raise UnsupportedError(
            f"fit: the stage {phase!r} cannot start from an earlier lens",
            given=f"networks {', '.join(networks)}, none of which a {type(lens).__name__} has under that name",
            allowed=", ".join(name for name, _ in lens.named_children()) or "a lens with modules",
            do="leave start_from out; or, as the backend's author, name the Trainer's networks as the lens does",
        )
    faults = [fault for name in shared for fault in _differences(name, networks[name], earlier[name])]
    if faults:
        raise OptionError(
            "fit: start_from is of another size than the new lens",
            given="; ".join(faults[:3]) + (f"; and {len(faults) - 3} more" if len(faults) > 3 else ""),
            do="pass the options it was fitted with: backend=dataclasses.replace(explainer.backend, steps=...)",
        )
    for name in shared:
        networks[name].load_state_dict(earlier[name].state_dict())


def _differences(name: str, network: nn.Module, earlier: nn.Module) -> list[str]:
    new = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    old = {key: tuple(value.shape) for key, value in earlier.state_dict().items()}
    return [
        f"{name}.{key}: {old.get(key, 'not there')} instead of {new.get(key, 'not there')}"
        for key in [*new, *(key for key in old if key not in new)]
        if new.get(key) != old.get(key)
    ]
