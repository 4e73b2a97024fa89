"""Explanation: the result of explaining, as data, with its own proof beside it."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from xlens.errors import DataError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from xlens.report.traversals import Traversal

__all__ = ["Explanation", "Fidelity"]


@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """How far an explanation can be believed, per input; every field is ``(N,)``.

    Args:
        score_gap: ``|f_c(x) - f_c(G(z))|`` in logits: how far the classifier's score moves under reconstruction.
        mse: mean squared error of the reconstruction, in the user's units; of a lens on a hidden layer, of the
            layer's activations.
        ssim: structural similarity of the reconstruction, or of the activations, at most 1.
        agrees: whether the classifier predicts the same class on the reconstruction as on the input.
        flips: whether the classifier predicts the contrast class on the counterfactual *of the real input*.
        decoding_flips: the same on the lens's own decoding G(z0); alone it proves little.
        monotone: share of the path's steps on which the classifier's score does not fall.
        coverage: share of the lens's whole change that the mask lets through, 0 to 1 (1 without a
            mask). Above about .6 the edit is not local.
    """

    score_gap: Tensor
    mse: Tensor
    ssim: Tensor
    agrees: Tensor
    flips: Tensor
    decoding_flips: Tensor
    monotone: Tensor
    coverage: Tensor

    def to_markdown(self) -> str:
        """Return a table of the figures over the batch: mean, worst input."""
        worst = {"score_gap": torch.max, "mse": torch.max, "coverage": torch.max}
        rows = ["| figure | mean | worst |", "|---|---|---|"]
        for field in dataclasses.fields(self):
            values = getattr(self, field.name).double()
            pick = worst.get(field.name, torch.min)
            rows.append(f"| {field.name} | {values.mean():.3f} | {pick(values):.3f} |")
        return "\n".join(rows)


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Explanation:
    """Explanations of N inputs: counterfactuals, attributions, figures, verdicts; data only, batch first, iterable.

    The score explained, f_c, is the margin of the classifier's logits: logit of `target` minus logit of `contrast`.

    Args:
        inputs: ``(N, *S)`` the real inputs x.
        reconstruction: ``(N, *S)`` G(z), or None for a lens that decodes to a hidden layer.
        edit: ``(N, *S)`` counterfactual minus inputs, or None likewise.
        counterfactual: ``(N, *S)`` the input without its evidence, x'.
        mask: ``(N, 1, *spatial)`` where the lens's change was carried over, in [0, 1], or None.
        target, contrast: ``(N,)`` class explained, and the class it is explained against.
        scores, reconstruction_scores, counterfactual_scores: ``(N,)`` f_c on each.
        attributions: name -> ``(N, *S)``; for a complete method the sum is the score difference. A lens on a hidden
            layer adds ``"lig: NAME"`` for each named part of the code, whose sum is that part's contribution.
        convergence_delta: name -> ``(N,)`` sum of the attributions minus the score difference, for path
            integrals and for methods that promise such a sum (of an ensemble: minus the mean difference).
        path: ``(N, T, *S)`` frames from the counterfactual to the input; of a lens on a hidden layer the kept real
            inputs nearest to the path, which is in the layer.
        path_scores: ``(N, T)`` f_c on each frame; of a lens on a hidden layer, on the path itself.
        codes, counterfactual_codes: ``(N, d)``.
        code_attributions: ``(N, d)`` what each dimension of the code contributes to the change of f_c between
            G(z0) and G(z).
        feature_names: names of the F parts of the code.
        feature_contributions: ``(N, F)`` the same, summed over the dimensions of each part.
        not_taught: names of parts about which nothing was ever answered: they contribute nothing, and what they
            occupy counts as everything else.
        fidelity: the figures by which to judge the explanation.
        verdicts: what the explanation certifies, each ``(N,)`` bool or None where it does not apply: ``flips``, the
            classifier changes its decision to the contrast class on the counterfactual; ``likeness``, the
            reconstruction stands for the input, and the edited region is like what real inputs have; ``specific``,
            the same mask moved elsewhere does not change the decision; ``stable``, the edit's effect outlasts a
            mild blur and small shifts; ``local``, the edit is a part of the input; ``complete``, attributions sum
            to what they should.
        trustworthy: ``(N,)`` whether every verdict that applies holds.
        problems: per input, in words, what does not hold.
        class_names: names of the classes.
        data_range: smallest and largest value of the data that the lens was fitted on.
        channel_ranges: the same for each channel; empty where unknown.
        other_labels: label -> ``(N, 2)`` the classifier's probability of each of its other independent labels, on
            the input and on the counterfactual: whether the edit is about the label asked about alone. Empty where
            classes exclude each other.
        decoded_from_layer: whether the counterfactual, and the frames of the path, are what a decoder makes of
            points of a hidden layer, and not real inputs near them.
        display_ranges: the values of each channel that are drawn darkest and brightest: what 0 and 1 became by the
            images' mean and std; empty where these are unknown, and then pictures map all channels alike.
        decisions: ``(N, 2)`` the class that the classifier predicts on the input and on the counterfactual, of all
            classes; None in explanations of earlier versions, which know of two classes alone.

    >>> explanation = explainer.explain(images[:3])
    >>> len(explanation), [len(one) for one in explanation], explanation[1].counterfactual.shape
    (3, [1, 1, 1], torch.Size([1, 1, 8, 8]))
    """

    inputs: Tensor
    reconstruction: Tensor | None
    edit: Tensor | None
    counterfactual: Tensor
    mask: Tensor | None
    target: Tensor
    contrast: Tensor
    scores: Tensor
    reconstruction_scores: Tensor
    counterfactual_scores: Tensor
    attributions: Mapping[str, Tensor]
    convergence_delta: Mapping[str, Tensor]
    path: Tensor
    path_scores: Tensor
    codes: Tensor
    counterfactual_codes: Tensor
    code_attributions: Tensor
    feature_names: tuple[str, ...]
    feature_contributions: Tensor
    not_taught: tuple[str, ...] = ()
    fidelity: Fidelity
    verdicts: Mapping[str, Tensor | None] = dataclasses.field(default_factory=dict)
    trustworthy: Tensor
    problems: tuple[tuple[str, ...], ...]
    class_names: tuple[str, ...]
    data_range: tuple[float, float]
    channel_ranges: tuple[tuple[float, float], ...] = ()
    other_labels: Mapping[str, Tensor] = dataclasses.field(default_factory=dict)
    decoded_from_layer: bool = False
    display_ranges: tuple[tuple[float, float], ...] = ()
    decisions: Tensor | None = None

    def __post_init__(self) -> None:
        n, shape = len(self.inputs), tuple(self.inputs.shape[1:])
        frames = self.path.shape[1] if self.path.dim() > 1 else 0
        expected = {
            "reconstruction": (n, *shape),
            "edit": (n, *shape),
            "counterfactual": (n, *shape),
            "mask": (n, 1, *shape[1:]),
            "path": (n, frames, *shape),
            "path_scores": (n, frames),
            "counterfactual_codes": tuple(self.codes.shape),
            "code_attributions": tuple(self.codes.shape),
            "feature_contributions": (n, len(self.feature_names)),
            "decisions": (n, 2),
        }
        per_input = ("target", "contrast", "scores", "reconstruction_scores", "counterfactual_scores")
        expected |= dict.fromkeys((*per_input, "trustworthy"), (n,))
        faults = [
            f"{name} is {tuple(value.shape)}, not {wanted}"
            for name, wanted in expected.items()
            if (value := getattr(self, name)) is not None and tuple(value.shape) != wanted
        ]
        for name, value in self.attributions.items():
            if tuple(value.shape) != (n, *shape):
                faults.append(f"attributions[{name!r}] is {tuple(value.shape)}, not {(n, *shape)}")
        for name, held in self.verdicts.items():
            if held is not None and tuple(held.shape) != (n,):
                faults.append(f"verdicts[{name!r}] is {tuple(held.shape)}, not {(n,)}")
        for name, pair in self.other_labels.items():
            if tuple(pair.shape) != (n, 2):
                faults.append(f"other_labels[{name!r}] is {tuple(pair.shape)}, not {(n, 2)}")
        faults += [f"{name} is not finite" for name, value in self._tensors() if not _finite(value)]
        if len(self.problems) != n:
            faults.append(f"problems has {len(self.problems)} entries, not {n}")
        if faults:
            raise DataError(
                "Explanation: parts do not fit together: " + "; ".join(faults),
                do="if a plugin made this explanation, check the shapes and values that its lens returns",
            )

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                yield field.name, value
            elif isinstance(value, Mapping):
                yield from ((f"{field.name}.{key}", item) for key, item in value.items() if item is not None)
            elif isinstance(value, Fidelity):
                for part in dataclasses.fields(value):
                    yield f"{field.name}.{part.name}", getattr(value, part.name)

    def _map(self, change: Any) -> dict[str, Any]:
        """Apply `change` to every tensor and return the fields."""
        fields: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                value = change(value)
            elif isinstance(value, Mapping):
                value = {key: None if item is None else change(item) for key, item in value.items()}
            elif isinstance(value, Fidelity):
                parts = {p.name: change(getattr(value, p.name)) for p in dataclasses.fields(value)}
                value = Fidelity(**parts)
            fields[field.name] = value
        return fields

    def __len__(self) -> int:
        """Return the number of inputs N."""
        return len(self.inputs)

    def __getitem__(self, index: int | slice) -> Explanation:
        """Return the explanation of one input (batch of 1) or of a slice."""
        if not isinstance(index, slice):
            index = operator.index(index)
            if not -len(self) <= index < len(self):
                raise IndexError(f"explanation {index} of {len(self)}")
            index = slice(index, index + 1 or None)
        fields = self._map(lambda tensor: tensor[index])
        return Explanation(**{**fields, "problems": self.problems[index]})

    def __iter__(self) -> Iterator[Explanation]:
        """Iterate over the inputs, each as an explanation with a batch of 1."""
        return (self[i] for i in range(len(self)))

    def to(self, device: str | torch.device) -> Explanation:
        """Return a copy with every tensor on `device`."""
        return Explanation(**self._map(lambda tensor: tensor.to(device)))

    def __repr__(self) -> str:
        """Return a line that fits a terminal."""
        shape = "x".join(map(str, self.inputs.shape[1:]))
        names = ", ".join(self.attributions) or "none"
        held = int(self.trustworthy.sum())
        return f"Explanation({len(self)} of {shape}; attributions: {names}; trustworthy: {held}/{len(self)})"

    def plot(self, index: int = 0) -> Figure:
        """Draw one explanation: images, attributions, path and fidelity.

        Args:
            index: which input of the batch.

        Returns:
            The matplotlib figure; nothing is shown and no global state is touched.

        >>> explainer.explain(images[:1]).plot()
        <Figure size ... with ... Axes>
        """
        from xlens.plot.explanation import plot_explanation

        return plot_explanation(self[index])

    def plot_features(self, index: int = 0) -> Figure:
        """Draw what each named part of the code contributes to the score of one input.

        >>> explainer.explain(images[:1]).plot_features()
        <Figure size ... with 1 Axes>
        """
        from xlens.plot.parts import plot_features

        return plot_features(self[index])

    def save_html(
        self,
        path: str | Path,
        *,
        names: Sequence[str] | None = None,
        title: str = "Explanations",
        traversals: Sequence[Traversal] = (),
        max_bytes: int | None = None,
        parts: Sequence[str] = (),
    ) -> None:
        """Write a report to one HTML file that opens in any browser, without a network.

        A slider morphs each image along its path while the probability and an attribution follow; several inputs
        make a gallery.

        Args:
            path: the file.
            names: N names of the inputs, such as file names.
            title: heading of the page.
            traversals: features set to several values, which get sliders; see
                :func:`xlens.report.render_traversals`.
            max_bytes: what the file should stay below, by coarser pictures under the sliders; None for 2 MB for
                sixteen images of 64x64, and in proportion.
            parts: names of parts that third parties bring, which come last.

        Raises:
            UnsupportedError: the inputs are neither images nor signals.
            DataError: names or traversals do not fit, or there is no input.
            OptionError: `max_bytes` is no whole number above 0, or there is no such part.
            StorageError: the file cannot be written.

        >>> import tempfile
        >>> explainer.explain(images[:3]).save_html(tempfile.mkdtemp() + "/why.html", names=["a", "b", "c"])
        """
        from xlens.report.page import save_html

        save_html(self, path, names=names, title=title, traversals=traversals, max_bytes=max_bytes, parts=parts)

    def _repr_html_(self) -> str | None:
        """Return what a notebook shows: the report of the first inputs in a frame of its own."""
        from xlens.report.page import notebook_html

        return notebook_html(self)

    def save(self, path: str | Path) -> None:
        """Write the explanation to one safetensors file, everything but its tensors as JSON in its header.

        Raises:
            StorageError: the file cannot be written.

        >>> import tempfile, xlens
        >>> file = tempfile.mkdtemp() + "/one.safetensors"
        >>> explainer.explain(images[:1]).save(file)
        >>> len(xlens.Explanation.load(file))
        1
        """
        from xlens.storage import save_explanation

        save_explanation(self, path)

    def records(self, names: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """Return a dict of plain values for each input, for tables: ``pandas.DataFrame(explanation.records())``.

        Args:
            names: N names of the inputs, such as file names.

        Raises:
            DataError: names do not fit.

        >>> [one["trustworthy"] for one in explainer.explain(images[:1]).records()]
        [...]
        """
        from xlens.storage import explanation_records

        return explanation_records(self, names)

    def to_csv(self, path: str | Path, *, names: Sequence[str] | None = None) -> None:
        """Write a row for each input with everything but pictures.

        Raises:
            DataError: names do not fit.
            StorageError: the file cannot be written.
        """
        from xlens.storage import write_explanation_csv

        write_explanation_csv(self, path, names)

    def to_json(
        self, path: str | Path | None = None, *, names: Sequence[str] | None = None, arrays: bool = False
    ) -> str:
        """Return everything as JSON, and write it to a file where one is named.

        Args:
            path: the file.
            names: N names of the inputs, such as file names.
            arrays: with images, masks, paths and maps, as nested lists; without them, everything else.

        Raises:
            DataError: names do not fit.
            StorageError: the file cannot be written.
        """
        from xlens.storage import explanation_to_json

        return explanation_to_json(self, path, names, arrays=arrays)

    @staticmethod
    def load(path: str | Path) -> Explanation:
        """Read an explanation that :meth:`save` wrote.

        Raises:
            StorageError: the file is missing, truncated, edited or not an explanation.
        """
        from xlens.storage import load_explanation

        return load_explanation(path)


def _finite(value: Tensor) -> bool:
    return not value.is_floating_point() or bool(value.isfinite().all())
