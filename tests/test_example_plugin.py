"""The example of a third party's distribution, built as a wheel and installed by ``make plugin``, used by name."""

import importlib.metadata
import importlib.util
from pathlib import Path

import pytest
import torch
from torch import nn

import xlens
from xlens.registry.status import statuses

SOURCE = Path(__file__).parents[1] / "examples" / "xlens_latentshift"


@pytest.fixture(scope="module")
def distribution():
    try:
        return importlib.metadata.distribution("xlens-latentshift")
    except importlib.metadata.PackageNotFoundError:
        pytest.fail("the example is not installed: run make plugin, or make test, which does")


class Halves(nn.Module):
    """An autoencoder that needs no training: its latent is the picture itself."""

    def encode(self, inputs):
        return inputs / 2

    def decode(self, latents):
        return latents * 2


def test_it_is_installed_from_its_wheel(distribution):
    assert {(point.group, point.name) for point in distribution.entry_points} == {
        ("xlens", "latentshift"),
        ("xlens.attribution", "largest_change"),
    }
    installed = Path(importlib.util.find_spec("xlens_latentshift").origin)
    assert SOURCE not in installed.parents
    for path in (SOURCE / "src" / "xlens_latentshift").glob("*.py"):
        assert (installed.parent / path.name).read_text() == path.read_text(), "an old build: run make plugin"


def test_it_is_listed_beside_the_backends_that_ship_with_xlens(distribution):
    (found,) = [one for one in statuses() if one.name == "latentshift"]
    assert found.distributions == (("xlens-latentshift", distribution.version),)
    assert found.failure is None
    assert found.summary.startswith("Latent shift: ")


@pytest.mark.filterwarnings("ignore::xlens.errors.XlensWarning")
def test_it_explains_by_name(distribution, trained, images, tmp_path):
    from xlens_latentshift import register

    register(Halves(), "halves")
    explainer = xlens.fit(
        trained, images, "latentshift", autoencoder="halves", mask=xlens.MaskOptions(steps=3), progress=False
    )
    explanation = explainer.explain(images[:6])
    assert explanation.fidelity.decoding_flips.float().mean() >= 0.8
    assert explanation.fidelity.mse.max() < 1e-10
    explainer.save(tmp_path)
    again = xlens.load(tmp_path, trained).explain(images[:6])
    assert torch.equal(again.counterfactual, explanation.counterfactual)


def test_its_attribution_is_used_by_name_with_any_lens(distribution, fitted, images):
    asked = {"largest_change": {"frames": 8}, "difference": {}}
    found = fitted.explain(images[:6], attributions=asked)
    # The toy's path goes one way in each pixel, so that the first frame differs most.
    assert torch.allclose(found.attributions["largest_change"], found.edit.abs(), atol=1e-5)
    with pytest.raises(xlens.errors.OptionError, match="frames must be an int >= 1"):
        fitted.explain(images[:1], attributions={"largest_change": {"frames": 0}})
    table = xlens.evaluate(fitted, images[:8], methods=("largest_change", "random"), progress=False)
    assert table.get("sparseness", "toy: largest_change").value > table.get("sparseness", "random").value
