"""What people search for, and pages that it finds among the first three: ``python docs/building/words.py site``.

The search is the site's own, in a headless Chromium, from files: no server, no network.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

__all__ = ["WORDS", "chromium", "found", "missed"]

#: Word -> pages, any of which is right.
WORDS: dict[str, tuple[str, ...]] = {
    "install": ("start", "api/contributing"),
    "quickstart": ("start", "api/example-quickstart", "guide/questions"),
    "counterfactual": ("guide/questions", "how_it_works", "start", "api/xlens"),
    "saliency": ("guide/attributions",),
    "heat map": ("index", "choosing", "guide/attributions"),
    "Grad-CAM": ("guide/attributions", "benchmarks/ground_truth"),
    "integrated gradients": ("guide/attributions", "api/xlens-attr"),
    "occlusion": ("guide/attributions", "benchmarks/ground_truth"),
    "SHAP": ("guide/attributions",),
    "baseline": ("guide/attributions", "faq", "metrics"),
    "Captum": ("guide/attributions", "api/xlens-attr"),
    "Quantus": ("api/xlens-integrations-quantus", "metrics", "guide/attributions"),
    "shortcut": ("guide/audit", "benchmarks/shortcuts", "tutorials/audit"),
    "spurious correlation": ("guide/audit", "api/xlens-auditing"),
    "Clever Hans": ("guide/audit",),
    "bias": ("guide/audit",),
    "DICOM": ("guide/command_line", "api/xlens-data"),
    "NIfTI": ("guide/command_line", "api/xlens-data"),
    "timm": ("api/example-timm_model", "tutorials/resnet", "guide/training_code"),
    "ResNet": ("tutorials/resnet",),
    "ViT": ("tutorials/vit",),
    "transformer": ("tutorials/vit",),
    "Hugging Face": ("api/example-hugging_face", "guide/training_code"),
    "Lightning": ("api/example-lightning_callback", "guide/training_code", "api/xlens-integrations-lightning"),
    "TensorBoard": ("guide/training_code", "api/example-trackers", "guide/reports"),
    "multi-label": ("guide/outputs", "tutorials/multilabel"),
    "regression": ("guide/outputs",),
    "ordinal": ("guide/outputs",),
    "softmax": ("faq", "guide/outputs"),
    # The first found is the reference of Classifier, whose argument it is.
    "class names": ("guide/outputs", "api/xlens"),
    "checkpoint": ("faq", "guide/questions", "tutorials/training_loop", "guide/training_code"),
    "resume": ("faq", "guide/questions", "tutorials/training_loop"),
    "CUDA": ("choosing", "faq"),
    "GPU": ("choosing", "guide/training_code"),
    "out of memory": ("faq",),
    "memory": ("choosing", "faq", "guide/attributions"),
    "distributed": ("guide/training_code",),
    "mixed precision": ("guide/training_code",),
    "plugin": ("authors/lens", "authors/more", "tutorials/plugin", "api/xlens-registry"),
    "adversarial": ("faq", "guide/trust", "benchmarks/verdicts"),
    "faithfulness": ("guide/trust", "metrics"),
    "trustworthy": ("guide/trust", "how_it_works", "start"),
    "hidden layer": ("guide/layers", "tutorials/layer", "benchmarks/layers"),
    "concept": ("guide/layers", "tutorials/layer"),
    "disentanglement": ("metrics", "api/xlens-metrics"),
    "GAN": ("guide/backends", "api/xlens_medxgan", "choosing"),
    "VAE": ("guide/backends", "choosing", "api/xlens_svae", "api/xlens_introvac"),
    "diffusion": ("guide/backends", "api/xlens_flow"),
    "normalization": ("guide/questions", "faq", "guide/outputs"),
    "privacy": ("privacy",),
    "pickle": ("privacy",),
    "report": ("guide/reports", "api/xlens-report"),
    "command line": ("guide/command_line",),
    "reproducible": ("faq",),
    "seed": ("faq", "guide/questions"),
    "active learning": ("guide/layers", "api/xlens-teaching"),
    "licence": ("index", "start"),
    "cite": ("index", "start"),
    # Of the twenty questions of docs/benchmarks/questions.md.
    "convergence delta": ("faq", "guide/attributions"),
    "negative attributions": ("faq",),
    "black baseline": ("faq", "guide/trust"),
    "binary classification": ("faq", "guide/outputs"),
    "sigmoid": ("faq", "guide/outputs"),
    "compare methods": ("tutorials/researcher", "guide/trust"),
    "DataLoader": ("faq", "guide/questions"),
    "segmentation": ("faq",),
    "object detection": ("faq",),
    "inplace": ("faq",),
    "reshape_transform": ("faq", "tutorials/vit"),
    "multiple inputs": ("faq",),
    "does not require grad": ("faq",),
    "background": ("faq", "guide/audit"),
    "counterfactual not found": ("faq",),
    "color images": ("faq",),
    "ImageNet": ("faq", "choosing"),
    "black box": ("faq",),
    "target class": ("faq",),
}
_ASK = """query => {
    const [text, terms, excluded, highlight, objects] = Search._parseQuery(query);
    // Shown from the last to the first.
    return Search._performSearch(text, terms, excluded, highlight, objects).map(one => one[0]).reverse();
}"""


def chromium() -> str | None:
    """Return where Chromium is, or None."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def found(site: Path, browser: str) -> dict[str, list[str]]:
    """Return the first three pages that the built site's search finds, for each word."""
    from playwright.sync_api import sync_playwright

    answers: dict[str, list[str]] = {}
    with sync_playwright() as started:
        running = started.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = running.new_page()
        page.goto((site / "search.html").resolve().as_uri())
        page.wait_for_function("typeof Search !== 'undefined' && Search._index !== null")
        for word in WORDS:
            pages = dict.fromkeys(page.evaluate(_ASK, word))
            answers[word] = list(pages)[:3]
        running.close()
    return answers


def missed(site: Path, browser: str) -> list[str]:
    """Return a line for each word whose page is not among the first three."""
    return [
        f"{word}: {', '.join(pages) or 'nothing'}, and not {' or '.join(WORDS[word])}"
        for word, pages in found(site, browser).items()
        if not set(pages) & set(WORDS[word])
    ]


if __name__ == "__main__":
    if (where := chromium()) is None:
        print("The search was not tried: no Chromium is installed")
    else:
        wrong = missed(Path(sys.argv[1]), where)
        print("\n".join(wrong) or f"{len(WORDS)} words are found.")
        sys.exit(bool(wrong))
