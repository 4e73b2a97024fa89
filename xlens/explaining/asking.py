"""What asks a lens: chosen once, by what the lens decodes to.

Each kind is a class with the methods of ``OnInputs``; the type checker holds whoever uses one to what all have.
"""

from __future__ import annotations

from xlens.explaining.on_edits import OnEdits
from xlens.explaining.on_inputs import OnInputs
from xlens.explaining.on_layer import OnLayer
from xlens.fitted import Fitted

__all__ = ["Asks", "asks"]

Asks = OnInputs | OnLayer | OnEdits

_KINDS: dict[str, type[OnInputs] | type[OnLayer] | type[OnEdits]] = {
    "inputs": OnInputs,
    "layer": OnLayer,
    "edits": OnEdits,
}


def asks(fitted: Fitted) -> Asks:
    """Return what asks the lens: it decodes to inputs, to a hidden layer, or edits inputs directly."""
    return _KINDS[fitted.lens.decodes_to](fitted)
