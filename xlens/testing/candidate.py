"""What is checked: a small instance of a backend, and how to fit one that has learned something."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass, field

from xlens.contracts.backend import Backend
from xlens.counterfactual.mask_options import MaskOptions
from xlens.errors import OptionError

__all__ = ["Candidate", "as_candidate"]


@dataclass(frozen=True)
class Candidate:
    """A backend to check.

    Args:
        backend: an instance that fits quickly, such as ``MyBackend(steps=20)``; it is fitted about eight times.
        learned: an instance that learns the toy world, for the checks of meaning; `backend` itself if None. It is
            fitted once.
        shape: of the toy world's pictures: ``(C, H, W)`` or ``(D,)``, sides of at least 8.
        layer: the hidden layer of the toy world's classifier to fit on, for lenses that decode to one: ``"body.3"``
            is its last convolution, before the ReLU. None for lenses that decode to inputs.
        mask: how the mask of `learned` is fitted; None fits one in 120 steps, of which the toy world needs no more,
            where the lens wants a mask.
        expected_failures: id of a check -> why this backend fails it. Should it pass, that is a failure too, so
            that the list stays true.

    >>> from xlens.testing import Candidate
    >>> from xlens.registry.loading import load_backend
    >>> backend = load_backend("medxgan")(steps=20)
    >>> Candidate(backend, expected_failures={"meaning.counterfactuals_flip_f": "20 steps teach nothing"}).shape
    (2, 8, 10)
    """

    backend: Backend
    learned: Backend | None = None
    # Neither square nor of one channel, so that mixed-up axes show.
    shape: tuple[int, ...] = (2, 8, 10)
    layer: str | None = None
    mask: MaskOptions | None = None
    expected_failures: Mapping[str, str] = field(default_factory=lambda: types.MappingProxyType({}))

    def __post_init__(self) -> None:
        """Refuse what is no backend.

        Raises:
            OptionError: a class, a name or something else instead of an instance.
        """
        for name in ("backend", "learned"):
            value = getattr(self, name)
            if isinstance(value, Backend) or (value is None and name == "learned"):
                continue
            hint = f"call it: {value.__name__}()" if isinstance(value, type) else "pass an instance of your backend"
            raise OptionError(
                f"xlens.testing: {name} is no backend",
                given=repr(value),
                allowed="an instance of a Backend",
                do=hint,
            )


def as_candidate(candidate: Backend | Candidate) -> Candidate:
    """Return `candidate` if it is one, else wrap the backend."""
    return candidate if isinstance(candidate, Candidate) else Candidate(candidate)
