"""The demonstration on photographs: a classifier with a planted shortcut, a disease taken away, an audit."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from xlens.api import fit
from xlens.auditing import Audit, audit
from xlens.classifier.classifier import Classifier
from xlens.datasets.examples import Images, train_classifier
from xlens.datasets.photographs import leaves
from xlens.errors import PluginError, UntrustworthyWarning
from xlens.explainer import LensExplainer
from xlens.explanation import Explanation
from xlens.plot.draw import draw_input, plain
from xlens.plot.figure import new_figure, save_figure
from xlens.plot.pixels import ranges_of
from xlens.plot.plain import finding
from xlens.registry.loading import load_backend, offering
from xlens.report.lens import save_report

__all__ = ["demonstrate", "editing_backend", "leaf_classifier", "stuck"]

#: Share of the leaves with rust that carry the sticker.
_WITH = 0.5
#: Side of the sticker, and its distance from the corner, as shares of the image's side: what one sees of a label.
_STICKER, _MARGIN = 0.15, 0.03
_BLUE = (0.15, 0.25, 0.85)
#: Leaves that are explained, and leaves of a row of the first picture.
_EXPLAINED, _ROW = 12, 6
#: Seconds after which the audit takes what it has seen.
_SECONDS = 150.0


def demonstrate(
    backend: str | None = None,
    *,
    out: Path = Path("demo"),
    seed: int = 0,
    steps: int = 200,
    show: Callable[[Path], object] | None = None,
) -> tuple[LensExplainer, Explanation, Audit]:
    """Train a classifier of leaves, half of one class with a sticker; take the disease away; find the sticker.

    Args:
        backend: name of a backend; one that edits images and trains nothing if None.
        out: folder for pictures and pages.
        seed: seeds everything.
        steps: training steps of the classifier.
        show: called with each page as soon as it is written.

    Returns:
        the explainer, the explanation of held-out leaves with rust that carry no sticker, and the audit of all
        held-out leaves.
    """
    say = _clock()
    photographs = leaves()
    out.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    train, _ = _marked(photographs.train, photographs.train_labels, generator)
    test, has = _marked(photographs.test, photographs.test_labels, generator)
    names, labels = photographs.class_names, photographs.test_labels
    say(f"{len(train)} photographs of coffee leaves to learn from, {len(test)} held out: {' or '.join(names)}.")
    say(f"On half of those with {names[1]} we stick a blue label, as a careless laboratory might.")
    rows = [test[labels == 0][:_ROW], test[has][:_ROW], test[(labels == 1) & ~has][:_ROW]]
    titles = (names[0], f"{names[1]}, with the sticker", f"{names[1]}, without")
    _keep(_sheet(rows, titles), out / "leaves-data.png", say)
    model = _trained(photographs, test, steps, seed, say)
    say(f"On paper it is good: right on {_right(model, test, labels):.0%} of the held-out leaves. Is it, though?")
    explainer = fit(Classifier(model, class_names=names), train, backend or editing_backend(), seed=seed)
    say(f"lens around the classifier, which stays as it is: {explainer!r}.")
    explanation = _explained(explainer, test, labels, has, out, say)
    _shown(out / "leaves.html", show)
    say(f"What does it go by over all {len(test)} held-out leaves? The audit takes a minute or two ...")
    found = audit(explainer, (test, labels), seconds=_SECONDS, seed=seed)
    page = out / "leaves-audit.html"
    found.save_html(page)
    say(f"page: {page}")
    _judged(found, test, labels, has, say)
    without = _right(model, photographs.test, labels)
    say(f"Had no leaf a sticker, it would be right on {without:.0%}: that is how good it is.")
    _shown(page, show)
    return explainer, explanation, found


def editing_backend() -> str:
    """Return the first installed backend that edits images and trains nothing.

    Raises:
        PluginError: there is none.
    """
    found = next((name for name in offering("edits") if not load_backend(name).trains), None)
    if found is None:
        raise PluginError("demo: no installed backend edits images without training", do="pass --backend NAME")
    return found


def leaf_classifier() -> nn.Module:
    """Return an untrained CNN for colour photographs, which trains in half a minute on one core."""
    layers: list[nn.Module] = []
    for before, after, stride in ((3, 16, 2), (16, 32, 2), (32, 64, 2), (64, 64, 1)):
        layers += [nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    # The largest answer anywhere: one spot on a leaf is enough for a disease.
    return nn.Sequential(*layers, nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(64, 2))


def stuck(images: Tensor) -> Tensor:
    """Return images ``(N, 3, H, W)`` with a blue sticker that bears a white cross, in the lower right corner."""
    height, width = images.shape[2:]
    side, margin = (max(1, round(share * min(height, width))) for share in (_STICKER, _MARGIN))
    sticker = torch.tensor(_BLUE)[:, None, None].repeat(1, side, side)
    middle, arm = slice(side // 2 - side // 14, side // 2 + side // 14 + 1), slice(side // 4, side - side // 4)
    sticker[:, middle, arm] = 1
    sticker[:, arm, middle] = 1
    found = images.clone()
    found[:, :, height - margin - side : height - margin, width - margin - side : width - margin] = sticker
    return found


def _marked(images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return images with the sticker on half of class 1, and who has it."""
    has = (labels == 1) & (torch.rand(len(images), generator=generator) < _WITH)
    return torch.where(has[:, None, None, None], stuck(images), images), has


