"""The maps that are compared: a lens's own, Captum's from several baselines, and maps that say nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xlens.attr.captum_methods import captum_attribution, captum_names, takes_baselines
from xlens.classifier.classifier import Classifier
from xlens.contracts.backend import Spec
from xlens.errors import did_you_mean
from xlens.explaining.attributions import Margin
from xlens.explaining.request import OWN, check_attributions
from xlens.registry.added import additions

__all__ = ["BASELINES", "CONTROLS", "Asked", "Contender", "lens_free", "parse_methods", "usual_methods"]

#: Baselines that need no lens, and what each takes beside the inputs.
BASELINES = {"black": None, "mean": None, "blurred": None, "nearest": "references", "clean": "clean"}
#: What is judged where nothing is said; Grad-CAM and the nearest real input where there are such.
_USUAL = ("lig", "ig_counterfactual", "integrated_gradients:mean", "saliency", "occlusion:mean", "random")
#: Standard deviation of the blur, as share of the smaller side.
_BLUR = 0.15


@dataclass(frozen=True)
class Asked:
    """The inputs and all that maps without a lens may need.

    Args:
        classifier: the classifier, which is frozen by the caller.
        spec: range and mean of the data.
        inputs: ``(N, *S)``.
        target, contrast: ``(N,)``.
        references: real inputs ``(M, *S)`` with the classifier's classes of them ``(M,)``, or None.
        clean: ``(N, *S)`` the inputs without the cause, or None.
        seed: of the random map.
    """

    classifier: Classifier
    spec: Spec
    inputs: Tensor
    target: Tensor
    contrast: Tensor
    references: tuple[Tensor, Tensor] | None
    clean: Tensor | None
    seed: int


@dataclass(frozen=True)
class Contender:
    """A map to be judged: the method's name as given, and its parts."""

    name: str
    method: str
    baseline: str | None
    options: Mapping[str, Any]

    @property
    def needs_lens(self) -> bool:
        """Whether it is another one for each lens."""
        if self.method in CONTROLS or self.baseline is not None:
            return False
        # What a third party adds is told of the counterfactual too.
        return self.method not in captum_names() or takes_baselines(self.method)


def usual_methods(references: Any, classifier: Classifier, is_image: bool) -> tuple[str, ...]:
    """Return the methods that an honest table has, as far as these inputs and this model take them."""
    convolves = any(isinstance(module, nn.Conv2d) for module in classifier.model.modules())
    cam = ("layer_grad_cam",) if is_image and convolves else ()
    nearest = () if references is None else ("integrated_gradients:nearest",)
    return (*_USUAL[:-1], *cam, *nearest, _USUAL[-1])


def parse_methods(methods: Any, given: Mapping[str, Any], is_image: bool) -> tuple[list[Contender], list[str]]:
    """Return the contenders, and what is wrong with them.

    Args:
        methods: names, or names with options.
        given: ``references`` and ``clean``, None where they were not.
        is_image: whether inputs are images.
    """
    if isinstance(methods, str) or not hasattr(methods, "__iter__"):
        return [], [f"methods must be a mapping of names to options or a sequence of names, got {methods!r}"]
    wanted = dict(methods) if isinstance(methods, Mapping) else {name: {} for name in methods}
    found, faults = [], []
    for name, options in wanted.items():
        method, _, baseline = str(name).partition(":")
        contender = Contender(str(name), method, baseline or None, options)
        faults += _faults(contender, given, is_image)
        found.append(contender)
    return found, faults


def _faults(one: Contender, given: Mapping[str, Any], is_image: bool) -> list[str]:
    if one.method in CONTROLS:
        faults = [f"{one.name!r} takes no options"] if one.options or one.baseline else []
        if one.method == "edges" and not is_image:
            faults.append("'edges' needs images")
        return faults
    known = (*OWN, *captum_names(), *additions("attribution"))
    if one.method not in known:
        near = did_you_mean(one.method, (*known, *CONTROLS))
        return [f"unknown method {one.name!r}.{near}"]
    _, faults = check_attributions({one.method: one.options})
    if one.method == "ig_ensemble" and given["references"] is None:
        faults.append("'ig_ensemble' needs references=")
    if one.baseline is None:
        return faults
    if not takes_baselines(one.method):
        faults.append(f"{one.method!r} takes no baseline, got {one.name!r}")
    elif one.baseline not in BASELINES:
        near = did_you_mean(one.baseline, BASELINES)
        faults.append(f"unknown baseline in {one.name!r}.{near} Known: {', '.join(BASELINES)}")
    elif (needed := BASELINES[one.baseline]) and given[needed] is None:
        faults.append(f"{one.name!r} needs {needed}=")
    elif one.baseline == "blurred" and not is_image:
        faults.append(f"{one.name!r} needs images")
    return faults


