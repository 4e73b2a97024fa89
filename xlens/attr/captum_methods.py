"""Captum's methods by name, on any function of a batch that is a module."""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from xlens.attr.axes import channels_first, is_channels_last
from xlens.attr.layers import activations_of, spatial_layer, spread
from xlens.classifier.frozen import seeded
from xlens.errors import ModelError, OptionError, did_you_mean

__all__ = [
    "captum_attribution",
    "captum_names",
    "check_captum",
    "promises_completeness",
    "takes_baselines",
    "towards_its_sum",
]

#: Captum's classes that do not attribute a decision on one input to that input or a layer, and why.
_OTHERS = {
    "FeaturePermutation": "it permutes features between the inputs of a batch",
    "LayerFeaturePermutation": "it permutes features between the inputs of a batch",
    "LimeBase": "it needs functions of the user's; 'lime' is the method",
    "DataLoaderAttribution": "it is a wrapper around other methods",
}
_OTHER_KINDS = {"Neuron": "it attributes a neuron and not the decision", "LLM": "it is for language models"}
#: Random ones, and those that take their baselines for one distribution: run row by row, each seeded.
_ROW_BY_ROW = {
    "NoiseTunnel",
    "GradientShap", "DeepLiftShap", "LayerGradientShap", "LayerDeepLiftShap", "ShapleyValueSampling", "Lime",
    "KernelShap", "ShapleyValues",
}  # fmt: skip
#: Perturbed in patches, because single pixels would be too many: cells a side.
_CELLS = {"ShapleyValueSampling": 7, "Lime": 7, "KernelShap": 7, "FeatureAblation": 7, "ShapleyValues": 2}
_COMPLETE = {"IntegratedGradients", "DeepLift", "DeepLiftShap", "LayerIntegratedGradients", "LayerConductance",
             "LayerDeepLift", "LayerDeepLiftShap", "ShapleyValueSampling", "ShapleyValues"}  # fmt: skip


def captum_names() -> tuple[str, ...]:
    """Return the names of Captum's methods that :func:`captum_attribution` takes, e.g. ``"gradient_shap"``."""
    return tuple(sorted(_snake(name) for name in _classes() if _refusal(name) is None))


def promises_completeness(name: str) -> bool:
    """Whether the method's attributions should sum to the score difference."""
    return _class_name(name) in _COMPLETE


def towards_its_sum(name: str) -> str:
    """What to do, in words, where attributions that should sum to the score difference do not."""
    if "DeepLift" in str(_class_name(name)):
        return (
            "DeepLIFT has no rule for some operation of the classifier or the lens, and no steps to raise; use "
            "'integrated_gradients'"
        )
    return "raise the method's steps or samples"


def takes_baselines(name: str) -> bool:
    """Whether the method compares the input with a baseline, of the input or of a layer."""
    found = _class_name(name)
    return found is not None and any("baselines" in option for option in _parameters(_classes()[found]))


