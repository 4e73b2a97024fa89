"""The ILVM lens over another lens, on scikit-learn's digits: what decodes to inputs has a mask, and maps."""

import dataclasses
import warnings

import pytest
import torch
import toys
from on_digits import HELD, LAYER, codes_of
from torch import nn

import xlens
from xlens.errors import DataError, OptionError, UnsupportedError, XlensWarning
from xlens.integrations.quantus import as_quantus
from xlens.plot.words import complete_methods

#: Where it is not the mask that is tested.
QUICK = toys.SHORT_MASK


@pytest.fixture(scope="module")
def explainer(digits, model, some):
    """A lens on a hidden layer, which decodes to no inputs."""
    return xlens.fit(
        xlens.Classifier(model, layer=LAYER), digits[0][:HELD], "ilvm", side_info=some, steps=30, layers=1,
        kinds=("single", "measured"), progress=False,
    )  # fmt: skip


def test_over_another_lens_codes_decode_to_inputs(flat, some, tmp_path):
    images, model = flat
    below = xlens.fit(model, images[:HELD], "jlvm", steps=250, hidden=96, code=20, mask=QUICK, progress=False)
    over = xlens.fit(
        model, images[:HELD], "ilvm", over=below, side_info=some, attributes=("digit", "ink"), steps=120, layers=1,
        mask=QUICK, progress=False,
    )  # fmt: skip
    codes = codes_of(over, images[HELD:])
    with over.classifier.frozen(), torch.no_grad():
        through = below.lens.decode(below.lens.encode(images[HELD:]))
        torch.testing.assert_close(over.lens.decode(codes), through, atol=1e-4, rtol=0)
    assert over.traverse(images[:2], "ink", [-1.0, 1.0]).shape == (2, 2, 64)
    over.save(tmp_path / "lens")
    again = xlens.load(tmp_path / "lens", model)
    assert again.over.backend == below.backend
    assert torch.equal(again.traverse(images[:2], "ink", [0.5]), over.traverse(images[:2], "ink", [0.5]))
    with pytest.raises(OptionError, match="another classifier"):
        xlens.fit(nn.Linear(64, 10), images[:HELD], "ilvm", over=below)


