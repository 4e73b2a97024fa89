"""medXGAN (Dravid et al. 2022): tables 1 to 3, and the ratio of attributed pixels."""

from __future__ import annotations

import warnings

import torch
from captum.attr import IntegratedGradients
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

import xlens
from benchmarks.common.cache import CACHE
from benchmarks.common.judges import logits_of, trained
from benchmarks.common.localisation import grad_cam
from benchmarks.common.tasks import Task, pair, planted
from benchmarks.ground_truth.lenses import lens
from benchmarks.lenses.medxgan import EPOCHS, fitted, restarts
from benchmarks.papers.cells import Figures, kept, lines, seeds, shown
from xlens.errors import StorageError
from xlens.metrics import intensity_drop

TASKS = {"pair": lambda seed: pair(), "planted": planted}
NAMES = {"pair": "shirt against coat", "planted": "planted blob"}
#: Anatomies drawn, with one negative and three positive realisations each; and test images explained.
DRAWN, EXPLAINED = 1000, 200
SHARES = (0.05, 0.1, 0.2)
MAPS = ("medXGAN", "xlens, masked", "Grad-CAM, last convolution", "Grad-CAM, its ReLU", "random")
#: A pixel counts from this on: as it is, or as a share of the largest of its own map.
THRESHOLDS = {"1e-6": (1e-6, False), ".01 of the largest": (0.01, True), ".1 of the largest": (0.1, True)}
RATIOS = {"lig_paper": "equation 7, reconstructions", "lig": "line integral, on the input through the mask"}
PAPERS, OURS = ("paper: brain MRI", "paper: chest X-ray"), tuple(f"ours: {name}" for name in NAMES.values())
PAPER = {
    ("generated", "accuracy"): ("0.992 ± .002", "0.937 ± .003"),
    ("generated", "AUC"): ("0.995 ± .001", "0.980 ± .003"),
    ("real", "accuracy"): ("0.852 ± .013", "0.750 ± .009"),
    ("real", "AUC"): ("0.975 ± .005", "0.763 ± .008"),
    "medXGAN": ("0.97 ± .03", "0.91 ± .08"),
    "Grad-CAM, last convolution": ("0.89 ± .10", "0.83 ± .15"),
    "cosine of codes": ("0.965 ± .008", "0.994 ± .005"),
    "SSIM": ("0.970 ± .020", "0.968 ± .015"),
}

WORDS = """\
The paper's data are tumours in brain MRI (64 pixels) and COVID-19 in chest X-rays (128 pixels, not public);
ours are two tasks of Fashion-MNIST (28 pixels), shirt (positive) against coat, and a planted blob (positive)
against none. Its generator is a GAN alone, whose codes are searched for each image; the xlens lens has an
encoder, smaller networks, an adversarial term that is conditional on the classifier's class, and terms on the
edited input
(defaults of the backend; `linear=False` for the blob). So a number of ours says whether the paper's finding
holds for this lens, not whether its own number can be reproduced."""

TABLE_1 = """\
1,000 anatomies, each once without evidence and three times with evidence drawn anew, as in the paper, so that
three of four are positive; evidence has the amount that the classifier's median positive has. On real images the
classes
are balanced here. Accuracy on generated images above that on real ones is no sign of quality: the generator
is trained to be called what it should be called."""

TABLE_2 = """\
Mean and standard deviation over {images} test images that the classifier rightly calls positive, by the share of
pixels
that every map loses. **The paper's areas were not matched**: it replaces what each map marks, without saying
from what value on, and a map that marks more of an image makes the classifier fall further. "medXGAN" is |G(z) -
G(z0)|,
the paper's difference of the two reconstructions; "xlens, masked" is |x - x'|, the same change as it is
carried onto the input. The paper names "the final convolutional layer"; the ReLU behind it is what most
implementations take. The blob has the paper's order against the layer that it names; at the ReLU behind it
Grad-CAM is ahead of the plain difference up to 10% of the pixels, and behind the difference through the mask
at every share. On shirts the test has little to find: an image that is grey throughout is still a shirt to the
classifier,
and lowers its probability by {shirt} (a blob's by {blob}), so that greying pixels at random raises it. The
maps keep the paper's order there too, within that. More on why grey pixels mislead: [ground
truth](ground_truth.md)."""

