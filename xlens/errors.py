"""Errors that say who complains, what was given, what is allowed and what to do."""

from __future__ import annotations

import contextlib
import difflib
import inspect
import os
import warnings
from collections.abc import Iterable
from pathlib import Path

__all__ = [
    "BackendConflictError",
    "BackendNotFoundError",
    "DataError",
    "MissingExtraError",
    "ModelError",
    "NotFittedError",
    "OptionError",
    "PluginError",
    "StorageError",
    "TrainingError",
    "UnsupportedError",
    "UntrustworthyWarning",
    "XlensError",
    "XlensWarning",
    "did_you_mean",
    "warn",
]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the nearest known name, or an empty string.

    >>> did_you_mean("epoch", ["epochs", "seed"])
    " Did you mean 'epochs'?"
    """
    close = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""


class XlensError(Exception):
    """Base of every error that xlens raises on purpose.

    Args:
        problem: who complains and what is wrong, as a sentence without its full stop.
        given: what was received.
        allowed: what would have been accepted.
        do: what the caller can do about it.

    >>> print(XlensError("fit: no data", given="0 batches", do="pass at least one batch"))
    fit: no data. Given: 0 batches. What to do: pass at least one batch.
    """

    def __init__(
        self, problem: str, *, given: object = None, allowed: object = None, do: str | None = None
    ) -> None:
        parts = [problem.rstrip(".")]
        if given is not None:
            parts.append(f"Given: {given}")
        if allowed is not None:
            parts.append(f"Allowed: {allowed}")
        if do is not None:
            parts.append(f"What to do: {do}")
        said = " ".join(part if part[-1] in ".?!" else part + "." for part in parts)
        # Half characters, as in a name that is no UTF-8, could be printed nowhere.
        super().__init__(said.encode(errors="backslashreplace").decode())


class OptionError(XlensError, ValueError):
    """One or more options have an unknown name or a value outside their constraint."""


class DataError(XlensError, ValueError):
    """The data cannot be used: wrong shape, not finite, empty, or labels that do not fit."""


class ModelError(XlensError, ValueError):
    """The classifier, its outputs or the named hidden layer cannot be used."""


class UnsupportedError(XlensError):
    """This lens cannot do what was asked."""


class NotFittedError(XlensError):
    """Something was asked of a lens that has not been fitted."""


class TrainingError(XlensError, RuntimeError):
    """Training diverged again after it was rolled back, or its checkpoint does not fit."""


class StorageError(XlensError):
    """A saved file is missing, truncated, edited, of another version, or belongs to another classifier."""


class PluginError(XlensError):
    """An installed plugin cannot be loaded; the message names the distribution that brought it."""


class MissingExtraError(XlensError, ImportError):
    """An optional package is not installed; the message has the command that installs it."""


class BackendNotFoundError(XlensError, LookupError):
    """No installed distribution brings a backend of that name."""


class BackendConflictError(PluginError):
    """Two distributions claim the same backend name."""


class XlensWarning(UserWarning):
    """Base of the warnings that xlens gives."""


class UntrustworthyWarning(XlensWarning):
    """An explanation does not hold on one or more inputs."""


def warn(message: str, category: type[Warning] = XlensWarning) -> None:
    """Give a warning that points at the user's line: the first frame that is neither xlens's nor contextlib's."""
    level, frame = 2, inspect.currentframe()
    frame = frame.f_back if frame is not None else None
    while frame is not None and frame.f_code.co_filename.startswith(_SKIPPED):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


#: Files whose frames are no user's.
_SKIPPED = (str(Path(__file__).parent) + os.sep, contextlib.__file__)
