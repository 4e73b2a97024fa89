"""A page on which anybody drops a leaf and sees why the classifier says rust: xlens behind a Gradio app.

    pip install gradio
    python examples/gradio_app.py            # opens on this machine alone
    python examples/gradio_app.py --check    # asks once, without a server

The classifier is trained in a minute, on photographs that ship with xlens. Put your own model, its class names and
its images in their place: everything below `Explained` stays as it is.
"""

from __future__ import annotations

import argparse
import warnings
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

import xlens
from xlens.cli.leaves import leaf_classifier
from xlens.datasets import leaves, train_classifier
from xlens.errors import UntrustworthyWarning
from xlens.plot.pixels import ranges_of, to_pixels
from xlens.plot.plain import finding, standing


class Explained:
    """A classifier with a lens around it, asked about one photograph at a time."""

    def __init__(self, steps: int) -> None:
        data = leaves()
        torch.manual_seed(0)
        model = train_classifier(leaf_classifier(), data.train, data.train_labels, steps=steps)
        self.size = data.train.shape[-2:]
        self.examples = [to_pixels(image, [(0.0, 1.0)] * 3) for image in data.test[:6]]
        self.explainer = xlens.fit(xlens.Classifier(model, class_names=data.class_names), data.train, "infill")

    def __call__(self, photograph: np.ndarray | None) -> tuple[dict[str, float], Any, str]:
        """Return the probabilities, the photograph before and after, and what was found, in Markdown."""
        if photograph is None:
            return {}, None, "Drop a photograph of a leaf, or choose one of the examples."
        height, width = self.size
        image = ImageOps.fit(Image.fromarray(photograph).convert("RGB"), (width, height))
        inputs = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255
        with warnings.catch_warnings():
            # What does not hold is said on the page.
            warnings.simplefilter("ignore", UntrustworthyWarning)
            found = self.explainer.explain(inputs)
        ranges = ranges_of(found)
        both = tuple(to_pixels(one[0], ranges) for one in (found.inputs, found.counterfactual))
        verdict, certifies = standing(found)
        chances = self.explainer.fitted.probabilities(inputs)[0].tolist()
        said = f"### {finding(found, ranges)}\n\n**{verdict}** {certifies}"
        return dict(zip(self.explainer.class_names, chances, strict=True)), both, said


def app(explained: Explained) -> Any:
    """Return the page."""
    import gradio

    with gradio.Blocks(title="Why rust?") as page:
        gradio.Markdown("# Why rust?\nDrop a photograph of a leaf: what would have to change for another answer?")
        with gradio.Row():
            photograph = gradio.Image(label="A leaf", type="numpy")
            with gradio.Column():
                chances = gradio.Label(label="The classifier says")
                said = gradio.Markdown()
        both = gradio.ImageSlider(label="Before and after", type="numpy")
        gradio.Examples(explained.examples, photograph)
        photograph.change(explained, photograph, [chances, both, said])
    return page


def main() -> None:
    """Train, fit, and serve on this machine alone."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200, help="of training the classifier")
    parser.add_argument("--port", type=int, default=None, help="a free one if not given")
    parser.add_argument("--check", action="store_true", help="ask once and build the page, without a server")
    chosen = parser.parse_args()
    explained = Explained(chosen.steps)
    page = app(explained)
    if chosen.check:
        chances, _, said = explained(explained.examples[0])
        print(chances)
        print(said)
    else:
        page.launch(server_name="127.0.0.1", server_port=chosen.port, share=False)


if __name__ == "__main__":
    main()
