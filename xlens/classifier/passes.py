"""Passes of the user's classifier, counted: inputs that it was asked about, and gradients that went back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves

from xlens.classifier.classifier import Classifier
from xlens.classifier.hooks import of_this_thread

__all__ = ["Passes", "counted"]


@dataclass
class Passes:
    """Inputs that a classifier was asked about, and inputs that gradients went back to.

    Args:
        forward, backward: inputs, and not batches.
    """

    forward: int = 0
    backward: int = 0

    def __str__(self) -> str:
        """Return both numbers in short.

        >>> str(Passes(12_345, 678))
        '12.3k/678'
        """
        return f"{_short(self.forward)}/{_short(self.backward)}"

    def facts(self) -> dict[str, int]:
        """Return both as plain JSON."""
        return {"forward": self.forward, "backward": self.backward}


@contextmanager
def counted(classifier: Classifier) -> Iterator[Passes]:
    """Context in which the passes of the whole classifier are counted, within its ``frozen()``.

    What runs behind a hidden layer alone is not counted, nor are copies of the model that are trained along.

    Args:
        classifier: the classifier; passes of this thread count.

    >>> import torch
    >>> from xlens import Classifier
    >>> classifier = Classifier(torch.nn.Linear(4, 3))
    >>> with counted(classifier) as passes:
    ...     classifier(torch.zeros(5, 4))[:, 0].sum().backward()
    ...     with torch.no_grad():
    ...         _ = classifier(torch.zeros(2, 4))
    >>> passes.facts()
    {'forward': 7, 'backward': 5}
    """
    passes = Passes()

    def count(_module: Any, given: Any, kwargs: Any, output: Any) -> None:
        inputs = next((one for one in tree_leaves((given, kwargs)) if isinstance(one, Tensor)), None)
        number = 1 if inputs is None or not inputs.dim() else len(inputs)
        passes.forward += number
        followed = [one for one in tree_leaves(output) if isinstance(one, Tensor) and one.requires_grad]
        if followed:

            def back(_gradient: Tensor) -> None:
                passes.backward += number

            followed[0].register_hook(back)

    handle = classifier.model.register_forward_hook(of_this_thread(count), with_kwargs=True)
    try:
        yield passes
    finally:
        handle.remove()


def _short(number: int) -> str:
    return str(number) if number < 1000 else f"{number / 1000:.3g}k" if number < 1e6 else f"{number / 1e6:.3g}M"
