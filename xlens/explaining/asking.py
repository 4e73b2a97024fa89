"""What asks a lens: chosen once, by what the lens decodes to.

Each kind is a class with the methods of ``OnInputs``; the type checker holds whoever uses one to what all have.
"""

from __future__ import annotations

from xlens.errors import OptionError
from xlens.explaining.on_edits import OnEdits
from xlens.explaining.on_inputs import OnInputs
from xlens.explaining.on_layer import SHOWS, OnLayer, Show
from xlens.fitted import Fitted

__all__ = ["Asks", "Show", "asks"]

Asks = OnInputs | OnLayer | OnEdits

_KINDS: dict[str, type[OnInputs] | type[OnLayer] | type[OnEdits]] = {
    "inputs": OnInputs,
    "layer": OnLayer,
    "edits": OnEdits,
}


def asks(fitted: Fitted, show: Show | None = None, method: str = "explain") -> Asks:
    """Return what asks the lens: it decodes to inputs, to a hidden layer, or edits inputs directly.

    Args:
        fitted: classifier and lens.
        show: what is shown for points of a hidden layer; None for real inputs, where there is a layer.
        method: names the caller in errors.

    Raises:
        OptionError: it is neither of the two, or the lens works on no hidden layer.
        UnsupportedError: the layer is to be decoded, and no decoder was trained.
    """
    kind = _KINDS[fitted.lens.decodes_to]
    if show is None:
        return kind(fitted)
    if show not in SHOWS:
        raise OptionError(f"{method}: show must be one of {', '.join(map(repr, SHOWS))}, got {show!r}")
    if kind is not OnLayer:
        raise OptionError(
            f"{method}: show is for lenses on a hidden layer",
            given=f"show={show!r} of a {fitted.backend.name!r} lens that decodes to {fitted.lens.decodes_to}",
            do="leave it out: what this lens makes is shown",
        )
    return OnLayer(fitted, show, method)
