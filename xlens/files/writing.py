"""Files written whole: a reader sees the old one or the new one, whenever the writer is stopped."""

from __future__ import annotations

import errno
import os
import secrets
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["UnflushedError", "check_name", "write_all", "write_whole"]

_PREFIX, _SUFFIX = ".xlens-", ".partial"
#: Seconds after which a partial file is what a stopped program left, and nobody is writing it any more.
_LEFT_BEHIND = 3600
_AT_ONCE = 2**24
#: What some file systems answer where a folder has nothing to be flushed.
_NO_FLUSH = {errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES}


class UnflushedError(OSError):
    """The files are new and in their places, but the disk has not confirmed their names."""


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old content or the new one, never a part; power loss included.

    A device or a pipe is written to as it is. A link gives way to the file. Who may read the old file may read the
    new one, and nobody else.

    Args:
        path: the file; its folder is made where it does not exist.
        content: all of it.

    Raises:
        UnflushedError: the new file is in its place; after a loss of power it may be the old one.
        OSError: it cannot be written; then everything is as it was.
    """
    check_name(path)
    if path.exists() and not path.is_file() and not path.is_dir():
        path.write_bytes(content)
        return
    write_all(((path, content),))


def write_all(parts: Sequence[tuple[Path, bytes]]) -> None:
    """Write several files of one folder: first all of them beside their places, then one after the other in place.

    Stopped in between, those that come first are new and the others old; each is whole. Which of them may be new
    while others are old is the caller's to make sense of.

    Args:
        parts: file -> content, in the order in which they take their places.

    Raises:
        UnflushedError: all are in their places; after a loss of power some may be the old ones, in any order.
        OSError: one cannot be written, and those after it are as they were.
    """
    folder = parts[0][0].parent
    for path, _ in parts:
        check_name(path)
    folder.mkdir(parents=True, exist_ok=True)
    unflushed: OSError | None = None
    with _partial_files(folder, parts) as written:
        for (path, _), partial in zip(parts, written, strict=True):
            os.replace(partial, path)
            # Before the next one: after a loss of power, too, they are new in this order.
            try:
                _flush_folder(folder)
            except OSError as fault:
                # Half of the new files would help nobody.
                unflushed = fault
    _forget_left_behind(folder)
    if unflushed is not None:
        names = " and ".join(repr(path.name) for path, _ in parts)
        said = f"{names}: new and in place, but the disk has not confirmed it ({unflushed.strerror or unflushed})"
        raise UnflushedError(unflushed.errno, said)


@contextmanager
def _partial_files(folder: Path, parts: Sequence[tuple[Path, bytes]]) -> Iterator[list[Path]]:
    """Return files of these contents on disk, under names that nobody can foresee.

    They have the rights of those that they replace. What is left of them goes.
    """
    written: list[Path] = []
    try:
        for path, content in parts:
            written.append(folder / f"{_PREFIX}{secrets.token_hex(8)}{_SUFFIX}")
            _write_new(written[-1], content, _mode_of(path))
        yield written
    finally:
        for path in written:
            with suppress(OSError):
                path.unlink()


def check_name(path: Path) -> None:
    """Refuse what cannot be the name of a file.

    Raises:
        OSError: it holds a zero byte, or half a character.
    """
    try:
        encoded = os.fsencode(path)
    except UnicodeEncodeError:
        encoded = b"\0"
    if b"\0" in encoded:
        raise OSError(errno.EINVAL, f"no file can have the name {str(path)!a}")


def _mode_of(path: Path) -> int | None:
    """Return the rights of a file that is there, but for a link, whose are somebody else's; None where none is."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return stat.S_IMODE(found.st_mode) & 0o777 if stat.S_ISREG(found.st_mode) else None


def _write_new(path: Path, content: bytes, mode: int | None) -> None:
    """Write a file that does not exist yet, and see it on disk.

    Args:
        path: the file.
        content: all of it.
        mode: its rights; None as the process's umask says.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    # Not for a moment more than it will have.
    descriptor = os.open(path, flags, 0o666 if mode is None else mode)
    try:
        if mode is not None and hasattr(os, "fchmod"):
            os.fchmod(descriptor, mode)
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(descriptor, rest[:_AT_ONCE]) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _flush_folder(folder: Path) -> None:
    """See the folder's names on disk, where the system has that."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as fault:
        if fault.errno not in _NO_FLUSH:
            raise
    finally:
        os.close(descriptor)


def _forget_left_behind(folder: Path) -> None:
    """Remove what programs that were killed have left here, but nothing that another one may be writing now."""
    for path in folder.glob(f"{_PREFIX}*{_SUFFIX}"):
        with suppress(OSError):
            if time.time() - path.lstat().st_mtime > _LEFT_BEHIND:
                path.unlink()
