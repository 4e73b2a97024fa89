"""Names of the classes, however a model carries them about."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from typing import Any

from xlens.errors import ModelError
from xlens.files.plain import is_text

__all__ = ["ordered_names"]


def ordered_names(names: Any, argument: str = "class_names") -> tuple[str, ...] | None:
    """Return names in the order of the classes.

    Args:
        names: names in the classifier's order; or a mapping from index to name, as ``model.config.id2label``, whose
            keys may be text, as JSON has them; or None.
        argument: what they were passed as, for errors.

    Raises:
        ModelError: a single string, which is a sequence of letters; a mapping whose keys are not 0 to K - 1; a set,
            which has no order; nothing with names in it; or half characters.

    >>> ordered_names({"1": "eight", "0": "three"})
    ('three', 'eight')
    """
    if names is None:
        return None
    if isinstance(names, Mapping):
        return _texts(_by_index(names, argument), argument)
    if isinstance(names, str | bytes) or not isinstance(names, Iterable):
        raise ModelError(
            f"Classifier: {argument} are not names",
            given=repr(names),
            allowed="one name per class, in the classifier's order, or a mapping from index to name",
            do=f"pass a list: {argument}=[{names!r}, ...]",
        )
    if isinstance(names, set | frozenset):
        raise ModelError(
            f"Classifier: {argument} have no order", given="a set", do="pass a list in the classifier's order"
        )
    return _texts(tuple(map(str, names)), argument)


def _texts(names: tuple[str, ...], argument: str) -> tuple[str, ...]:
    """Return names that can be saved and read again."""
    if strange := [name for name in names if not is_text(name)]:
        raise ModelError(
            f"Classifier: {argument} hold half characters, which no file takes",
            given=ascii(strange[0]),
            do="say them in UTF-8",
        )
    return names


def _by_index(names: Mapping[Any, Any], argument: str) -> tuple[str, ...]:
    indices = {_index(key): str(name) for key, name in names.items()}
    if sorted(indices, key=str) != sorted(range(len(names)), key=str) or not names:
        turned = names and all(_index(value) is not None for value in names.values())
        raise ModelError(
            f"Classifier: {argument} are a mapping whose keys are not the classes",
            given=f"keys {', '.join(map(repr, list(names)[:5]))}",
            allowed="every index from 0 to K - 1 once, as a number or as text",
            do="pass id2label, from index to name, and not label2id" if turned else "name every class once",
        )
    return tuple(indices[c] for c in range(len(names)))


def _index(key: Any) -> int | None:
    """Return the class that a key says, or None."""
    if isinstance(key, str):
        return int(key) if key.isascii() and key.isdecimal() and len(key) < 10 else None
    try:
        return None if isinstance(key, bool) else operator.index(key)
    except TypeError:
        return None