RATIO = """\
Mean and standard deviation over the same images of the ratio of two counts: pixels of the latent map over
those of Captum's IntegratedGradients from black on the input. The paper does not say what counts as non-zero,
and **the ratio is whatever the threshold makes of it**: with an absolute one that takes in everything but
exact zeros the latent maps have no fewer pixels (black pixels have exactly no attribution from a black
baseline); relative to the largest magnitude of each map they have fewer, and come near the paper's figure
only on the blob, which is small, and through the mask. Equation 7 multiplies by the whole difference of two
reconstructions, which is small but not zero nearly everywhere."""

TABLE_3 = """\
Sixteen positives, three starts each from the prior, 500 Adam steps with a prior term instead of 10,000 of
gradient descent; mean over pairs of starts. The part of the code that holds no class evidence is compared in
units of its prior, so that a shared mean does not count as likeness; the paper compares codes as they are.
Which block of evidence may be used is the classifier's to say. **The paper's convergence of codes is not found
here**:
images come close to each other on shirts, less so with the blob, and codes only in part."""


def measure(seed: int) -> Figures:
    """Return the figures of both tasks."""
    figures: Figures = {}
    for name, task_of in TASKS.items():
        task = task_of(seed)
        model = trained(task, seed, EPOCHS[name], only="f")["f"]
        explainer = lens_of(task, model, seed)
        found = {**table_1(explainer, model, task), **explained(explainer, model, task)}
        figures |= {f"{name}: {what}": value for what, value in found.items()}
        print(f"medxgan {seed} {name}", flush=True)
    return figures


def lens_of(task: Task, model: nn.Module, seed: int) -> xlens.LensExplainer:
    """Return the lens that medXGAN's own benchmark kept, or the ground-truth one, where there is one that fits."""
    if task.name == "planted":
        return lens("blob", task, model, "medxgan", seed)[0]
    try:
        return xlens.load(CACHE / f"lens-pair-{seed}", xlens.Classifier(model, class_names=task.class_names))
    except StorageError:
        return fitted(task, model, seed, {})


@torch.no_grad()
def realisations(explainer: xlens.LensExplainer) -> tuple[Tensor, Tensor]:
    """Return generated images and their intended classes: one z1 for one negative and three positives."""
    lens, generator = explainer.lens, torch.Generator().manual_seed(0)
    classes = torch.tensor([0, 1, 1, 1]).repeat(DRAWN)
    z1 = lens.prior.draw(DRAWN, generator).repeat_interleave(4, 0)
    kinds = lens.evidence.draw(len(classes), generator)
    blocks = lens.evidence.place(classes, torch.ones(len(classes)), kinds)
    return torch.cat([lens.decode(part) for part in torch.cat([z1, blocks], 1).split(500)]), classes


def table_1(explainer: xlens.LensExplainer, model: nn.Module, task: Task) -> Figures:
    """The classifier's accuracy and AUC on generated and on real images."""
    figures = {}
    for name, (images, labels) in {
        "generated": realisations(explainer),
        "real": (task.test, task.test_labels),
    }.items():
        margin = logits_of(model, images).diff(dim=1)[:, 0]
        figures[f"{name}, accuracy"] = float(((margin > 0) == labels.bool()).float().mean())
        figures[f"{name}, AUC"] = float(roc_auc_score(labels, margin))
    return figures


def explained(explainer: xlens.LensExplainer, model: nn.Module, task: Task) -> Figures:
    """Drops, ratios and inversions, on test images that the classifier rightly calls positive."""
    right = (logits_of(model, task.test).argmax(1) == 1) & (task.test_labels == 1)
    x = task.test[right][:EXPLAINED]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        paper = explainer.explain(x, carry="none", attributions=("lig_paper",))
        ours = explainer.explain(x, attributions=("lig",))

    def forward(points: Tensor) -> Tensor:
        return model(points)[:, 1] - model(points)[:, 0]

    maps = {
        "medXGAN": (paper.reconstruction - paper.counterfactual).abs(),
        "xlens, masked": (ours.inputs - ours.counterfactual).abs(),
        "Grad-CAM, last convolution": grad_cam(model, forward, x, after=0),
        "Grad-CAM, its ReLU": grad_cam(model, forward, x, after=1),
        "random": torch.rand(x.shape, generator=torch.Generator().manual_seed(0)),
    }
    figures: Figures = {}
    positive = torch.ones(len(x), dtype=torch.long)
    for name, values in maps.items():
        for share in SHARES:
            drop = intensity_drop(model, x, values, positive, share=share)
            _put(figures, f"drop, {name}, {share}", drop)
    _put(figures, "drop, every pixel", intensity_drop(model, x, maps["random"], positive, share=1.0))
    black = IntegratedGradients(forward).attribute(x, internal_batch_size=256).float()
    for name, values in (("lig_paper", paper.attributions["lig_paper"]), ("lig", ours.attributions["lig"])):
        for label, threshold in THRESHOLDS.items():
            _put(figures, f"ratio, {name}, {label}", counted(values, *threshold) / counted(black, *threshold))
    restarts(figures, explainer, x[:16])
    return figures


