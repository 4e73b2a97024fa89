"""Where attributions point, against the true masks, beside four baselines on the same images."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from captum.attr import IntegratedGradients, LayerAttribution, LayerGradCam, Occlusion
from torch import Tensor, nn

import xlens
from benchmarks.common.judges import logits_of
from benchmarks.common.tasks import Task
from xlens.attr import Segment, path_integral
from xlens.classifier import score_margin
from xlens.metrics import mask_iou, pointing_game, relevance_mass

SMOOTH = 1.0


def localisation(
    model: nn.Module,
    explanation: xlens.Explanation,
    masks: Tensor,
    clean: Tensor,
    task: Task,
) -> dict[str, float]:
    """Return pointing, IoU at the mask's area (raw and smoothed) and relevance mass of every method."""
    x, target, contrast = explanation.inputs, explanation.target, explanation.contrast

    def score(points: Tensor, rows: Tensor) -> Tensor:
        return score_margin(model(points), target[rows], contrast[rows])

    def line(start: Tensor) -> Tensor:
        return path_integral(score, Segment(start, x), len(x), device=x.device, tolerance=0.02)[0]

    def forward(points: Tensor) -> Tensor:
        return model(points)[:, 1] - model(points)[:, 0]

    maps = {
        "lig": explanation.attributions["lig"],
        "ig_counterfactual": line(explanation.counterfactual),
        "Captum Occlusion (4x4, stride 2)": Occlusion(forward).attribute(
            x, (1, 4, 4), strides=(1, 2, 2), baselines=float(x.mean()), perturbations_per_eval=16
        ),
        "Captum Grad-CAM (last convolution)": grad_cam(model, forward, x, after=0),
        "Captum Grad-CAM (the ReLU after it)": grad_cam(model, forward, x, after=1),
        "Captum IG (black)": IntegratedGradients(forward).attribute(x, internal_batch_size=256).float(),
        "IG from the nearest real negative": line(nearest_negative(model, x, task.train)),
        "IG from the true clean original": line(clean),
        "random": torch.rand(x.shape, generator=torch.Generator().manual_seed(0)),
    }
    rows: dict[str, float] = {}
    for name, values in maps.items():
        rows |= {f"{name}: {figure}": value for figure, value in figures(values, masks).items()}
    return rows


def grad_cam(model: nn.Module, forward: Callable[[Tensor], Tensor], x: Tensor, after: int) -> Tensor:
    """Return Grad-CAM at the last convolution, or so many modules after it, at the size of the images."""
    modules = list(model.modules())
    last = max(i for i, module in enumerate(modules) if isinstance(module, nn.Conv2d))
    cam = LayerGradCam(forward, modules[last + after]).attribute(x, relu_attributions=True).detach()
    return LayerAttribution.interpolate(cam, tuple(x.shape[2:]), "bilinear")


def figures(values: Tensor, masks: Tensor) -> dict[str, float]:
    """Score maps ``(N, 1, H, W)`` against masks of that shape."""
    raw = values.detach().float()
    smooth = blur(raw)
    return {
        "pointing": float(pointing_game(raw, masks).mean()),
        "pointing, smoothed": float(pointing_game(smooth, masks).mean()),
        "IoU": float(mask_iou(raw, masks).mean()),
        "IoU, smoothed": float(mask_iou(smooth, masks).mean()),
        "mass": float(relevance_mass(raw, masks).mean()),
    }


def blur(maps: Tensor) -> Tensor:
    """Gaussian of one pixel, the same for every method."""
    offsets = torch.arange(-3, 4).float()
    kernel = torch.exp(-offsets.square() / (2 * SMOOTH**2))
    kernel = kernel / kernel.sum()
    maps = F.conv2d(maps, kernel.view(1, 1, 7, 1), padding=(3, 0))
    return F.conv2d(maps, kernel.view(1, 1, 1, 7), padding=(0, 3))


def nearest_negative(model: nn.Module, x: Tensor, train: Tensor) -> Tensor:
    """Return, for each input, the nearest training image that the classifier calls negative."""
    negatives = train[logits_of(model, train).argmax(1) == 0]
    nearest = torch.cdist(x.flatten(1), negatives.flatten(1)).argmin(1)
    return negatives[nearest]
