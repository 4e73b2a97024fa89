"""A lens from the hub: its two files and nothing else, no larger than they may be, of one commit."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from xlens.errors import StorageError
from xlens.hub.names import HubName
from xlens.hub.words import hub_package, in_words, is_unreachable
from xlens.storage.lens_files import FILES

__all__ = ["fetched"]

_LOGGER = logging.getLogger("xlens")
#: Bytes that the facts of a lens may have: those of a lens of a thousand classes are 26 MB, most of it margins.
_MOST_FACTS = 2**26


def fetched(name: HubName, *, max_bytes: int, token: str | None = None) -> Path:
    """Return the folder in the hub's cache with the files of a lens: downloaded, or as they were downloaded before.

    Nothing else in the repository is looked at. Where the hub cannot be reached, what was downloaded before is
    read, and that is logged.

    Args:
        name: the repository, and which state of it.
        max_bytes: what the file of its tensors may have.
        token: of an account that may read it; None for the one that is logged in.

    Raises:
        MissingExtraError: huggingface_hub is not installed.
        StorageError: it cannot be had, holds no lens, or its files are larger than they may be.
    """
    hub = hub_package("load")
    with in_words("load", name):
        try:
            found = hub.HfApi(token=token).model_info(name.repo, revision=name.revision, files_metadata=True)
        except Exception as fault:  # noqa: BLE001 - told apart by is_unreachable; others go on
            if not is_unreachable(fault):
                raise
            _LOGGER.warning("load: the hub cannot be reached; %s is read as it was downloaded before", name)
            offline = True
        else:
            _check({one.rfilename: one.size for one in found.siblings or ()}, name, max_bytes)
            offline = False
        folder = Path(
            hub.snapshot_download(
                name.repo,
                # By its name, so that it is found again offline; the files are of one commit all the same.
                revision=name.revision,
                allow_patterns=list(FILES),
                token=token,
                local_files_only=offline,
            )
        )
    # What was said of the sizes is one thing, what came another.
    _check({path.name: path.stat().st_size for path in folder.iterdir() if path.is_file()}, name, max_bytes)
    return folder


def _check(sizes: Mapping[str, int | None], name: HubName, max_bytes: int) -> None:
    """Refuse a repository that holds no lens, or a larger one than was asked for."""
    if missing := [file for file in FILES if file not in sizes]:
        raise StorageError(
            "load: there is no lens in this repository",
            given=f"{name}, without {' and '.join(missing)}",
            do="name one that push_to_hub wrote",
        )
    for file, most in zip(FILES, (_MOST_FACTS, max_bytes), strict=True):
        size = sizes[file] or 0
        if size > most:
            raise StorageError(
                f"load: {file!r} is larger than it may be",
                given=f"{size:,} bytes in {name}",
                allowed=f"{most:,} bytes",
                do=f"look at where it is from; if it is right, say max_bytes={size}"
                if most == max_bytes
                else "name one that push_to_hub wrote",
            )