def counted(maps: Tensor, threshold: float, relative: bool) -> Tensor:
    """Return the number of pixels ``(N,)`` whose magnitude is above the threshold."""
    size = maps.abs().flatten(1)
    return (size > (threshold * size.amax(1, keepdim=True) if relative else threshold)).double().sum(1)


def _put(figures: Figures, name: str, values: Tensor) -> None:
    figures[name], figures[f"{name}, spread"] = float(values.mean()), float(values.std())


def page() -> str:
    """Return the section of the page."""
    cells = kept("papers-medxgan")
    here = list(cells.values())
    return "\n\n".join(
        [
            "## medXGAN (Dravid, Schiffers, Gong, Katsaggelos 2022)",
            "`python -m benchmarks.papers --run medxgan --seed 0` " + seeds(cells),
            WORDS,
            "**Table 1**: accuracy and AUC of the classifier on generated and on real images.",
            lines(("", *PAPERS, *OURS), table_1_rows(here)),
            TABLE_1,
            "**Table 2**: fall of the classifier's probability of the positive class when salient pixels become "
            "the mean.",
            lines(
                ("map", *PAPERS, *(f"{o}, {100 * s:g}%" for o in OURS for s in SHARES)),
                drop_rows(here),
            ),
            TABLE_2.format(images=EXPLAINED, shirt=whole(here, "pair"), blob=whole(here, "planted")),
            "**Ratio** of pixels with non-zero attribution, latent over pixel integrated gradients (section 4.2).",
            lines(
                ("counted from", "paper: brain MRI", *(f"{o}: {r}" for o in OURS for r in RATIOS.values())),
                ratio_rows(here),
            ),
            RATIO,
            "**Table 3**: three inversions from random starts.",
            lines(("", *PAPERS, *OURS), inversion_rows(here)),
            TABLE_3,
        ]
    )


def table_1_rows(cells: list[Figures]) -> list[list[str]]:
    return [
        [f"{kind}, {what}", *PAPER[kind, what], *(shown(cells, f"{task}: {kind}, {what}") for task in TASKS)]
        for kind in ("generated", "real")
        for what in ("accuracy", "AUC")
    ]


def drop_rows(cells: list[Figures]) -> list[list[str]]:
    return [
        [
            name,
            *PAPER.get(name, ("", "")),
            *(_spread(cells, f"{t}: drop, {name}, {s}") for t in TASKS for s in SHARES),
        ]
        for name in MAPS
    ]


def whole(cells: list[Figures], task: str) -> str:
    """Return how far the classifier falls on images of their own mean throughout."""
    return _spread(cells, f"{task}: drop, every pixel")


def ratio_rows(cells: list[Figures]) -> list[list[str]]:
    return [
        [
            label,
            "0.21 ± .09 (threshold not stated)" if i == 0 else "",
            *(_spread(cells, f"{task}: ratio, {name}, {label}") for task in TASKS for name in RATIOS),
        ]
        for i, label in enumerate(THRESHOLDS)
    ]


def inversion_rows(cells: list[Figures]) -> list[list[str]]:
    return [
        [what, *PAPER[what], *(shown(cells, f"{task}: 3 inversions: {key}") for task in TASKS)]
        for what, key in (
            ("cosine of codes", "cosine of codes (paper .965)"),
            ("SSIM", "SSIM of images (paper .970)"),
        )
    ]


def _spread(cells: list[Figures], name: str) -> str:
    return shown(cells, name, 2, f"{name}, spread")