def lens_free(one: Contender, asked: Asked, rows: Tensor, classifier: Classifier | None = None) -> Tensor:
    """Return the map of some rows ``(n, *S)`` by a method in which no lens plays a part.

    Args:
        one: the method.
        asked: what it may need.
        rows: ``(n,)``.
        classifier: another classifier in the place of the classifier, for the randomisation check.
    """
    inputs = asked.inputs[rows]
    if one.method in CONTROLS:
        return CONTROLS[one.method](asked.inputs, asked.seed)[rows]
    return captum_attribution(
        one.method,
        Margin(classifier or asked.classifier),
        inputs,
        _baselines(one.baseline, asked, rows),
        (asked.target[rows], asked.contrast[rows]),
        options=one.options,
    )


def _baselines(name: str | None, asked: Asked, rows: Tensor) -> Tensor:
    inputs = asked.inputs[rows]
    if name in ("black", "mean"):
        value = asked.spec.per_channel("minimum" if name == "black" else "mean")
        return value.to(inputs).expand_as(inputs).clone()
    if name == "blurred":
        return blurred(inputs, _BLUR * min(inputs.shape[2:]))
    if name == "nearest" and asked.references is not None:
        return _nearest(asked, asked.references, rows)
    if name == "clean" and asked.clean is not None:
        return asked.clean[rows]
    # A method that takes none; Captum's bridge passes it on to nobody.
    return torch.zeros_like(inputs)


def _nearest(asked: Asked, known: tuple[Tensor, Tensor], rows: Tensor) -> Tensor:
    """Return for each input the nearest real one that the classifier puts in its contrast class, which has some."""
    references, classes = known
    found = torch.empty_like(asked.inputs[rows])
    for wanted in asked.contrast[rows].unique():
        candidates = references[classes == wanted]
        for place in (asked.contrast[rows] == wanted).nonzero()[:, 0].tolist():
            distance = (candidates - asked.inputs[rows[place]]).flatten(1).norm(dim=1)
            found[place] = candidates[distance.argmin()]
    return found


def blurred(images: Tensor, sigma: float) -> Tensor:
    """Return images ``(N, C, H, W)`` under a Gaussian, with their edge repeated beyond it."""
    reach = min(max(1, round(3 * sigma)), min(images.shape[2:]) - 1)
    offsets = torch.arange(-reach, reach + 1, dtype=images.dtype, device=images.device)
    kernel = torch.exp(-offsets.square() / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).expand(images.shape[1], 1, -1)
    padded = F.pad(images, (reach, reach, reach, reach), mode="replicate")
    rows = F.conv2d(padded, kernel.unsqueeze(2), groups=images.shape[1])
    return F.conv2d(rows, kernel.unsqueeze(3), groups=images.shape[1])


def _random(inputs: Tensor, seed: int) -> Tensor:
    return torch.randn(inputs.shape, generator=torch.Generator().manual_seed(seed)).to(inputs.device)


def _edges(inputs: Tensor, _seed: int) -> Tensor:
    """Sobel's magnitude of each channel."""
    across = inputs.new_tensor([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]])
    kernels = torch.stack([across, across.T])[:, None]
    padded = F.pad(inputs.flatten(0, 1)[:, None], (1, 1, 1, 1), mode="replicate")
    return F.conv2d(padded, kernels).norm(dim=1).view_as(inputs)


def _constant(inputs: Tensor, _seed: int) -> Tensor:
    return torch.ones_like(inputs)


#: Maps that do not look at the classifier: what is not better than these says nothing.
CONTROLS: dict[str, Callable[[Tensor, int], Tensor]] = {"random": _random, "edges": _edges, "constant": _constant}
