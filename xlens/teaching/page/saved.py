"""The lens that lies in a session's folder, and whether it is still the one that the session goes on from."""

from __future__ import annotations

import hashlib
from pathlib import Path

from xlens.errors import StorageError
from xlens.fitted import Fitted
from xlens.storage import save_lens

__all__ = ["SavedLens"]

_FILES = ("lens.json", "lens.safetensors")
#: In the first bytes of the tensors stands what they are, with all facts of the lens.
_HEADER = 2**20


class SavedLens:
    """A lens in its folder, which another program may replace meanwhile, as `xlens fit` does.

    Args:
        folder: where it lies, or will.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known = self._now()

    def refuse_replaced(self) -> None:
        """Refuse to go on where somebody else has written a lens there.

        Raises:
            StorageError: the lens is another one, or cannot be read.
        """
        if self._now() != self._known:
            raise StorageError(
                "label: the lens was replaced by somebody else while questions were asked",
                given=f"another lens in {str(self._folder)!r}, which is left as it is",
                do="start xlens label again: it goes on with that lens, which learns every answer",
            )

    def save(self, fitted: Fitted) -> None:
        """Write the lens in the place of the one that is known.

        Raises:
            StorageError: it was replaced, or cannot be written.
        """
        self.refuse_replaced()
        save_lens(fitted, self._folder)
        self._known = self._now()

    def _now(self) -> str:
        digest = hashlib.sha256()
        for name in _FILES:
            try:
                with (self._folder / name).open("rb") as file:
                    digest.update(b"there" + file.read(_HEADER))
            except FileNotFoundError:
                digest.update(b"none")
            except OSError as fault:
                raise StorageError("label: cannot read the lens", given=fault, do="free the folder") from None
        return digest.hexdigest()
