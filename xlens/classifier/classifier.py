"""The user's classifier: logits whatever it returns, hidden layers by name, and never changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from xlens.classifier.fingerprint import Identity, identity_of
from xlens.classifier.frozen import frozen
from xlens.classifier.hooks import of_this_thread
from xlens.classifier.modes import factories_of
from xlens.classifier.names import ordered_names
from xlens.classifier.normalization import as_normalization
from xlens.classifier.outputs import OutputKind, outputs_of, rows_of, tensor_of
from xlens.classifier.put_out import tensor_in, with_tensor
from xlens.classifier.tail import WholeTail, structural_tail
from xlens.classifier.whole import tensors_of
from xlens.classifier.wrappers import bare_name, layer_name, unwrapped
from xlens.errors import ModelError

__all__ = ["Classifier", "as_classifier"]


class Classifier:
    """Classifier: a trained model from inputs ``(N, *S)`` to logits ``(N, K)``, with what xlens has to know of it.

    The model is held by reference and left exactly as it is. Wrappers are taken off: of what ``torch.compile``,
    DataParallel, DistributedDataParallel, AveragedModel, or a LightningModule that only calls the network is put
    around, the network itself is asked, and names and fingerprint are its own.

    Args:
        model: any module that maps a batch ``(N, *S)`` to logits ``(N, K)``, or to one logit for binary decisions,
            ``(N,)`` or ``(N, 1)``. Tuples (the first), dicts (``"logits"``), objects (``.logits``) are unwrapped.
        layer: a hidden layer, by dotted module name or as the module itself, for lenses that work on
            activations. A layer that runs several times per forward pass stands for its last run; one that puts
            out a tuple or a list for the first tensor there, one that puts out a dict for its one tensor.
        outputs: what the model returns: ``"logits"``, ``"probabilities"`` (turned into log-probabilities), or

            - ``"multilabel"``: K logits of labels of which any number may hold, or ``"multilabel_probabilities"``,
              the same after a sigmoid. One `label` is asked about at a time: the classes are its absence (0) and
              its presence (1), and the score is its logit. :meth:`about` asks the same model about another one.
            - ``"regression"``: one number, ``(N,)`` or ``(N, 1)``. The classes are below (0) and above (1) the
              `threshold`, and the score is the number minus the threshold. What reads as a probability is the
              sigmoid of that, in the model's own units.
            - ``"ordinal"``: logits of K ordered grades. The classes are the grades below (0), and from on (1), the
              grade that `threshold` is the index of.
        class_names: names of the classes, for pictures and reports: in the model's order, or a mapping from index
            to name, such as ``model.config.id2label``. Where two classes are read out of the outputs they name
            these two; ``("no rust", "rust")`` and the like if not given.
        labels: names of independent labels, or of ordered grades, in the model's order, or as a mapping likewise.
        label: the label that is asked about, by name or number. Without it the classifier returns the logits of all
            labels side by side, and no lens can be fitted around it.
        threshold: of a number, what it is asked to be above; of grades, the index of the first that lies above.
        normalization: what was done to images in [0, 1] before the model sees them, which pictures undo: ``(mean,
            std)``, a torchvision transform with a Normalize, timm's data config, or an image processor. None takes
            it from the data's own transform where they have one, or from timm's configuration of the model.

    Raises:
        ModelError: the model is no module, the layer does not exist, class_names or labels are no names in an
            order, or what was said of the outputs does not fit together.

    >>> import torch
    >>> from xlens import Classifier
    >>> classifier = Classifier(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 1)))
    >>> classifier(torch.zeros(3, 1, 2, 2)).shape  # one logit becomes two columns
    torch.Size([3, 2])
    >>> several = Classifier(torch.nn.Linear(4, 3), outputs="multilabel", labels=["rust", "miner", "phoma"])
    >>> several.about("miner").class_names, several.about("miner")(torch.zeros(5, 4)).shape
    (('no miner', 'miner'), torch.Size([5, 2]))
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        layer: str | nn.Module | None = None,
        outputs: OutputKind = "logits",
        class_names: Sequence[str] | Mapping[int, str] | Mapping[str, str] | None = None,
        labels: Sequence[str] | Mapping[int, str] | Mapping[str, str] | None = None,
        label: int | str | None = None,
        threshold: float | None = None,
        normalization: Any = None,
    ) -> None:
        self.reading = outputs_of(outputs, labels, label, threshold)
        if not isinstance(model, nn.Module):
            raise ModelError(
                "Classifier: the model is not a torch.nn.Module",
                given=type(model).__name__,
                do="pass the trained module itself; a scikit-learn or numpy model has no gradients",
            )
        self.model, prefix = unwrapped(model)
        named = bare_name(layer, self.model, prefix) if isinstance(layer, str) else layer
        self.layer = layer_name(self.model, named)
        self.class_names = ordered_names(class_names) or self.reading.class_names
        self.normalization = as_normalization(normalization)
        self._check_class_names()
        # What runs after the hidden layer, in a tuple once it was looked for; None where the classifier cannot be
        # cut.
        self._cut: tuple[nn.Module | None] | None = None

    def __repr__(self) -> str:
        """Return the model's class and what was said of it."""
        layer = f", layer={self.layer!r}" if self.layer else ""
        asked = {"label": self.label, "threshold": self.threshold}
        said = "".join(f", {name}={value!r}" for name, value in asked.items() if value is not None)
        return f"Classifier({type(self.model).__name__}{layer}, outputs={self.outputs!r}{said})"

    @property
    def outputs(self) -> OutputKind:
        """What the model returns."""
        return self.reading.kind

    @property
    def labels(self) -> tuple[str, ...] | None:
        """Names of independent labels, or of ordered grades; None where none were given."""
        return self.reading.labels

    @property
    def label(self) -> int | None:
        """The label that is asked about, of independent ones."""
        return self.reading.label

    @property
    def threshold(self) -> float | None:
        """What a number, or a grade, is asked to be above."""
        return self.reading.threshold

    def around(self, model: nn.Module) -> Classifier:
        """Return a classifier of the same layer, outputs, names and normalisation around another model."""
        return self.replaced(model=model)

    def about(self, label: int | str | None) -> Classifier:
        """Return the classifier of another of the model's independent labels, by name or number; None for all.

        Raises:
            ModelError: the model's outputs are no independent labels, or there is no such label.
        """
        if not self.reading.independent:
            raise ModelError(
                "Classifier: only independent labels can be asked about one by one",
                given=f"outputs={self.outputs!r}",
                allowed="outputs='multilabel', or 'multilabel_probabilities' where the model ends with a sigmoid",
            )
        return self.replaced(label=label, class_names=None)

    def replaced(self, **changes: Any) -> Classifier:
        """Return a classifier of which something else is said, by the names of the constructor's arguments."""
        said = {
            "model": self.model,
            "layer": self.layer,
            "outputs": self.outputs,
            "class_names": self.class_names,
            "labels": self.labels,
            "label": self.label,
            "threshold": self.threshold,
            "normalization": self.normalization,
        }
        return Classifier(**{**said, **changes})

    @property
    def device(self) -> torch.device:
        """Device of the model's first parameter or buffer; the CPU if it has none."""
        return next((t.device for t in self._state()), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """Floating dtype of the model's first parameter or buffer; float32 if it has none."""
        return next((t.dtype for t in self._state() if t.is_floating_point()), torch.float32)

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return logits ``(N, K)``, K >= 2, on the device of `inputs`.

        A single binary logit l, or that of the label asked about, becomes ``(0, l)``. Of independent labels without
        one that is asked about come the logits of all. Half precision comes back as float32. Gradients flow. In
        train mode the model takes note of the inputs; within `frozen`, as this library asks, nothing changes.

        Raises:
            ModelError: the model returns something that is not one row of class scores per input.
        """
        return self.logits(self._run(inputs), inputs)

    def probabilities(self, inputs: Tensor) -> Tensor:
        """Return class probabilities ``(N, K)``; those of all independent labels side by side need not sum to 1."""
        return self.reading.probabilities(self(inputs))

    def activations(self, inputs: Tensor) -> Tensor:
        """Return the output of the named hidden layer, ``(N, *A)``.

        Raises:
            ModelError: no layer was named, it did not run, or it puts out no tensor.
        """
        name = self._require_layer()
        with self.record([name]) as seen:
            self._run(inputs)
        if name not in seen:
            raise ModelError(
                f"Classifier: the layer {name!r} did not run in the forward pass, or puts out no tensor",
                do="name a module that the model calls on the way to its output",
            )
        return seen[name]

    def tail(self, activations: Tensor, inputs: Tensor) -> Tensor:
        """Return the logits ``(N, K)`` that the classifier gives when its hidden layer outputs `activations`.

        Where the model's structure allows, only the layers after the hidden one run. Otherwise the
        whole model runs on `inputs` and the layer's output is replaced.

        Args:
            activations: ``(N, *A)``.
            inputs: ``(N, *S)`` what the rest of the model sees where there are paths around the layer.
        """
        structural = self._structural(inputs)
        given = activations.to(self.device, self.dtype).clone()
        output = self._whole(inputs)(given) if structural is None else structural(given)
        return self.logits(output, inputs)

    def cut(self, probe: Tensor) -> Callable[[Tensor], Tensor] | None:
        """Return a function from the layer's activations ``(N, *A)`` to logits, or None where the classifier cannot
        be cut.

        It needs no inputs, because only the layers after the hidden one run.

        Args:
            probe: ``(N, *S)`` inputs on which the cut is compared with the classifier.
        """
        tail = self._structural(probe)
        if tail is None:
            return None

        def logits(activations: Tensor) -> Tensor:
            given = activations.to(self.device, self.dtype).clone()
            return self.logits(tail(given), activations)

        return logits

    def following(self, probe: Tensor) -> nn.Module:
        """Return what turns the layer's activations ``(N, *A)`` into the model's own output, as a module.

        It shares the model's parts. Where the model cannot be cut, it is the whole of it, run on the probe with the
        layer's output replaced: right where the layer alone decides, which :meth:`decided_by_layer` says.

        Args:
            probe: ``(N, *S)`` inputs, of which the first is used.
        """
        if (tail := self._tail_of(probe)) is not None:
            return tail
        return self._whole(probe[:1])

    def decided_by_layer(self, inputs: Tensor) -> bool:
        """Whether the classifier sees nothing of inputs ``(N, *S)``, N >= 2, but what goes through its layer."""
        if self._tail_of(inputs) is not None:
            return True
        with torch.no_grad():
            expected = self(inputs)
            found = self.logits(self._whole(inputs.flip(0))(self.activations(inputs).clone()), inputs)
        return torch.allclose(found, expected, rtol=1e-3, atol=1e-4)

    def names(self, num_classes: int) -> tuple[str, ...]:
        """Return the names of the classes; ``class 0``, ..., or ``label 0``, ..., where none were given.

        Classes of the same name get their index, because features and directions are found by name.
        """
        word = "label" if self.reading.independent else "class"
        given = self.class_names or tuple(f"{word} {c}" for c in range(num_classes))
        counts = Counter(given)
        return tuple(name + (f" ({word} {c})" if counts[name] > 1 else "") for c, name in enumerate(given))

    def columns(self, probe: Tensor) -> int:
        """Return how many numbers the model itself gives per input; 1 for a single binary logit."""
        with torch.no_grad():
            return tensor_of(self._run(probe[:1])).numel()

    def frozen(self, seed: int | None = None) -> AbstractContextManager[Classifier]:
        """Return a context in which the model is in eval mode and takes no gradients.

        On leaving it, after an exception or Ctrl-C too, every buffer, train/eval flag, requires_grad, ``.grad``,
        hook and the global RNGs of torch, numpy and random are exactly as before. Contexts nest.

        Args:
            seed: seeds the global RNGs inside the context.
        """
        return frozen(self, self.model, seed)

    @contextmanager
    def record(self, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
        """Within this context, collect the outputs of modules whenever the model runs.

        Yields:
            module name -> its last output, or the tensor that it stands for; what follows sees a copy.
        """
        seen: dict[str, Tensor] = {}
        modules = dict(self.model.named_modules())

        def keep(name: str) -> Callable[..., Any]:
            def hook(_module: nn.Module, _args: Any, output: Any) -> Any:
                if (found := tensor_in(output)) is None:
                    return None
                seen[name] = found
                return with_tensor(output, found.clone())

            return hook

        handles = [modules[name].register_forward_hook(of_this_thread(keep(name))) for name in names]
        try:
            yield seen
        finally:
            for handle in handles:
                handle.remove()

    def fingerprint(self) -> str:
        """Return a hash of the model's weights and buffers, its modules, the layer and the output kind.

        A lens is bound to it. What a module computes beyond its type and the settings that its repr
        shows is not seen.
        """
        return self.identity().digest

    def identity(self, *, as_shown: bool = False) -> Identity:
        """Return the fingerprint with the names of what decides outputs and could not be read for it."""
        return identity_of(self.model, self.layer, self.reading.key, as_shown=as_shown)

    def logits(self, output: Any, inputs: Tensor) -> Tensor:
        """Turn whatever the model returned for `inputs` into logits ``(N, K)`` on their device."""
        values = rows_of(output, inputs)
        return self.reading.logits(values.to(inputs.device, torch.promote_types(values.dtype, torch.float32)))

    def _check_class_names(self) -> None:
        own = self.reading.class_names
        if own is not None and self.class_names is not None and len(self.class_names) != len(own):
            raise ModelError(
                f"Classifier: class_names do not fit outputs={self.outputs!r}",
                given=f"{len(self.class_names)} names",
                allowed=f"{len(own)}, such as {own!r}",
                do="name the model's labels, or grades, with labels=[...]",
            )

    def _run(self, inputs: Tensor) -> Any:
        """Return what the model itself does for inputs that may be on another device."""
        prepared = self._prepare(inputs)
        with factories_of(prepared.device, prepared.dtype):
            return self.model(prepared)

    def _prepare(self, inputs: Tensor) -> Tensor:
        # A copy, because a model may begin with an in-place operation.
        return inputs.to(self.device, self.dtype).clone()

    def _state(self) -> Iterator[Tensor]:
        # Mostly only the first is asked for; all that a model keeps is gone through where torch knows of none.
        yield from self.model.parameters()
        yield from tensors_of(self.model)

    def _require_layer(self) -> str:
        if self.layer is None:
            raise ModelError(
                "Classifier: no hidden layer was named",
                do="wrap the model: xlens.Classifier(model, layer='name')",
            )
        return self.layer

    def _structural(self, probe: Tensor) -> Callable[[Tensor], Any] | None:
        """Return the layers after the hidden one if they reproduce the classifier on the first of `probe`."""
        tail = self._tail_of(probe)
        # Not by calling it: a traced module prints to the terminal what goes wrong in it.
        return None if tail is None else tail.forward

    def _tail_of(self, probe: Tensor) -> nn.Module | None:
        name = self._require_layer()
        if self._cut is None:
            with torch.no_grad():
                found = structural_tail(self.model, name)
                right = found is not None and self._reproduces(found.forward, probe[:1].detach())
            self._cut = (found if right else None,)
        return self._cut[0]

    def _whole(self, inputs: Tensor) -> WholeTail:
        return WholeTail(self.model, self._require_layer(), self._prepare(inputs))

    def _reproduces(self, tail: Callable[[Tensor], Any], probe: Tensor) -> bool:
        with self.record([self._require_layer()]) as seen:
            expected = self(probe)
        # What follows a tuple takes it apart, which of one row may go right with a tensor in its place.
        if self.layer not in seen or not self._whole(probe).plain:
            return False
        try:
            found = self.logits(tail(seen[self.layer].clone()), probe)
        except Exception as fault:  # noqa: BLE001 - a tail cut in the wrong place may fail in any way
            if isinstance(fault, MemoryError):
                raise
            return False
        return bool(torch.equal(found, expected))


def as_classifier(model: nn.Module | Classifier) -> Classifier:
    """Return `model` if it is a Classifier, else wrap it."""
    return model if isinstance(model, Classifier) else Classifier(model)