@pytest.fixture(scope="module")
def over(digits, model, tmp_path_factory):
    """A lens over one that decodes to images, of which nothing is known yet, in a folder."""
    below = xlens.fit(model, digits[0][:HELD], "jlvm", steps=250, hidden=96, code=20, mask=QUICK, progress=False)
    fitted = xlens.fit(
        model, digits[0][:HELD], "ilvm", over=below, kinds=("classes:10",), steps=100, layers=1, teaching_steps=150,
        progress=False,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("over")
    fitted.save(folder)
    return fitted, folder


def test_taught_its_mask_is_fitted_anew(over, digits, model):
    images, _, table = digits
    fitted, folder = over
    lenses = {name: xlens.load(folder, model) for name in ("stale", "fresh")}
    kept = {key: value.clone() for key, value in lenses["stale"].mask.state_dict().items()}
    for name, one in lenses.items():
        one.teaching.teach(images[:400], table[:400, :1], refit_mask=name == "fresh", progress=False)
    assert all(torch.equal(value, kept[key]) for key, value in lenses["stale"].mask.state_dict().items())
    assert not any(parameter.requires_grad for parameter in lenses["fresh"].mask.parameters())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", XlensWarning)
        found = {name: one.explain(images[HELD : HELD + 100]) for name, one in lenses.items()}
    # What flips f is found with either, and in less of the image with a mask of this lens.
    assert all(float(one.fidelity.flips.float().mean()) >= 0.95 for one in found.values())
    assert float(found["fresh"].mask.mean()) < 0.95 * float(found["stale"].mask.mean())


def briefly(explainer):
    """Return the explainer with a mask that will be fitted anew in a few steps."""
    record = explainer.fitted
    return xlens.LensExplainer(dataclasses.replace(record, provenance={**record.provenance, "mask": {"steps": 3}}))


def test_its_mask_may_be_fitted_later_and_on_other_data(over, digits, model):
    images, _, table = digits
    at_once, later = (briefly(xlens.load(over[1], model)) for _ in range(2))
    for one in (at_once, later):
        one.teaching.teach(images[:400], table[:400, :1], refit_mask=one is at_once, progress=False)
    later.teaching.refit_mask(progress=False)
    for key, value in later.mask.state_dict().items():
        assert torch.equal(value, at_once.mask.state_dict()[key])
    assert not torch.equal(later.mask.exit.weight, over[0].mask.exit.weight)
    # On other data it is another, already after a few steps.
    later.teaching.refit_mask(images[:HELD], progress=False)
    assert not torch.equal(later.mask.exit.weight, at_once.mask.exit.weight)


def test_interrupted_while_its_mask_is_fitted_the_lens_is_as_it_was(over, digits, model):
    again = xlens.load(over[1], model)

    def stop(event):
        if event.phase == "mask":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        again.teaching.teach(digits[0][:50], digits[2][:50, :1], on_step=stop, progress=False)
    for part in ("lens", "mask"):
        states = [dict(getattr(one, part).state_dict()) for one in (over[0], again)]
        torch.testing.assert_close(*states, rtol=0, atol=0, equal_nan=True)


def test_without_inputs_to_fit_a_mask_on_it_says_so(over, explainer, digits, model, monkeypatch):
    again = xlens.load(over[1], model)
    monkeypatch.setattr(type(again.lens), "kept_inputs", None)
    with pytest.warns(XlensWarning, match=r"refit_mask\(data\)"):
        again.teaching.teach(digits[0][:20], digits[2][:20, :1], progress=False)
    with pytest.raises(UnsupportedError, match="keeps no inputs"):
        again.teaching.refit_mask()
    with pytest.raises(UnsupportedError, match="there is none to fit"):
        explainer.teaching.refit_mask()
    with pytest.raises(DataError, match="not the shape"):
        again.teaching.refit_mask(torch.zeros(9, 1, 5, 5))


def test_the_explainer_below_comes_back_whole(over, digits, model):
    fitted, folder = over
    images = digits[0][HELD : HELD + 3]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", XlensWarning)
        first, second = (one.over.explain(images) for one in (fitted, xlens.load(folder, model)))
    assert first.mask is not None
    assert torch.equal(first.mask, second.mask)
    assert torch.equal(first.counterfactual, second.counterfactual)


@pytest.fixture(scope="module")
def named(over, digits, model):
    """A lens over one that decodes to images, in which evidence for each class moves."""
    return xlens.fit(
        model,
        digits[0][:HELD],
        "ilvm",
        over=over[0].over,
        steps=150,
        layers=1,
        hidden=16,
        progress=False,
        mask=xlens.MaskOptions(steps=60),
    )


@pytest.mark.filterwarnings("ignore::xlens.errors.XlensWarning")
@pytest.mark.parametrize("carry", ["masked", "residual", "none"])
def test_over_another_lens_each_attribute_has_a_map_too(named, digits, carry):
    images = digits[0][HELD : HELD + 8]
    found = named.explain(images, attributions=("lig", "lig_features"), carry=carry)
    names = [f"lig: {feature.name}" for feature in named.features]
    assert set(found.attributions) == {"lig", *names, "lig: not in the code"}
    sums = {name: values.flatten(1).sum(1) for name, values in found.attributions.items()}
    parts = torch.stack([sums[name] for name in (*names, "lig: not in the code")], 1)
    difference = found.scores - found.counterfactual_scores
    torch.testing.assert_close(parts.sum(1), difference, rtol=0.01, atol=1e-3)
    assert (parts[:, :10].abs().amax(1) > 0.2 * difference.abs()).all()
    assert torch.equal(sums["lig: everything else"], torch.zeros(8))
    # Shares of one difference, drawn on one scale.
    assert set(complete_methods(found)) == set(found.attributions)
    if carry != "none":
        return
    # On reconstructions nothing is left out, and contributions are those of the same difference.
    assert (sums["lig: not in the code"].abs() < 0.02 * difference.abs()).all()
    torch.testing.assert_close(parts[:, :-1], found.feature_contributions, rtol=0.05, atol=0.05)


@pytest.mark.filterwarnings("ignore::xlens.errors.XlensWarning")
def test_the_map_of_an_attribute_over_another_lens_is_a_sum_of_directional_derivatives(named, digits):
    """Against autograd's own derivative of the decoder, on a fine grid."""
    image = digits[0][HELD + 1 : HELD + 2]
    found = named.explain(image, attributions=("lig_features",), carry="none", tolerance=0.001)
    z, z0 = found.codes, found.counterfactual_codes
    feature = max(named.features[:10], key=lambda one: abs(float(found.attributions[f"lig: {one.name}"].sum())))
    step = torch.zeros_like(z)
    step[:, list(feature.dims)] = (z - z0)[:, list(feature.dims)]
    points = z0 + (torch.arange(200) + 0.5)[:, None] / 200 * (z - z0)
    with named.classifier.frozen(), torch.enable_grad():
        decoded, velocity = torch.autograd.functional.jvp(named.lens.decode, points, step.expand(200, -1))
        decoded = decoded.detach().requires_grad_()
        logits = named.classifier(decoded)
        score = (logits[:, found.target[0]] - logits[:, found.contrast[0]]).sum()
        expected = (torch.autograd.grad(score, decoded)[0] * velocity).mean(0)
    own = found.attributions[f"lig: {feature.name}"][0]
    assert float((own - expected).abs().max()) < 0.03 * float(expected.abs().max())


def test_maps_of_attributes_are_asked_for_where_they_are(named, explainer, digits):
    images = digits[0][HELD : HELD + 2]
    with pytest.raises(OptionError, match="'lig_features' goes along the code"):
        named.explain(images, attributions=("lig_features",), path="pixel")
    with pytest.raises(OptionError, match="Quantus takes one"):
        as_quantus(named, "lig_features")
    with pytest.raises(OptionError, match="Did you mean 'lig_features'"):
        named.explain(images, attributions=("lig_feature",))
    both = [explainer.explain(images, attributions=(name,)).attributions for name in ("lig", "lig_features")]
    assert both[0].keys() == both[1].keys()


def test_a_lens_for_inputs_of_another_shape_is_refused_below(digits):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        any_size = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 10))
        any_size.eval()[3].weight.data.normal_(0, 30)
    images = digits[0][:200]
    below = xlens.fit(any_size, images, "jlvm", steps=2, hidden=8, mask=QUICK, progress=False)
    with pytest.raises(DataError, match=r"another shape. Given: data of shape \(1, 12, 12\). Allowed: \(1, 8, 8\)"):
        xlens.fit(any_size, nn.functional.interpolate(images, size=12), "ilvm", over=below, progress=False)
