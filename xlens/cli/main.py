"""The command line: ``xlens demo``, ``backends``, ``fit``, ``explain``, ``evaluate``, ``audit``, ``label``, ..."""

from __future__ import annotations

import errno
import importlib
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import TextIO

from xlens.cli.output import escaping, flushed, is_gone, only_json, silenced
from xlens.cli.parser import make_parser
from xlens.cli.text import visible
from xlens.errors import UntrustworthyWarning, XlensError, XlensWarning

__all__ = ["main", "visible"]

#: As of a program that the system ends when it writes to a pipe that nobody reads.
_CLOSED = 141
#: What comes of printing to a pipe that is closed, or to a disk that is full.
_UNWRITTEN = (errno.EPIPE, errno.ENOSPC, errno.EIO, errno.EFBIG)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, or another with one line on standard error.

    Args:
        arguments: of the command line; None for the program's own, which ends with this call.
    """
    lasting = arguments is None
    with escaping(lasting=lasting):
        try:
            code = _run(arguments, lasting)
            flushed()
        except (OSError, ValueError) as fault:
            closed = isinstance(fault, BrokenPipeError) or is_gone()
            code = _CLOSED if closed else _said(f"standard output cannot be written: {fault}")
        except SystemExit:
            # Help, the version, or a fault in the arguments.
            silenced()
            raise
        silenced()
    return code


def _run(arguments: Sequence[str] | None, lasting: bool) -> int:
    parser = make_parser()
    if "_ARGCOMPLETE" in os.environ:
        # Ends the program here: a shell asks what may follow, and nothing is to be done.
        importlib.import_module("argcomplete").autocomplete(parser)
    chosen = parser.parse_args(arguments)
    # A warning is one line here, without the source line that Python adds.
    warnings.showwarning = _show_warning
    try:
        if not getattr(chosen, "json", False):
            return chosen.run(chosen)
        with only_json(lasting=lasting):
            return chosen.run(chosen)
    except XlensError as fault:
        return _said(" ".join(str(fault).split()))
    except KeyboardInterrupt:
        return _said("interrupted", 130)
    except Exception as fault:  # noqa: BLE001 - Python's own exit code for it is that of --strict
        if _is_unwritten(fault):
            raise
        traceback.print_exc()
        return _said("this should not have happened; please report it with the lines above", 3)


def _is_unwritten(fault: Exception) -> bool:
    """Whether this came of printing to what cannot take it, and not of anything else."""
    if isinstance(fault, OSError):
        closed = fault.errno == errno.EBADF and is_gone()
        return fault.filename is None and (fault.errno in _UNWRITTEN or closed)
    # How Python says that a stream is closed.
    return isinstance(fault, ValueError) and "closed file" in str(fault) and is_gone()


def _said(line: str, code: int = 2) -> int:
    """Say one line on standard error, if anybody is there, and return the exit code."""
    try:
        print(f"xlens: {visible(line)}", file=sys.stderr, flush=True)
    except OSError:
        silenced()
    return code


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    kind = "untrustworthy" if issubclass(category, UntrustworthyWarning) else "warning"
    if issubclass(category, XlensWarning):
        print(f"xlens: {kind}: {visible(str(message))}", file=file or sys.stderr)
    else:
        print(warnings.formatwarning(message, category, filename, lineno, line), file=file or sys.stderr)
