"""What goes wrong with the hub, in words; and the package that talks to it, when it is needed."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias

from xlens.errors import MissingExtraError, StorageError, XlensError
from xlens.files.plain import said
from xlens.hub.names import HubName

__all__ = ["hub_package", "in_words", "is_unreachable"]

#: Packages that versions of huggingface_hub talk with, and whose faults are not all an OSError.
_TALKING = {"httpx", "httpx2", "httpcore", "requests", "urllib3"}
_Who: TypeAlias = Literal["load", "push_to_hub"]
#: Where nobody answers: what came of it, and what can be done without a network.
_INSTEAD: dict[_Who, tuple[str, str]] = {
    "load": ("this lens was not downloaded before", "pass a folder that the lens was saved in"),
    "push_to_hub": ("nothing was sent", "write what would be sent with dry_run= (xlens push --dry-run)"),
}
_LOG_IN = "log in with `hf auth login`, set HF_TOKEN, or pass token="


def hub_package(who: str) -> Any:
    """Return the package ``huggingface_hub``.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        return importlib.import_module("huggingface_hub")
    except ImportError:
        raise MissingExtraError(
            f"{who}: the package 'huggingface_hub' is not installed", do="pip install 'xlens[hub]'"
        ) from None


def is_unreachable(fault: BaseException) -> bool:
    """Whether nobody answered, and not that somebody refused."""
    if getattr(fault, "response", None) is not None:
        return False
    names = {kind.__name__ for kind in type(fault).__mro__}
    talking = {kind.__module__.split(".")[0] for kind in type(fault).__mro__} & _TALKING
    return bool(talking) or isinstance(fault, ConnectionError | TimeoutError) or "LocalEntryNotFoundError" in names


@contextmanager
def in_words(who: _Who, name: HubName) -> Iterator[None]:
    """Within this context, what the hub says is said again: who, what was given, what to do.

    Args:
        who: names the caller.
        name: what was asked for.

    Raises:
        StorageError: instead of whatever huggingface_hub raises.
    """
    try:
        yield
    except XlensError:
        raise
    except Exception as fault:  # noqa: BLE001 - of a package that has changed what it raises from version to version
        problem, given, do = _told(fault, name, who)
        raise StorageError(f"{who}: {problem}", given=given, do=do) from fault


def _told(fault: Exception, name: HubName, who: _Who) -> tuple[str, str, str]:
    """Return what is wrong, what was given, and what to do about it."""
    kinds = {kind.__name__ for kind in type(fault).__mro__}
    status = getattr(getattr(fault, "response", None), "status_code", None)
    at = str(name)
    if is_unreachable(fault):
        lost, instead = _INSTEAD[who]
        do = f"check the network, HF_ENDPOINT and HF_HUB_OFFLINE; or {instead}"
        return f"the hub cannot be reached, and {lost}", f"{at} ({said(fault)})", do
    # Before the next one, which it is one of.
    if "GatedRepoError" in kinds:
        return "access to this repository has to be asked for", at, f"ask for it on its page, then {_LOG_IN}"
    if "RevisionNotFoundError" in kinds:
        return "the repository has no such revision", at, "name a branch, a tag or a commit that it has, or none"
    if "RepositoryNotFoundError" in kinds:
        return "there is no such repository, or it is private", at, f"check the name; if it is private, {_LOG_IN}"
    if "EntryNotFoundError" in kinds:
        return "there is no lens in this repository", at, "name one that push_to_hub wrote"
    if status in (401, 403) or "LocalTokenNotFoundError" in kinds:
        return "the hub does not allow this", f"{at} ({said(fault)})", f"{_LOG_IN}, of one that may do this"
    return (
        "the hub refused",
        f"{at} ({type(fault).__name__}: {said(fault)})",
        "see what it says, or try again later",
    )