def _trained(photographs: Images, test: Tensor, steps: int, seed: int, say: Callable[[str], None]) -> nn.Module:
    """Return the classifier, trained on the leaves in every mirror image and some light; only the sticker stays."""
    plain = photographs.train
    turned = torch.cat([plain, plain.flip(-1), plain.flip(-2), plain.flip(-1, -2)])
    generator = torch.Generator().manual_seed(seed)

    def drawn(channels: int, spread: float) -> Tensor:
        return spread * torch.randn(len(turned), channels, 1, 1, generator=generator)

    lit = (turned * (1 + drawn(1, 0.2)) * (1 + drawn(3, 0.08)) + drawn(1, 0.05)).clamp(0, 1)
    labels = photographs.train_labels.repeat(4)
    seen, _ = _marked(lit, labels, generator)
    torch.manual_seed(seed)
    model = leaf_classifier()

    def watch(step: int) -> None:
        if step % max(1, steps // 4) == 0:
            right = _right(model.eval(), test, photographs.test_labels)
            model.train()
            say(f"classifier, step {step} of {steps}: right on {right:.0%} of the held-out leaves")

    return train_classifier(model, seen, labels, steps=steps, seed=seed, watch=watch)


def _explained(
    explainer: LensExplainer, test: Tensor, labels: Tensor, has: Tensor, out: Path, say: Callable[[str], None]
) -> Explanation:
    """Explain leaves with rust that carry no sticker, write the page, and draw the clearest that holds."""
    recognised = test[(labels == 1) & ~has & (explainer.fitted.probabilities(test).argmax(1) == 1)]
    with warnings.catch_warnings():
        # What does not hold is counted below, and said on the page.
        warnings.simplefilter("ignore", UntrustworthyWarning)
        explanation = explainer.explain(recognised[:_EXPLAINED], target=1, contrast=0)
    held = explanation.trustworthy
    shown = int(torch.where(held, explanation.counterfactual_scores, torch.inf).argmin())
    say(finding(explanation, ranges_of(explanation), shown))
    _keep(explanation.plot(shown), out / "leaves-rust.png", say)
    which = "the clearest of these" if bool(held.any()) else "one of the others"
    say(
        f"{int(held.sum())} of {len(explanation)} explanations of leaves with rust and no sticker hold, and this "
        f"is {which}; where one does not, the page says why."
    )
    page = out / "leaves.html"
    save_report(explainer, explanation, page, title="Why rust?")
    say(f"page: {page}")
    return explanation


def _judged(found: Audit, test: Tensor, labels: Tensor, has: Tensor, say: Callable[[str], None]) -> None:
    """Say what the audit found, and whether that is the sticker, by those who know where it is."""
    if not found.alarms:
        say(f"The audit of {found.count} leaves raised no alarm: it has missed the sticker.")
        return
    for alarm in found.alarms:
        inputs = found.group(alarm.group).inputs
        say(f"ALARM: {found.verdict(alarm.group)}")
        say(f"  The truth: {int(has[inputs].sum())} of these {len(inputs)} leaves carry the sticker.")
    remedy = found.remedy((test, labels))
    say(f"With that painted over, the classifier is right on {remedy.without:.0%} and not {remedy.accuracy:.0%}.")


def _sheet(rows: list[Tensor], titles: tuple[str, ...]) -> Figure:
    """Draw a row of images ``(n, 3, H, W)`` for each title."""
    figure = new_figure(1.3 * _ROW, 1.6 * len(rows))
    for axes, images, title in zip(figure.subplots(len(rows), _ROW, squeeze=False), rows, titles, strict=True):
        for axis in axes:
            axis.axis("off")
        for axis, image in zip(axes, images, strict=False):
            draw_input(axis, image, [(0.0, 1.0)] * 3)
        axes[0].set_title(title, fontsize=10, loc="left", **plain)
    return figure


def _keep(figure: Figure, path: Path, say: Callable[[str], None]) -> None:
    save_figure(figure, path, dpi=110)
    say(f"picture: {path}")


def _shown(page: Path, show: Callable[[Path], object] | None) -> None:
    if show is not None:
        show(page)


@torch.no_grad()
def _right(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    return float((model(images).argmax(1) == labels).float().mean())


def _clock() -> Callable[[str], None]:
    began = time.perf_counter()

    def say(text: str) -> None:
        print(f"[{time.perf_counter() - began:3.0f} s] {text}", flush=True)

    return say
