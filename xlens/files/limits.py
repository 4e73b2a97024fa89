"""How much a file may become when it is read: an archive of a kilobyte can claim to hold terabytes."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xlens.errors import DataError, XlensError

__all__ = ["MOST_BYTES", "Allowance", "check_archive", "read_bytes", "read_entry", "readable"]

#: Bytes that a file may become, unless it is larger than that itself: 89 million pixels in three channels.
MOST_BYTES = 2**28


class Allowance:
    """What one file may still become; what is stored as it is may be as large as the file itself.

    Args:
        path: the file.
        most: bytes that it may become in any case.
        error: what is raised beyond.
        say: how somebody says that more is right.
    """

    def __init__(self, path: Path, most: int, error: type[XlensError], say: str = "--max-bytes") -> None:
        self._path, self._error, self._say = path, error, say
        self.most = most
        self._left = self._most = max(most, path.stat().st_size)

    def take(self, size: int, what: str) -> None:
        """Count `size` bytes, named by `what`.

        Raises:
            XlensError: the file would become larger than it may.
        """
        if size > self._left:
            before = self._most - self._left
            raise self._error(
                f"{self._path.name!r} would become larger than it may when it is read",
                given=f"{size:,} bytes of {what}" + (f" after {before:,} others" if before else ""),
                allowed=f"{self._most:,} bytes in all",
                do=f"look at where the file is from; if it is right, say {self._say} {before + size}",
            )
        self._left -= size


def read_bytes(path: Path, allowance: Allowance | None = None) -> bytes:
    """Return the content of a file.

    Raises:
        OSError: it cannot be read.
        XlensError: it is larger than the allowance.
    """
    if allowance is not None:
        allowance.take(path.stat().st_size, path.name)
    return path.read_bytes()


def read_entry(archive: zipfile.ZipFile, name: str, allowance: Allowance) -> bytes:
    """Return one entry of an archive, unpacked.

    What the archive says of the size is a claim: reading stops there.

    Raises:
        KeyError: there is no such entry.
        XlensError: it is larger than the allowance.
        zipfile.BadZipFile: it is damaged.
    """
    entry = archive.getinfo(name)
    allowance.take(entry.file_size, f"the entry {name!r}")
    with archive.open(entry) as stream:
        content = stream.read(entry.file_size + 1)
    if len(content) != entry.file_size:
        raise zipfile.BadZipFile(f"the entry {name!r} has {len(content)} bytes, and says {entry.file_size}")
    return content


def check_archive(path: Path, allowance: Allowance) -> None:
    """Count all entries of an archive that somebody else unpacks; a file that is no archive is as large as it is.

    Raises:
        XlensError: it would become larger than it may.
    """
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        allowance.take(sum(entry.file_size for entry in archive.infolist()), "its entries")


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Context in which a path is looked at.

    Raises:
        DataError: it cannot be, as where rights are missing or a link leads in a circle.
    """
    try:
        yield
    except OSError as fault:
        raise DataError("data: cannot be read", given=fault, do="check the path and its rights") from None
