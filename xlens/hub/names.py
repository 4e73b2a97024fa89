"""Names of repositories on the hub, as a person writes them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePath

from xlens.errors import OptionError

__all__ = ["HubName", "folder_of", "hub_name", "is_on_hub", "repo_name"]

_SCHEME = "hf://"
#: What somebody writes who means a place on the hub, also where it is no name there: a path has lost a slash.
_MEANT = re.compile(r"hf:|https?:/", re.IGNORECASE)
#: What the hub takes for an owner and for a name.
_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_REPO = re.compile(f"{_PART}/{_PART}")
#: Branches, tags, commits and pull requests such as refs/pr/1; nothing that is a step up a folder.
_REVISION = re.compile(r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._/-]*")
_ALLOWED = "hf://owner/name or hf://owner/name@revision"


@dataclass(frozen=True)
class HubName:
    """A repository on the hub, and which state of it.

    Args:
        repo: ``owner/name``.
        revision: a branch, a tag or a commit; None for the newest of the main branch.
    """

    repo: str
    revision: str | None = None

    def __str__(self) -> str:
        """Return it as it is passed to :func:`xlens.load`."""
        return f"{_SCHEME}{self.repo}" + (f"@{self.revision}" if self.revision else "")


def is_on_hub(text: object) -> bool:
    """Whether this is meant for a repository on the hub, and no folder; :func:`hub_name` says whether it is one.

    >>> from xlens.hub.names import is_on_hub
    >>> is_on_hub("hf://owner/name"), is_on_hub("https://huggingface.co/owner/name"), is_on_hub("lens/")
    (True, True, False)
    """
    return isinstance(text, str | PurePath) and _MEANT.match(str(text)) is not None


def folder_of(path: str | Path, who: str) -> Path:
    """Return the folder that is named, to write into; what is meant for the hub is none.

    Args:
        path: as a person wrote it.
        who: names the caller in errors.

    Raises:
        OptionError: it is meant for the hub.
    """
    if is_on_hub(path):
        raise OptionError(
            f"{who}: a lens is written to a folder, and this is meant for the hub",
            given=repr(str(path)),
            do="save it to a folder, then explainer.push_to_hub(name) or xlens push",
        )
    return Path(path)


def hub_name(text: str, who: str = "load") -> HubName:
    """Return what a name on the hub says.

    Args:
        text: ``hf://owner/name``, with ``@revision`` where it is not the newest.
        who: names the caller in errors.

    Raises:
        OptionError: it is no such name.

    >>> from xlens.hub.names import hub_name
    >>> hub_name("hf://owner/name@v1.0")
    HubName(repo='owner/name', revision='v1.0')
    """
    repo, at, revision = text.removeprefix(_SCHEME).partition("@")
    if not text.startswith(_SCHEME) or not _REPO.fullmatch(repo) or (at and not _REVISION.fullmatch(revision)):
        raise OptionError(f"{who}: this is no name of a lens on the hub", given=repr(text), allowed=_ALLOWED)
    return HubName(repo, revision or None)


def repo_name(repo: str, revision: str | None) -> HubName:
    """Return the repository that a lens goes to, and the branch.

    Args:
        repo: ``owner/name``, with or without ``hf://`` before it.
        revision: the branch; None for the main one.

    Raises:
        OptionError: it is no such name, or says a revision beside `revision`.
    """
    name = hub_name(repo if is_on_hub(repo) else f"{_SCHEME}{repo}", "push_to_hub")
    if revision is None:
        return name
    if name.revision is not None:
        raise OptionError(
            "push_to_hub: the revision is said twice",
            given=f"{name.revision!r} in the name, and revision={revision!r}",
            do="say it once",
        )
    return hub_name(f"{name}@{revision}", "push_to_hub")
