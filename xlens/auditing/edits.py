"""Edits that an audit keeps as it goes through the data, so that what is shown at the end is not searched anew."""

from __future__ import annotations

import heapq
import zlib

import numpy as np
import torch
from torch import Tensor

__all__ = ["KeptEdits"]

#: Bytes that are kept at most: so much that memory stays flat, and enough for a thousand edits of 224 pixels.
_MOST_BYTES = 64 << 20


class KeptEdits:
    """Edits of inputs, those of which the score fell most, in bounded memory.

    Of an edit no more is kept than the pixels that it changes. A group shows the inputs whose score falls most, so
    that these are the last to be given up.

    Args:
        most_bytes: that are kept.

    >>> import torch
    >>> from xlens.auditing.edits import KeptEdits
    >>> kept, images = KeptEdits(), torch.zeros(2, 1, 4, 4)
    >>> kept.add(torch.tensor([7, 9]), images, images + 1, torch.tensor([0.1, 0.2]))
    >>> bool((kept.edited(9, images[1]) == 1).all()), kept.edited(8, images[1])
    (True, None)
    """

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        self._most, self._bytes = most_bytes, 0
        self._edits: dict[int, tuple[bytes, np.ndarray]] = {}
        self._by_fall: list[tuple[float, int]] = []

    def add(self, index: Tensor, inputs: Tensor, edited: Tensor, fall: Tensor) -> None:
        """Keep edits, as many as there is room for.

        Args:
            index: ``(N,)`` position of each input in the data.
            inputs, edited: ``(N, C, H, W)``.
            fall: ``(N,)`` by how much the score falls.
        """
        changed = (inputs != edited).any(1).cpu().numpy()
        values = edited.cpu().numpy()
        for i, lost, where, after in zip(index.tolist(), fall.tolist(), changed, values, strict=True):
            edit = zlib.compress(np.packbits(where).tobytes(), 1), after[:, where]
            self._edits[i] = edit
            self._bytes += _size(edit)
            heapq.heappush(self._by_fall, (lost, i))
        while self._bytes > self._most:
            self._bytes -= _size(self._edits.pop(heapq.heappop(self._by_fall)[1]))

    def edited(self, index: int, image: Tensor) -> Tensor | None:
        """Return the edited image ``(C, H, W)`` of the input at a position, or None where it is not kept."""
        if index not in self._edits:
            return None
        packed, values = self._edits[index]
        bits = np.unpackbits(np.frombuffer(zlib.decompress(packed), np.uint8), count=image[0].numel())
        edited = image.detach().cpu().clone()
        edited[:, torch.from_numpy(bits.astype(bool)).view(image.shape[1:])] = torch.from_numpy(values)
        return edited


def _size(edit: tuple[bytes, np.ndarray]) -> int:
    return len(edit[0]) + edit[1].nbytes
