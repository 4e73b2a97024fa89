"""A lens to the hub: what it keeps of the data is said first, and nothing but its own files and its card goes."""

from __future__ import annotations

import logging
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from xlens.errors import OptionError, StorageError
from xlens.explanation import Explanation
from xlens.fitted import Fitted
from xlens.hub.card import model_card
from xlens.hub.keeping import KeptData, kept_data
from xlens.hub.names import HubName, repo_name
from xlens.hub.words import hub_package, in_words
from xlens.storage import save_lens
from xlens.storage.lens_files import FILES
from xlens.training.processes import processes

__all__ = ["Upload", "check", "push"]

_LOGGER = logging.getLogger("xlens")
_CARD = "README.md"


@dataclass(frozen=True)
class Upload:
    """What went to the hub, or would go.

    Args:
        name: the lens as :func:`xlens.load` takes it.
        commit: the commit that it became; None where nothing was sent.
        files: name -> bytes of each file.
        kept_data: what of the data went with them.
    """

    name: str
    commit: str | None
    files: dict[str, int]
    kept_data: KeptData


def push(
    fitted: Fitted,
    repo: str,
    *,
    with_data: bool = False,
    token: str | None = None,
    private: bool | None = None,
    revision: str | None = None,
    commit_message: str | None = None,
    license: str | None = None,  # noqa: A002 - the name of the field on the hub
    explanation: Explanation | None = None,
    dry_run: str | Path | None = None,
) -> Upload:
    """Write a lens with its card to a repository on the hub, in one commit; of several processes the first does.

    Args:
        fitted: the lens.
        repo: ``owner/name``; made where it does not exist.
        with_data: whether real inputs, and numbers about single ones, may go where the lens keeps any.
        token: of an account that may write; None for the one that is logged in.
        private: whether a new repository is private; None as the account's settings say.
        revision: branch, made where it does not exist; None for the main one.
        commit_message: of the commit.
        license: the identifier that the hub knows the licence by, for the card.
        explanation: explanations by which the card judges the lens.
        dry_run: folder for what would be sent; nothing is.

    Raises:
        OptionError: no such name; or the lens keeps single inputs, and `with_data` does not say that they may go.
        MissingExtraError: huggingface_hub is not installed.
        StorageError: the hub refused, or cannot be reached.
    """
    name, kept = check(fitted, repo, revision=revision, with_data=with_data, dry_run=dry_run)
    _check_judged(fitted, explanation)
    _LOGGER.warning(
        "push_to_hub: with %s goes what it keeps of the data: %s", name, "; ".join(str(kept).splitlines())
    )
    together = processes(fitted.device)
    commit = None
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        save_lens(fitted, folder)
        with together.jointly("push_to_hub", StorageError):
            if not together.writes:
                return Upload(str(name), None, {}, kept)
            card = model_card(fitted, name, kept, licence=license, explanation=explanation)
            (folder / _CARD).write_text(card, encoding="utf-8")
            # By name: whatever else lies beside a lens stays here.
            sizes = {file: (folder / file).stat().st_size for file in (_CARD, *FILES)}
            if dry_run is not None:
                _copy(folder, Path(dry_run))
            else:
                commit = _send(folder, name, token, private, commit_message or f"A lens of {fitted.backend.name}")
    return Upload(str(name), commit, sizes, kept)


def check(
    fitted: Fitted, repo: str, *, revision: str | None, with_data: bool, dry_run: str | Path | None
) -> tuple[HubName, KeptData]:
    """Return where a lens would go and what of the data would go with it, or refuse; nobody is asked yet.

    Args:
        fitted: the lens.
        repo: as of :func:`push`.
        revision: as of :func:`push`.
        with_data: as of :func:`push`.
        dry_run: as of :func:`push`.

    Raises:
        OptionError: no such name; or the lens keeps single inputs, and `with_data` does not say that they may go.
        MissingExtraError: something would be sent, and huggingface_hub is not installed.
    """
    name, kept = repo_name(repo, revision), kept_data(fitted)
    if not isinstance(with_data, bool):
        raise OptionError("push_to_hub: with_data must be True or False", given=repr(with_data))
    if kept.single_inputs and not with_data:
        single = [part.said for part in kept.parts if part.kind in ("inputs", "rows")]
        raise OptionError(
            "push_to_hub: this lens keeps single inputs of the data, which would go with it",
            given="; ".join(single),
            do="if whoever they are of agrees, pass with_data=True (xlens push --with-data); or share one "
            "that keeps none, fitted on inputs and not on a hidden layer. explainer.kept_data says what is kept",
        )
    if dry_run is None:
        hub_package("push_to_hub")
    return name, kept


def _check_judged(fitted: Fitted, explanation: Explanation | None) -> None:
    if explanation is not None and explanation.class_names != fitted.class_names:
        raise OptionError(
            "push_to_hub: explanation is not of this lens's classifier",
            given=f"classes {', '.join(explanation.class_names[:5])}",
            allowed=f"classes {', '.join(fitted.class_names[:5])}",
            do="pass explainer.explain(inputs) of this explainer",
        )


def _copy(folder: Path, to: Path) -> None:
    try:
        to.mkdir(parents=True, exist_ok=True)
        for file in (_CARD, *FILES):
            shutil.copyfile(folder / file, to / file)
    except OSError as fault:
        raise StorageError("push_to_hub: cannot write", given=fault, do="choose another dry_run folder") from None


def _send(folder: Path, name: HubName, token: str | None, private: bool | None, message: str) -> str:
    """Send the files in one commit and return it."""
    hub = hub_package("push_to_hub")
    with in_words("push_to_hub", name):
        api = hub.HfApi(token=token)
        api.create_repo(name.repo, private=private, exist_ok=True)
        if name.revision is not None:
            api.create_branch(name.repo, branch=name.revision, exist_ok=True)
        files = [
            hub.CommitOperationAdd(path_in_repo=file, path_or_fileobj=str(folder / file))
            for file in (_CARD, *FILES)
        ]
        done = api.create_commit(name.repo, files, commit_message=message, revision=name.revision)
    return str(done.oid)
