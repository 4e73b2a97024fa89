"""The papers' own maps by name: against their definitions by hand, in tables, reports and the command line."""

from __future__ import annotations

import pytest
import torch
import toys

import xlens
from xlens.errors import OptionError

MAPS = ("difference", "accumulated")


class Apart(toys.ToyLens):
    """Says how far codes are apart: the squared distance of each part."""

    def divergence(self, inputs, variants, part):
        dims = slice(64, None) if part == "class" else slice(0, 64)
        return (self.encode(inputs) - self.encode(variants))[:, dims].square().sum(1)


class Wave(toys.ToyLens):
    """Between two codes it goes there, back, and there again, in all pixels alike."""

    def decode(self, codes):
        brightness = codes[:, 64:128].sum(1)
        return super().decode(codes) + brightness.mul(6.0).sin().view(-1, 1, 1, 1)


@pytest.fixture(scope="module")
def apart(fitted):
    return toys.explainer_with(Apart(), fitted)


def test_the_difference_is_of_the_decodings(fitted, images):
    found = fitted.explain(images[:6], attributions=MAPS)
    decode = fitted.lens.decode
    expected = (decode(found.codes) - decode(found.counterfactual_codes)).abs()
    assert torch.allclose(found.attributions["difference"], expected, atol=1e-6)
    assert (found.attributions["difference"] >= 0).all()
    # The toy decodes a sum of its parts, so every pixel goes one way.
    assert torch.allclose(found.attributions["accumulated"], expected, atol=1e-5)
    assert not set(found.convergence_delta) & set(MAPS)


def test_what_goes_and_comes_back_is_accumulated(fitted, images):
    wave = toys.explainer_with(Wave(), fitted)
    bright = images[images.flatten(1).amax(1) > 0.9][:3]
    found = wave.explain(bright, attributions=MAPS, n_steps=50)
    start, end = found.counterfactual_codes, found.codes
    frames = torch.stack([wave.lens.decode(torch.lerp(start, end, k / 50)) for k in range(51)], 1)
    expected = frames.diff(dim=1).abs().sum(1)
    assert torch.allclose(found.attributions["accumulated"], expected, atol=1e-4)
    assert (expected - found.attributions["difference"]).max() > 1


def test_the_batch_does_not_matter(fitted, images):
    wave = toys.explainer_with(Wave(), fitted)
    whole, few = (
        # Whether contributions add up is not asked here: along a wave that takes thousands of points, two by two.
        wave.explain(images[:5], attributions=("accumulated",), internal_batch_size=size, n_steps=8, tolerance=1.0)
        for size in (None, 2)
    )
    assert torch.allclose(whole.attributions["accumulated"], few.attributions["accumulated"], atol=1e-5)


@pytest.mark.parametrize("part", ["class", "nuisance"])
def test_divergence_maps_are_those_of_the_counterfactual(apart, images, part):
    name = f"divergence_{part}"
    options = {"method": "integrated_gradients", "n_steps": 80}
    found = apart.explain(images[:4], attributions={name: options})
    x, variant = found.inputs, found.counterfactual
    divergence = apart.lens.divergence(x, variant, part)
    assert torch.allclose(found.attributions[name].flatten(1).sum(1), divergence, atol=0.02, rtol=0.02)
    assert torch.allclose(
        found.convergence_delta[name], found.attributions[name].flatten(1).sum(1) - divergence, atol=1e-4
    )
    separate = xlens.evaluation.divergence_attributions(
        apart, x, variant, part, "integrated_gradients", {"n_steps": 80}
    )
    assert torch.allclose(found.attributions[name], separate.attributions, atol=1e-5)
    shap = apart.explain(images[:4], attributions=(name,))
    assert shap.attributions[name].shape == x.shape


def test_evaluate_ranks_them_beside_the_others(apart):
    inputs, labels = toys.pictures(60, seed=5)
    inputs = inputs[labels > 0]
    names = (*MAPS, "divergence_class", "divergence_nuisance", "lig", "random")
    found = xlens.evaluate(apart, inputs, masks=toys.patch_of(inputs), methods=names, n=24, progress=False)
    for name in (*MAPS, "divergence_class"):
        assert found.get("mass", f"toy: {name}").value > found.get("mass", "random").value, name
    assert "toy: divergence_nuisance" in found.contenders


def test_they_are_drawn_saved_and_read_again(apart, images, tmp_path):
    found = apart.explain(images[:2], attributions=(*MAPS, "divergence_class"))
    assert found.plot().axes
    found.save_html(tmp_path / "why.html")
    page = (tmp_path / "why.html").read_text()
    assert "what makes the class evidence differ" in page
    assert "what changes along the path" in page
    found.save(tmp_path / "one.safetensors")
    again = xlens.Explanation.load(tmp_path / "one.safetensors")
    assert torch.equal(again.attributions["difference"], found.attributions["difference"])


def test_what_cannot_be_asked(fitted, apart, images):
    with pytest.raises(OptionError, match="needs a lens that says how far codes are apart; these can: .*svae"):
        fitted.explain(images[:1], attributions=("divergence_class",))
    with pytest.raises(OptionError, match="divergence_nuisance' needs a lens"):
        xlens.evaluate(fitted, images, methods=("divergence_nuisance",), progress=False)
    for options, message in (
        ({"method": "deep_lift"}, "no rules"),
        ({"method": "gradient_shop"}, "Did you mean"),
        ({"baselines": 0}, "the input is the baseline"),
        ({"steps": 3}, "no option 'steps'"),
    ):
        with pytest.raises(OptionError, match=message):
            apart.explain(images[:1], attributions={"divergence_class": options})
    with pytest.raises(OptionError, match="'difference' has no option"):
        fitted.explain(images[:1], attributions={"difference": {"k": 1}})
