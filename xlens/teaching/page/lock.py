"""One program to a folder: who keeps answers there, and who else is refused."""

from __future__ import annotations

import errno
import os
import threading
from contextlib import suppress
from pathlib import Path

from xlens.errors import StorageError

try:
    import fcntl
except ImportError:  # no such locks on this system: what is on disk is compared before it is written all the same
    fcntl = None  # type: ignore[assignment]

__all__ = ["FolderLock"]

_FILE = "answers.lock"
_TAKEN = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES}


class _Held:
    """A folder that this process holds, by however many sessions."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor, self.count, self.turn = descriptor, 0, threading.RLock()


class FolderLock:
    """A folder that no other process writes answers to; sessions of one process share it and take turns.

    The system lets go of it when the process ends, however it ends.

    Args:
        folder: made where it does not exist.

    Raises:
        StorageError: another process has it, or it cannot be written.
    """

    _held: dict[str, _Held] = {}
    _guard = threading.RLock()

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._name = str(folder.resolve())
            with self._guard:
                held = self._held.get(self._name)
                if held is None:
                    held = self._held[self._name] = _Held(_taken(folder / _FILE))
                held.count += 1
        except OSError as fault:
            raise StorageError("label: cannot write the answers", given=fault, do="free the folder") from None
        #: Taken for as long as something is decided or written.
        self.turn = held.turn
        self._open = True

    def release(self) -> None:
        """Let go of the folder; again does nothing."""
        with self._guard:
            if not self._open:
                return
            self._open = False
            held = self._held[self._name]
            held.count -= 1
            if not held.count:
                del self._held[self._name]
                # What fails is a last write, of which there is none; the descriptor is gone all the same.
                with suppress(OSError):
                    os.close(held.descriptor)


def _taken(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
    descriptor = os.open(path, flags, 0o666)
    try:
        if fcntl is not None:
            _lock(descriptor, path)
        with suppress(OSError):  # a full disk: the lock holds without a name
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    except BaseException:
        with suppress(OSError):
            os.close(descriptor)
        raise
    return descriptor


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as fault:
        if fault.errno not in _TAKEN:
            return  # a file system without locks
        said = os.pread(descriptor, 20, 0).decode("ascii", "replace")
        number = said if said.isdecimal() else "unknown"
        raise StorageError(
            f"label: another program is keeping answers in {str(path.parent)!r}",
            given=f"the process {number}",
            do="answer on its page, or stop it first",
        ) from None
