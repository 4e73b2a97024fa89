"""What an explainer knows of its classifier and its lens, as its own attributes, and sharing all of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from xlens.classifier.classifier import Classifier
from xlens.codes.moves import directions_of
from xlens.contracts.backend import Backend, Spec
from xlens.contracts.lens import Feature, Lens
from xlens.counterfactual.mask import EditMask
from xlens.explanation import Explanation
from xlens.fitted import Fitted
from xlens.hub.keeping import KeptData, kept_data
from xlens.hub.upload import Upload, push

__all__ = ["Record"]


class Record:
    """The attributes of an explainer: the fields of what was fitted, and what follows from them.

    Args:
        fitted: the classifier, the lens around it, and what belongs to them.
    """

    def __init__(self, fitted: Fitted) -> None:
        self.fitted = fitted

    def __repr__(self) -> str:
        """Return the backend and what it explains."""
        return f"Explainer({self.backend.name}, {self.classifier!r}, inputs {self.spec.shape})"

    @property
    def classifier(self) -> Classifier:
        """The classifier that is explained."""
        return self.fitted.classifier

    @property
    def lens(self) -> Lens:
        """The fitted lens."""
        return self.fitted.lens

    @property
    def backend(self) -> Backend:
        """The configuration that the lens was fitted with."""
        return self.fitted.backend

    @property
    def spec(self) -> Spec:
        """What the lens knows of the data."""
        return self.fitted.spec

    @property
    def mask(self) -> EditMask | None:
        """The fitted mask, or None where inputs are no images, or the lens wants none."""
        return self.fitted.mask

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Facts about the fit that are saved with the lens, such as its seed."""
        return self.fitted.provenance

    @property
    def over(self) -> Self | None:
        """The explainer whose codes this lens works on, or None."""
        return None if self.fitted.over is None else type(self)(self.fitted.over)

    @property
    def device(self) -> torch.device:
        """Where the lens is."""
        return self.fitted.device

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes; ``class 0``, ... where none were given."""
        return self.fitted.class_names

    @property
    def features(self) -> Sequence[Feature]:
        """The named parts of the lens's code."""
        return self.lens.features

    @property
    def directions(self) -> Mapping[str, Tensor]:
        """Name -> unit vector ``(d,)`` of the code along which it grows; empty where the lens has none."""
        return directions_of(self.lens)

    @property
    def kept_data(self) -> KeptData:
        """Data that the lens keeps (real inputs, rows about them, patches), and that goes wherever it goes."""
        return kept_data(self.fitted)

    @property
    def on_layer(self) -> bool:
        """Whether the lens decodes to a hidden layer: then what it shows are real inputs that it keeps."""
        return self.lens.decodes_to == "layer"

    def push_to_hub(
        self,
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
        """Upload to the Hugging Face hub: the lens, and a model card; ``xlens.load("hf://...", ...)`` reads it.

        What goes are the two files that :meth:`save` writes, and the card, in one commit. What they keep of the
        data is logged first, and stands in `kept_data` and in the card.

        Args:
            repo: ``owner/name``; made where it does not exist.
            with_data: whether real inputs, and numbers about single ones, may go where the lens keeps any.
            token: of an account that may write; None for the one that is logged in.
            private: whether a new repository is private; None as the account's settings say.
            revision: branch, made where it does not exist; None for the main one.
            commit_message: of the commit.
            license: identifier of the licence on the hub, such as ``"mit"``, for the card; the choice is yours.
            explanation: explanations of inputs that the lens was not fitted on: the card says how many hold.
            dry_run: folder for what would be sent; nothing is, and no account is needed.

        Raises:
            OptionError: no such name; or the lens keeps single inputs, and `with_data` does not let them go.
            MissingExtraError: huggingface_hub is not installed: ``pip install 'xlens[hub]'``.
            StorageError: the hub refused, or cannot be reached.

        Warns:
            XlensWarning: the classifier has changed since the lens was fitted.

        >>> import tempfile
        >>> sorted(explainer.push_to_hub("owner/name", dry_run=tempfile.mkdtemp()).files)
        ['README.md', 'lens.json', 'lens.safetensors']
        """
        self.fitted.bound.warn("push_to_hub")
        return push(
            self.fitted,
            repo,
            with_data=with_data,
            token=token,
            private=private,
            revision=revision,
            commit_message=commit_message,
            license=license,
            explanation=explanation,
            dry_run=dry_run,
        )
