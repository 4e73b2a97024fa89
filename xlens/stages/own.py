"""The user's own autoencoder in a saved lens: it is not stored, and known again by its fingerprint."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from torch import nn

from xlens.classifier.fingerprint import Identity, identity_of
from xlens.classifier.normalization import Normalization
from xlens.codec import Autoencoder, as_codec
from xlens.contracts.backend import Spec
from xlens.errors import StorageError

__all__ = ["facts_of", "known_again", "own_autoencoder", "own_faults"]


def own_autoencoder(module: nn.Module, spec: Spec, normalization: Normalization | None) -> Autoencoder:
    """Return the user's module as an autoencoder for such images, held by reference.

    Raises:
        ModelError: it is none.
    """
    codec = as_codec(module, spec, normalization)
    # What is a codec already is somebody's all the same: held, and neither trained nor stored.
    return codec if isinstance(codec, Autoencoder) else Autoencoder(codec)


def facts_of(codec: Autoencoder) -> dict[str, Any]:
    """Return, as plain JSON, what it is known again by."""
    identity = _identity(codec)
    return {
        "name": type(codec.module).__name__,
        "fingerprint": _digest(codec, identity),
        "constants": {**identity.constants},
    }


def known_again(
    facts: Mapping[str, Any] | None, module: Any, spec: Spec, normalization: Any, strict: bool
) -> Autoencoder | None:
    """Return the user's autoencoder that a saved lens was fitted behind; None where it was behind no such one.

    Args:
        facts: of the stage; None where there is none.
        module: what the user passes.
        spec: of the images.
        normalization: what was done to images in [0, 1]; None where nobody said so.
        strict: refuse another autoencoder.

    Raises:
        StorageError: it is missing, of no use, or another one.
        ModelError: it is no autoencoder of such images.
    """
    saved = None if facts is None else facts.get("own")
    if saved is None and module is None:
        return None
    if saved is None:
        raise StorageError(
            "load: codec is for lenses that were fitted behind an autoencoder of your own",
            given=type(module).__name__,
            do="leave codec out: what xlens trained is saved with the lens",
        )
    if module is None:
        raise StorageError(
            "load: this lens was fitted behind an autoencoder of your own, which is not saved with it",
            given="no codec",
            allowed=f"the same {saved['name']}, with the same weights",
            do="pass it: xlens.load(path, model, codec=module)",
        )
    codec = own_autoencoder(module, spec, normalization)
    identity = _identity(codec)
    if strict and identity.unread:
        raise StorageError(
            "load: whether this lens was fitted behind this autoencoder cannot be told",
            given=f"a {type(codec.module).__name__} with state that is not read: {', '.join(identity.unread[:3])}",
            do="return tensors, numbers or bytes from get_extra_state; or, if you are sure, pass strict=False",
        )
    same = _digest(codec, identity) == saved["fingerprint"] and not identity.other_constants(saved["constants"])
    if strict and not same:
        raise StorageError(
            "load: this lens was fitted behind another autoencoder",
            given=f"a {type(codec.module).__name__} with other weights, layers or scaling",
            allowed=f"the {saved['name']} that it was fitted behind",
            do="pass that one, or strict=False to use this one all the same",
        )
    return codec


def own_faults(own: Any) -> list[str]:
    """Return, in words, what is wrong with facts of an autoencoder that are read from a file."""
    known = isinstance(own, Mapping) and all(isinstance(own.get(name), str) for name in ("name", "fingerprint"))
    constants = own.get("constants") if known else None
    if not isinstance(constants, Mapping) or not all(isinstance(value, str) for value in constants.values()):
        return ["own is not what an autoencoder is known by"]
    return []


def _identity(codec: Autoencoder) -> Identity:
    return identity_of(codec.module, None, "codec")


def _digest(codec: Autoencoder, identity: Identity) -> str:
    """Return the hash of its weights, and of how images and latents are scaled."""
    scaled = [None if part is None else part.flatten().tolist() for part in (codec.low, codec.span)]
    said = f"{identity.digest}|{codec.factor!r}|{codec.offset!r}|{scaled!r}"
    return hashlib.sha256(said.encode()).hexdigest()
