"""What a lens has learned, as a hash that says whether two have learned the same."""

from __future__ import annotations

import hashlib

from xlens.classifier.frozen import bits
from xlens.contracts.lens import Lens
from xlens.counterfactual.mask import EditMask

__all__ = ["digest_of_lens"]


def digest_of_lens(lens: Lens, mask: EditMask | None = None) -> str:
    """Return a hash of everything that a lens, and its mask where one is given, have learned."""
    digest = hashlib.sha256()
    for prefix, part in (("", lens), ("mask.", mask)):
        for key, value in sorted(part.state_dict().items()) if part is not None else ():
            digest.update(f"{prefix}{key}".encode())
            digest.update(bits(value).cpu().numpy().tobytes())
    return digest.hexdigest()
