"""What a command says: to a pipe that may close, a terminal of any encoding, or a machine that reads JSON alone."""

from __future__ import annotations

import errno
import json
import math
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from typing import Any, TextIO

from xlens.cli.text import visible

__all__ = ["escaping", "flushed", "is_gone", "only_json", "print_json", "print_table", "silenced"]

#: Where JSON goes while everything else that is printed goes to standard error.
_streams: list[TextIO] = []
#: The columns of a table that is not for a terminal; and from how many letters on a column is prose.
_WIDE, _PROSE = 100_000, 24


@contextmanager
def escaping(*, lasting: bool) -> Iterator[None]:
    """Within this context standard output and error show as an escape what their encoding does not have.

    Args:
        lasting: leave it so afterwards, for what is printed while the program ends.
    """
    before = []
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            before.append((stream, stream.errors))
            # One that is closed says so when something is printed.
            with suppress(ValueError, OSError):
                stream.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        for stream, errors in [] if lasting else before:
            with suppress(ValueError, OSError):
                stream.reconfigure(errors=errors)


@contextmanager
def only_json(*, lasting: bool) -> Iterator[None]:
    """Within this context standard output takes :func:`print_json` alone, and what others print goes to the error.

    So does what libraries and programs that are called print past Python.

    Args:
        lasting: leave it so afterwards, for what is printed while the program ends.
    """
    real = sys.stdout
    with ExitStack() as stack:
        own = real
        if real is None:
            # The program was started without: what is said to nobody is no matter of standard error's.
            own = stack.enter_context(open(os.devnull, "w"))  # noqa: PTH123 - it is no file
        if (number := _number(real)) is not None:
            real.flush()
            kept = os.dup(number)
            own = os.fdopen(kept, "w", encoding=real.encoding or "utf-8", errors="backslashreplace")
            numbers = _same_file(number)
            for one in numbers:
                _elsewhere(one)
            stack.callback(_back, real, numbers, own, lasting)
        redirected = redirect_stdout(sys.stderr)
        redirected.__enter__()
        if not lasting:
            stack.push(redirected)
        _streams.append(own)
        stack.callback(_streams.pop)
        yield


def print_json(facts: Any) -> None:
    """Print facts as JSON, which has no numbers that are not finite: those are null."""
    print(json.dumps(_plain(facts), indent=2), file=_streams[-1] if _streams else None, flush=True)


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows after a header in columns: as wide as the terminal, or a line for each row where there is none."""
    from rich.console import Console  # takes its time
    from rich.table import Table
    from rich.text import Text

    header, *cells = ([Text(visible(cell)) for cell in row] for row in rows)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name, column in zip(header, zip(*rows, strict=True), strict=True):
        # What is read as prose gives way first.
        table.add_column(name, no_wrap=max(map(len, column)) < _PROSE)
    for row in cells:
        table.add_row(*row)
    # Some programs are started without standard output.
    seen = sys.stdout is not None and sys.stdout.isatty()
    console = Console(width=None if seen else _WIDE)
    # Printed as everything else is: rich itself would end the program where a pipe is closed.
    with console.capture() as drawn:
        console.print(table)
    print("\n".join(map(str.rstrip, drawn.get().splitlines())))


def flushed() -> None:
    """See everything written that was printed.

    Raises:
        OSError: it cannot be; :class:`BrokenPipeError` where nobody reads it any more.
    """
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()


def is_gone() -> bool:
    """Whether standard output was closed, by who started the program or by what it called."""
    try:
        if sys.stdout is not None and not sys.stdout.closed:
            os.fstat(sys.stdout.fileno())
    except OSError as fault:
        return fault.errno == errno.EBADF
    except (AttributeError, ValueError):
        # No file, as in a notebook or a test.
        return False
    return sys.stdout is not None and sys.stdout.closed


def silenced() -> None:
    """Drop what is still to be written to a pipe that is closed, so that nothing is said of it at the end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            if (number := _number(stream)) is not None:
                _nowhere(number)


def _number(stream: Any) -> int | None:
    """Return the file that a stream writes to; None of one that is none, as in a notebook or a test."""
    try:
        return int(stream.fileno())
    except (AttributeError, OSError, ValueError):
        return None


def _same_file(number: int) -> list[int]:
    """Return the file, and what is written to past Python where that is the same one."""
    try:
        return list({number, 1}) if os.path.samestat(os.fstat(number), os.fstat(1)) else [number]
    except OSError:
        return [number]


def _elsewhere(number: int) -> None:
    """Let standard error take what is written to a file."""
    error = _number(sys.stderr)
    if error is None:
        # Closed, or no file: what has its number now may be anything.
        _nowhere(number)
    else:
        os.dup2(error, number)


def _nowhere(number: int) -> None:
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, number)
    os.close(sink)


def _back(real: TextIO, numbers: Sequence[int], own: TextIO, lasting: bool) -> None:
    """Give standard output back; what others have left in it goes to the error first."""
    with suppress(OSError, ValueError):
        real.flush()
    for number in [] if lasting else numbers:
        os.dup2(own.fileno(), number)
    with suppress(OSError):
        own.close()


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
