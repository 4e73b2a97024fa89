"""The documents' code runs as it stands."""

import re
import types
from pathlib import Path

import pytest
import torch
from guard import unchanged

import xlens
from xlens.datasets import load_images, small_cnn, train_classifier

ROOT = Path(__file__).parent.parent


def blocks(document: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(), re.S)


def digits_classifier():
    torch.manual_seed(0)
    images = load_images("digits")
    model = small_cnn((1, 8, 8))
    train_classifier(model, images.train, images.train_labels, steps=60, progress=False)
    return model, images.train


#: Pages of the guide that have code, in the order in which a reader meets them: names go from one to the next.
GUIDE = ("questions", "outputs", "attributions", "reports", "training_code", "invariances", "trust", "audit")
GUIDE += ("layers", "backends")


@pytest.mark.filterwarnings("ignore::xlens.errors.UntrustworthyWarning")
def test_the_readme_runs_and_is_what_getting_started_shows(short_masks):
    (code,) = blocks("README.md")
    assert code == blocks("docs/start.md")[0]
    names: dict[str, object] = {}
    exec(compile(code.replace("steps=200", "steps=4, progress=False"), "README.md", "exec"), names)
    assert isinstance(names["explanation"], xlens.Explanation)


def test_no_page_of_the_guide_is_left_out():
    with_code = {path.stem for path in (ROOT / "docs" / "guide").glob("*.md") if "```python" in path.read_text()}
    assert with_code == set(GUIDE)


@pytest.mark.filterwarnings("ignore::xlens.errors.UntrustworthyWarning")
def test_the_guide_runs_as_it_stands(tmp_path, monkeypatch, short_masks):
    monkeypatch.chdir(tmp_path)
    model, images = digits_classifier()
    code = "\n".join("\n".join(blocks(f"docs/guide/{name}.md")) for name in GUIDE)
    # A short fit: what is tested is that every line runs, not that the lens is good.
    code = code.replace('backend="medxgan")', 'backend="medxgan", steps=12, progress=False)')
    code = code.replace("steps=300", "steps=4, progress=False")
    code = code.replace("decoder=True", "decoder=xlens.DecoderOptions(steps=4)")
    code = code.replace('backend="introvac",', 'backend="introvac", steps=12, progress=False,')
    code = code.replace('backend="dif")', 'backend="dif", steps=12, restarts=0, progress=False)')
    code = code.replace('backend="ilvm",', 'backend="ilvm", steps=12, teaching_steps=4, progress=False,')
    names = {"model": model, "images": images}
    with unchanged(model):
        exec(compile(code, "docs/guide", "exec"), names)
    assert (tmp_path / "why.png").stat().st_size > 10_000
    assert isinstance(names["explanation"], xlens.Explanation)
    assert names["explainer"].backend.name == "dif"


@pytest.mark.filterwarnings("ignore::xlens.errors.UntrustworthyWarning")
def test_the_first_backend_for_authors_explains():
    code = blocks("docs/authors/lens.md")[0]
    plugin = types.ModuleType("pca_plugin")
    exec(compile(code, "docs/authors/lens.md", "exec"), vars(plugin))
    backend = plugin.xlens_backend()
    model, images = digits_classifier()
    with unchanged(model):
        explainer = xlens.fit(model, images, backend(rank=12), mask=xlens.MaskOptions(steps=60), progress=False)
        explanation = explainer.explain(images[:20])
    assert explanation.fidelity.flips.float().mean() > 0.9
    assert explanation.fidelity.mse.mean() < 0.05


def test_every_promise_names_tests_that_are_there():
    text = (ROOT / "docs" / "guarantees.md").read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text)
    assert len(named) > 40
    missing = [f"{path}::{name}" for path, name in named if f"def {name}(" not in (ROOT / path).read_text()]
    assert not missing
    # Sentences without a test are those that say what is not promised.
    items = re.split(r"\n(?=- |\n)", text)
    assert not [item for item in items if item.lstrip().startswith("- ") and "`tests/" not in item]
