"""Explanations of a whole data set as a folder, which is read a part at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xlens.contracts.numbers import is_count, whole
from xlens.errors import StorageError
from xlens.explanation import Explanation
from xlens.files.plain import parse
from xlens.storage.explanations import load_explanation

__all__ = ["ExplanationFolder"]

#: The file that says what the parts are, what it says of itself, and what the parts are called.
FACTS, KIND, PARTS = "explanations.json", "xlens explanations", "part-*.safetensors"


class ExplanationFolder:
    """Explanations of a data set in a folder, read a part at a time; made by ``explainer.explain_to``.

    Args:
        path: the folder.

    Raises:
        StorageError: there are no explanations in it.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            found = parse((self.path / FACTS).read_bytes())
            if found["kind"] != KIND or not is_count(found["rows"]):
                raise ValueError(found["kind"])
            if found["parts"] is not None and whole(found["parts"]) is None:
                raise ValueError(found["parts"])
        except (OSError, ValueError, LookupError, TypeError) as fault:
            raise StorageError(
                "explanations: there are none in this folder",
                given=f"{self.path}: {(str(fault) or type(fault).__name__).splitlines()[0]}",
                do="name the folder that was given to explainer.explain_to",
            ) from None
        self.facts: dict[str, Any] = found

    @property
    def parts(self) -> list[Path]:
        """The files that are there, in the order of the data."""
        return sorted(self.path.glob(PARTS))

    @property
    def complete(self) -> bool:
        """Whether all of the data are explained; of a stream, whether its end was seen."""
        count = self.facts["parts"]
        return count is not None and len(self.parts) == count

    def __iter__(self) -> Iterator[Explanation]:
        """Go through the explanations, a part at a time, in the order of the data."""
        return map(load_explanation, self.parts)
