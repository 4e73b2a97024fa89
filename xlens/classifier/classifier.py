"""The user's classifier: logits whatever it returns, hidden layers by name, and never changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal, TypeGuard

import torch
from torch import Tensor, nn

from xlens.classifier.fingerprint import Identity, identity_of
from xlens.classifier.frozen import frozen
from xlens.classifier.hooks import of_this_thread
from xlens.classifier.modes import factories_of
from xlens.classifier.names import ordered_names
from xlens.classifier.normalization import as_normalization
from xlens.classifier.tail import structural_tail
from xlens.classifier.wrappers import bare_name, unwrapped
from xlens.errors import ModelError, did_you_mean

__all__ = ["Classifier", "as_classifier"]


class Classifier:
    """A trained model with the facts that xlens needs about it.

    The model is held by reference and left exactly as it is. Wrappers are taken off: of what ``torch.compile``,
    DataParallel, DistributedDataParallel, or a LightningModule that only calls the network is wrapped around, the
    network itself is asked, and names and fingerprint are its own.

    Args:
        model: any module that maps a batch ``(N, *S)`` to logits ``(N, K)``, or to one logit for
            binary decisions, ``(N,)`` or ``(N, 1)``. Tuples (first element), dicts (``"logits"``) and
            objects with ``.logits`` are unwrapped.
        layer: a hidden layer, by dotted module name or as the module itself, for lenses that work on
            activations. A layer that runs several times per forward pass stands for its last run.
        outputs: whether the model returns ``"logits"`` or ``"probabilities"``; the latter are turned
            into log-probabilities.
        class_names: names of the classes, for pictures and reports: in the model's order, or a mapping from index
            to name, such as ``model.config.id2label``.
        normalization: what was done to images in [0, 1] before the model sees them, which pictures undo: ``(mean,
            std)``, a torchvision transform with a Normalize, timm's data config, or an image processor. None takes
            it from the data's own transform where they have one, or from timm's configuration of the model.

    Raises:
        ModelError: the model is no module, the layer does not exist, or class_names are no names in an order.

    >>> import torch
    >>> from xlens import Classifier
    >>> classifier = Classifier(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 1)))
    >>> classifier(torch.zeros(3, 1, 2, 2)).shape  # one logit becomes two columns
    torch.Size([3, 2])
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        layer: str | nn.Module | None = None,
        outputs: Literal["logits", "probabilities"] = "logits",
        class_names: Sequence[str] | Mapping[int, str] | Mapping[str, str] | None = None,
        normalization: Any = None,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise ModelError(
                "Classifier: the model is not a torch.nn.Module",
                given=type(model).__name__,
                do="pass the trained module itself; a scikit-learn or numpy model has no gradients",
            )
        if outputs not in ("logits", "probabilities"):
            raise ModelError(
                "Classifier: outputs is wrong",
                given=repr(outputs),
                allowed="'logits' or 'probabilities'",
            )
        self.model, prefix = unwrapped(model)
        self.outputs = outputs
        self.layer = _layer_name(self.model, bare_name(layer, self.model, prefix) if _is_name(layer) else layer)
        self.class_names = ordered_names(class_names)
        self.normalization = as_normalization(normalization)
        # What runs after the hidden layer, in a tuple once it was looked for; None where the classifier cannot be
        # cut.
        self._cut: tuple[Callable[[Tensor], Any] | None] | None = None

    def __repr__(self) -> str:
        """Return the model's class and what was said of it."""
        layer = f", layer={self.layer!r}" if self.layer else ""
        return f"Classifier({type(self.model).__name__}{layer}, outputs={self.outputs!r})"

    def around(self, model: nn.Module) -> Classifier:
        """Return a classifier of the same layer, outputs, names and normalisation around another model."""
        return Classifier(
            model,
            layer=self.layer,
            outputs=self.outputs,
            class_names=self.class_names,
            normalization=self.normalization,
        )

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

        A single binary logit l becomes ``(0, l)``. Half precision comes back as float32. Gradients flow.

        Raises:
            ModelError: the model returns something that is not one row of class scores per input.
        """
        return self.logits(self._run(inputs), inputs)

    def probabilities(self, inputs: Tensor) -> Tensor:
        """Return class probabilities ``(N, K)``."""
        return self(inputs).softmax(1)

    def activations(self, inputs: Tensor) -> Tensor:
        """Return the output of the named hidden layer, ``(N, *A)``.

        Raises:
            ModelError: no layer was named, it did not run, or it does not return a tensor.
        """
        name = self._require_layer()
        with self.record([name]) as seen:
            self._run(inputs)
        if name not in seen:
            raise ModelError(
                f"Classifier: the layer {name!r} did not run in the forward pass",
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
        output = self._replace(given, inputs) if structural is None else structural(given)
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

    def names(self, num_classes: int) -> tuple[str, ...]:
        """Return the names of the classes; ``class 0``, ... where none were given.

        Classes of the same name get their index, because features and directions are found by name.
        """
        given = self.class_names or tuple(f"class {c}" for c in range(num_classes))
        counts = Counter(given)
        return tuple(name + (f" (class {c})" if counts[name] > 1 else "") for c, name in enumerate(given))

    def columns(self, probe: Tensor) -> int:
        """Return how many numbers the model itself gives per input; 1 for a single binary logit."""
        with torch.no_grad():
            return _unwrap(self._run(probe[:1])).numel()

    def frozen(self, seed: int | None = None) -> AbstractContextManager[Classifier]:
        """Return a context in which the model is in eval mode and takes no gradients.

        On leaving it, after an exception or Ctrl-C too, every buffer, train/eval flag, requires_grad,
        ``.grad``, hook and the global RNGs of torch, numpy and random are exactly as before. Contexts nest.

        Args:
            seed: seeds the global RNGs inside the context.
        """
        return frozen(self, self.model, seed)

    @contextmanager
    def record(self, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
        """Within this context, collect the outputs of modules whenever the model runs.

        Yields:
            module name -> its last tensor output. What follows the module sees a copy, so an in-place
            operation after it does not reach what was recorded.
        """
        seen: dict[str, Tensor] = {}
        modules = dict(self.model.named_modules())

        def keep(name: str) -> Callable[..., Tensor | None]:
            def hook(_module: nn.Module, _args: Any, output: Any) -> Tensor | None:
                if not isinstance(output, Tensor):
                    return None
                seen[name] = output
                return output.clone()

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

    def identity(self) -> Identity:
        """Return the fingerprint with the names of what decides outputs and could not be read for it."""
        return identity_of(self.model, self.layer, self.outputs)

    def logits(self, output: Any, inputs: Tensor) -> Tensor:
        """Turn whatever the model returned for `inputs` into logits ``(N, K)`` on their device."""
        values = _unwrap(output)
        if len(inputs) == 1 and values.dim() < 2:
            # A model that squeezes its output loses the batch dimension of a single input.
            values = values.reshape(1, -1)
        elif values.dim() == 1 and len(values) == len(inputs):
            values = values.unsqueeze(1)
        if values.dim() != 2 or len(values) != len(inputs) or values.shape[1] == 0:
            raise ModelError(
                "Classifier: the model does not return one row of class scores per input",
                given=f"an output of shape {tuple(values.shape)} for {len(inputs)} inputs",
                allowed="(N, K), or (N,) or (N, 1) for binary decisions",
                do="wrap the model in a module that returns its class logits",
            )
        values = values.to(inputs.device, torch.promote_types(values.dtype, torch.float32))
        if self.outputs == "probabilities":
            if values.shape[1] == 1:
                values = torch.cat([1 - values, values], 1)
            return values.clamp_min(torch.finfo(values.dtype).tiny).log()
        if values.shape[1] == 1:
            values = torch.cat([torch.zeros_like(values), values], 1)
        return values

    def _run(self, inputs: Tensor) -> Any:
        """Return what the model itself does for inputs that may be on another device."""
        prepared = self._prepare(inputs)
        with factories_of(prepared.device, prepared.dtype):
            return self.model(prepared)

    def _prepare(self, inputs: Tensor) -> Tensor:
        # A copy, because a model may begin with an in-place operation.
        return inputs.to(self.device, self.dtype).clone()

    def _state(self) -> Iterator[Tensor]:
        yield from self.model.parameters()
        yield from self.model.buffers()

    def _require_layer(self) -> str:
        if self.layer is None:
            raise ModelError(
                "Classifier: no hidden layer was named",
                do="wrap the model: xlens.Classifier(model, layer='name')",
            )
        return self.layer

    def _structural(self, probe: Tensor) -> Callable[[Tensor], Any] | None:
        """Return the layers after the hidden one if they reproduce the classifier on the first of `probe`."""
        name = self._require_layer()
        if self._cut is None:
            with torch.no_grad():
                found = structural_tail(self.model, name)
                right = found is not None and self._reproduces(found, probe[:1].detach())
            self._cut = (found if right else None,)
        return self._cut[0]

    def _reproduces(self, tail: Callable[[Tensor], Any], probe: Tensor) -> bool:
        with self.record([self._require_layer()]) as seen:
            expected = self(probe)
        if self.layer not in seen:
            return False
        try:
            found = self.logits(tail(seen[self.layer].clone()), probe)
        except Exception as fault:  # noqa: BLE001 - a tail cut in the wrong place may fail in any way
            if isinstance(fault, MemoryError):
                raise
            return False
        return bool(torch.equal(found, expected))

    def _replace(self, activations: Tensor, inputs: Tensor) -> Any:
        module = dict(self.model.named_modules())[self._require_layer()]
        runs = self._count_runs(module, inputs[:1])
        seen = 0

        def hook(_module: nn.Module, _args: Any, _output: Any) -> Tensor | None:
            nonlocal seen
            seen += 1
            return activations if seen == runs else None

        handle = module.register_forward_hook(of_this_thread(hook))
        try:
            return self._run(inputs)
        finally:
            handle.remove()

    def _count_runs(self, module: nn.Module, probe: Tensor) -> int:
        runs = 0

        def hook(*_: Any) -> None:
            nonlocal runs
            runs += 1

        handle = module.register_forward_hook(of_this_thread(hook))
        try:
            with torch.no_grad():
                self._run(probe)
        finally:
            handle.remove()
        return runs


def as_classifier(model: nn.Module | Classifier) -> Classifier:
    """Return `model` if it is a Classifier, else wrap it."""
    return model if isinstance(model, Classifier) else Classifier(model)


def _unwrap(output: Any) -> Tensor:
    if isinstance(getattr(output, "logits", None), Tensor):
        return output.logits
    if isinstance(output, Mapping):
        if isinstance(output.get("logits"), Tensor):
            return output["logits"]
        tensors = [value for value in output.values() if isinstance(value, Tensor)]
        if len(tensors) == 1:
            return tensors[0]
    if isinstance(output, tuple) and output and isinstance(output[0], Tensor):
        return output[0]
    if isinstance(output, Tensor):
        return output
    given = f"{type(output).__name__}"
    if isinstance(output, Mapping):
        given += f" with keys {sorted(map(str, output))}"
    raise ModelError(
        "Classifier: cannot find the logits in what the model returns",
        given=given,
        allowed="a tensor, a tuple whose first element is one, a dict with 'logits', or an object with .logits",
        do="wrap the model in a module whose forward returns the logits",
    )


def _is_name(layer: str | nn.Module | None) -> TypeGuard[str]:
    return isinstance(layer, str)


def _layer_name(model: nn.Module, layer: str | nn.Module | None) -> str | None:
    if layer is None:
        return None
    names = {name: module for name, module in model.named_modules() if name}
    if isinstance(layer, nn.Module):
        found = next((name for name, module in names.items() if module is layer), None)
        if found is None:
            raise ModelError(
                "Classifier: the layer given is not a module of this model",
                given=type(layer).__name__,
                do="pass a module that model.modules() lists, or its dotted name",
            )
        return found
    if layer not in names:
        raise ModelError(
            f"Classifier: the model has no layer {layer!r}.{did_you_mean(layer, names)}",
            allowed=", ".join(list(names)[:40]) + (", ..." if len(names) > 40 else ""),
            do="use a name from dict(model.named_modules())",
        )
    return layer
