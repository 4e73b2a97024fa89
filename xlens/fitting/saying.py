"""A sentence to whoever waits for a fit: on the terminal where progress is shown, else in the log."""

from __future__ import annotations

import logging
import sys

from tqdm.auto import tqdm

__all__ = ["say"]

_LOGGER = logging.getLogger("xlens")


def say(text: str, progress: bool | None, level: int = logging.INFO) -> None:
    """Write a sentence where progress is shown, or log it under ``xlens`` where there is no terminal.

    Args:
        text: the sentence.
        progress: whether progress is shown; None shows it on a terminal and logs it elsewhere, False is silent.
        level: of the log.
    """
    if progress or (progress is None and sys.stderr.isatty()):
        tqdm.write(text, file=sys.stderr)
    elif progress is None:
        _LOGGER.log(level, text)