def check_captum(name: str, options: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with a method's name and options, in words."""
    found = _class_name(name)
    if found is None:
        return [f"unknown attribution {name!r}"]
    if reason := _refusal(found):
        return [f"Captum's {found} cannot be used here: {reason}"]
    known = _parameters(_classes()[found])
    return [
        f"{name} has no option {option!r}.{did_you_mean(option, known)} It takes {', '.join(known)}"
        for option in options
        if option not in known
    ]


def captum_attribution(
    name: str,
    function: nn.Module,
    inputs: Tensor,
    baselines: Tensor,
    arguments: tuple[Any, ...] = (),
    *,
    options: Mapping[str, Any] | None = None,
    batch: int = 64,
) -> Tensor:
    """Run one of Captum's methods on ``function(inputs, *arguments)``.

    Args:
        name: the method's name in snake case, e.g. ``"integrated_gradients"``, ``"layer_grad_cam"``.
        function: a module that maps ``(N, *S)``, and the arguments, to ``(N,)``. Methods that work on layers
            look for them inside it.
        inputs: ``(N, *S)``.
        baselines: ``(N, *S)``, each input's own, for methods that take any.
        arguments: further arguments; tensors have a row per input.
        options: the method's own, under Captum's names. For layer methods ``layer`` too (a dotted name, or the
            module): without it the last layer of the last convolution's resolution is taken, or the last map
            ``(N, h, w, C)`` where nothing but that follows, as in Swin. For
            ``"noise_tunnel"`` also ``method``, what it averages (``"saliency"``). Windows and patches are a
            seventh of each side unless given; ``"shapley_values"``, whose cost is a factorial, has four.
        batch: inputs attributed at once.

    Returns:
        ``(N, *S)``. The value of a patch (``feature_mask``) is divided among its pixels, and maps of a layer are
        summed over its channels and spread over the input's, so that sums over pixels keep their meaning.

    Raises:
        OptionError: an unknown name or option.
        ModelError: Captum cannot do this for the model, with its own words.

    >>> import torch
    >>> from xlens.attr.captum_methods import captum_attribution
    >>> sum_of_squares = type("F", (torch.nn.Module,), {"forward": lambda self, x: x.square().sum(1)})()
    >>> captum_attribution("integrated_gradients", sum_of_squares, torch.ones(1, 2), torch.zeros(1, 2))
    tensor([[1., 1.]])
    """
    options = dict(options or {})
    found = _class_name(name)
    if (faults := check_captum(name, options)) or found is None:
        near = did_you_mean(name, captum_names()) if found is None else ""
        raise OptionError(f"captum_attribution: {'; '.join(faults)}.{near}")
    kind = _classes()[found]
    layer = _layer(function, kind, options.pop("layer", None), inputs, arguments)
    turned = layer is not None and is_channels_last(layer, function, inputs, arguments, name)
    size = 1 if found in _ROW_BY_ROW else batch
    maps = []
    for start in range(0, len(inputs), size):
        rows = slice(start, start + size)
        further = tuple(a[rows] if isinstance(a, Tensor) and a.dim() else a for a in arguments)
        own = {key: _of_rows(value, rows, len(inputs)) for key, value in options.items()}
        with seeded(0), warnings.catch_warnings():
            # Captum warns of hooks that it takes away again, and of inputs that it marks for gradients.
            warnings.simplefilter("ignore")
            turning = channels_first(layer) if layer is not None and turned else nullcontext(layer)
            try:
                with turning as seen:
                    maps.append(_one(kind, function, seen, inputs[rows], baselines[rows], further, own, batch))
            except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as fault:
                if isinstance(fault, torch.OutOfMemoryError):
                    raise
                raise ModelError(
                    f"{name}: Captum cannot do this for the model",
                    given=f"{type(fault).__name__}: {str(fault).splitlines()[0] if str(fault) else ''}",
                    do="choose another method, or pass options for this one",
                ) from fault
            except AssertionError as fault:
                raise ModelError(
                    f"{name}: Captum refuses", given=str(fault), do="choose another method, or pass its options"
                ) from fault
    return torch.cat(maps)


def _one(
    kind: Any,
    function: nn.Module,
    layer: nn.Module | None,
    inputs: Tensor,
    baselines: Tensor,
    arguments: tuple[Any, ...],
    options: dict[str, Any],
    batch: int,
) -> Tensor:
    if kind.__name__ == "NoiseTunnel":
        inner = _classes()[_class_name(options.pop("method", "saliency")) or "Saliency"]
        method, takes = kind(inner(function)), (*_parameters(kind), *_parameters(inner))
    else:
        method, takes = (kind(function, layer) if layer is not None else kind(function)), _parameters(kind)
    given: dict[str, Any] = {"additional_forward_args": arguments or None}
    if "baselines" in takes:
        # Captum asks DeepLiftShap's distribution to have two members at least; both are the one baseline.
        twice = kind.__name__.endswith("DeepLiftShap")
        given["baselines"] = torch.cat([baselines, baselines]) if twice else baselines
    if "layer_baselines" in takes and layer is not None:
        given["layer_baselines"] = activations_of(layer, function, (baselines, *arguments))
    if "internal_batch_size" in takes:
        given["internal_batch_size"] = max(batch, len(inputs))
    if "feature_mask" in takes:
        given["feature_mask"] = options.get("feature_mask", _cells(inputs, _CELLS.get(kind.__name__, 7)))
    if "sliding_window_shapes" in takes:
        given |= _window(inputs)
    attributions = method.attribute(inputs.detach().clone().requires_grad_(), **(given | options))
    if not isinstance(attributions, Tensor):
        raise ModelError(f"{kind.__name__}: the layer's output is no tensor", do="choose another layer")
    attributions = attributions.detach()
    if given.get("feature_mask") is not None:
        attributions = _divided(attributions, given["feature_mask"])
    return attributions if attributions.shape == inputs.shape else spread(attributions, inputs)


def _classes() -> dict[str, Any]:
    import captum.attr

    members = vars(captum.attr).items()
    return {name: kind for name, kind in members if inspect.isclass(kind) and hasattr(kind, "attribute")}


def _class_name(name: str) -> str | None:
    return next((found for found in _classes() if _snake(found) == name), None)


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def _refusal(name: str) -> str | None:
    kinds = (reason for prefix, reason in _OTHER_KINDS.items() if prefix in name)
    abstract = "it is a base class" if name.endswith("Attribution") else None
    return _OTHERS.get(name) or next(kinds, None) or abstract


def _parameters(kind: Any) -> tuple[str, ...]:
    """Return the options of a method, without what is given anyway."""
    own = inspect.signature(kind.attribute).parameters
    given = {"self", "inputs", "target", "additional_forward_args", "return_convergence_delta", "kwargs"}
    extra = ("layer",) if "layer" in inspect.signature(kind.__init__).parameters else ()
    extra = ("method",) if kind.__name__ == "NoiseTunnel" else extra
    return (*(name for name in own if name not in given), *extra)


def _layer(
    function: nn.Module, kind: Any, chosen: Any, inputs: Tensor, arguments: tuple[Any, ...]
) -> nn.Module | None:
    if "layer" not in _parameters(kind):
        return None
    one = tuple(a[:1] if isinstance(a, Tensor) and a.dim() else a for a in arguments)
    return spatial_layer(function, chosen, (inputs[:1], *one), _snake(kind.__name__))


def _of_rows(value: Any, rows: slice, n: int) -> Any:
    """Return an option's part for some rows, where it has a row for each of several inputs."""
    return value[rows] if isinstance(value, Tensor) and value.dim() > 1 and len(value) == n > 1 else value


def _cells(inputs: Tensor, most: int) -> Tensor:
    """Return patches as a feature mask: `most` a side ``(1, 1, H, W)``, or its square along a vector."""
    if inputs.dim() != 4:
        count = inputs[0].numel()
        patches = torch.arange(count, device=inputs.device) * min(most**2, count) // count
        return patches.view(1, *inputs.shape[1:])
    height, width = inputs.shape[2:]
    rows, columns = min(most, height), min(most, width)
    row = torch.arange(height, device=inputs.device) * rows // height
    column = torch.arange(width, device=inputs.device) * columns // width
    return (row.unsqueeze(1) * columns + column).view(1, 1, height, width)


def _divided(attributions: Tensor, feature_mask: Tensor) -> Tensor:
    """Divide each feature's value, which Captum gives to all of its pixels, among them."""
    features = feature_mask.expand_as(attributions).long()
    shared = [torch.bincount(row.reshape(-1))[row] for row in features]
    return attributions / torch.stack(shared).to(attributions)


def _window(inputs: Tensor) -> dict[str, Any]:
    """Return a sliding window of about a seventh of each side, half of which is stepped over."""
    sides = [max(1, round(side / 7)) for side in inputs.shape[2:]] if inputs.dim() == 4 else []
    if not sides:
        return {"sliding_window_shapes": (1,) * (inputs.dim() - 1)}
    return {
        "sliding_window_shapes": (inputs.shape[1], *sides),
        "strides": (inputs.shape[1], *(max(1, side // 2) for side in sides)),
    }
