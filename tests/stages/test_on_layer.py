"""Every backend that can, fitted on a hidden layer: codes, counterfactuals, attributions; saved and loaded."""

from __future__ import annotations

import warnings

import pytest
import torch
import toys
from ours import OPTIONS

import xlens
from xlens.errors import UnsupportedError, XlensWarning
from xlens.registry.loading import load_backend, offering

ABLE = [name for name in offering("representations") if name in OPTIONS]
LAYER = "body.3"


@pytest.fixture(scope="module")
def data():
    return toys.pictures(120, seed=0)[0]


@pytest.fixture(scope="module", params=ABLE)
def explainer(request, trained, data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", XlensWarning)
        return xlens.fit(
            xlens.Classifier(trained, layer=LAYER),
            data,
            request.param,
            decoder=xlens.DecoderOptions(steps=2, hidden=16, width=4),
            progress=False,
            **OPTIONS[request.param][0],
        )


@pytest.fixture(scope="module")
def explained(explainer, data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", XlensWarning)
        return explainer.explain(data[:2])


def test_all_that_ship_with_xlens_and_can():
    assert set(ABLE) == {"dif", "flow", "introvac", "jlvm", "medxgan", "svae"}


def test_codes_are_of_the_layer_and_nothing_of_it_is_lost(explainer, data):
    with xlens.asking(explainer) as lens:
        decoded = lens.decode(lens.encode(data[:3]))
        activations = explainer.classifier.activations(data[:3])
    assert explainer.on_layer
    assert explainer.mask is None
    assert torch.allclose(decoded, activations, atol=1e-4)


def test_the_counterfactual_keeps_what_the_lens_leaves_out_or_gives_it_up_for_the_flip(explainer, data):
    with xlens.asking(explainer) as lens:
        codes = lens.encode(data[:8])
        target = explainer.classifier(data[:8]).argmax(1)
        moved = lens.counterfactual(codes, target, (target + 1) % 3)
        before, after = (codes[:, lens.own :], moved[:, lens.own :])
        share = (after * before).sum(1) / before.square().sum(1).clamp_min(1e-9)
        logits = explainer.classifier.tail(lens.decode(moved), data[:8])
    kept = logits.argmax(1) == (target + 1) % 3
    assert bool(((share - (share * 4).round() / 4).abs() < 1e-3).all())
    # Nothing is given up in vain but where nothing helps.
    assert not bool((kept & (share > 1.001)).any())


def test_attributions_are_complete_in_the_layer_and_in_pixels(explained):
    difference = (explained.scores - explained.counterfactual_scores).double()
    assert explained.feature_names[-1] == "not in the code"
    assert torch.allclose(explained.feature_contributions.double().sum(1), difference, rtol=0.01, atol=0.02)
    pixels = explained.attributions["lig"].double().flatten(1).sum(1)
    assert torch.allclose(pixels, difference, rtol=0.01, atol=0.02)


def test_maps_of_parts_add_up_where_gradients_go_through_the_encoder(explainer, explained):
    parts = [name for name in explained.attributions if name.startswith("lig: ")]
    # One of them encodes by a search, the other takes no gradients.
    assert bool(parts) == (explainer.backend.name not in ("flow", "medxgan"))
    for name in parts:
        column = explained.feature_names.index(name.removeprefix("lig: "))
        found = explained.attributions[name].double().flatten(1).sum(1)
        assert torch.allclose(found, explained.feature_contributions[:, column].double(), rtol=0.02, atol=0.05)


def test_what_is_shown_is_a_real_input_with_its_own_score(explainer, explained, data):
    assert not explained.decoded_from_layer
    assert explained.reconstruction is None
    for other, score, target, contrast in zip(
        explained.counterfactual, explained.counterfactual_scores, explained.target, explained.contrast, strict=True
    ):
        assert bool((data == other).flatten(1).all(1).any())
        with explainer.fitted.asking():
            logits = explainer.classifier(other[None])[0]
        assert float(logits[target] - logits[contrast]) == pytest.approx(float(score), abs=1e-4)


@pytest.mark.filterwarnings("ignore::xlens.errors.XlensWarning")
def test_what_is_decoded_says_so_and_is_complete_too(explainer, data):
    found = explainer.explain(data[:2], show="decode")
    assert found.decoded_from_layer
    assert not bool((data == found.counterfactual[0]).flatten(1).all(1).any())
    difference = (found.scores - found.counterfactual_scores).double()
    pixels = found.attributions["lig"].double().flatten(1).sum(1)
    assert torch.allclose(pixels, difference, rtol=0.01, atol=0.02)
    shown = explainer.counterfactual(data[:2], show="decode")
    assert torch.equal(shown, found.counterfactual)


def test_saved_and_loaded_it_answers_the_same(explainer, trained, data, tmp_path):
    explainer.save(tmp_path)
    again = xlens.load(tmp_path, trained)
    with xlens.asking(explainer) as lens, xlens.asking(again) as other:
        assert torch.equal(lens.encode(data[:2]), other.encode(data[:2]))
    for show in ("retrieve", "decode"):
        own, loaded = (one.counterfactual(data[:3], show=show) for one in (explainer, again))
        assert torch.equal(own, loaded)


def test_traversals_show_what_is_asked_for(explainer, data):
    first = explainer.features[0].name
    frames = explainer.traverse(data[:2], first, [-1.0, 1.0])
    assert frames.shape == (2, 2, 1, 8, 8)
    assert all(bool((data == frame).flatten(1).all(1).any()) for frame in frames.flatten(0, 1))
    decoded = explainer.traverse(data[:2], first, [-1.0, 1.0], show="decode")
    assert not bool((data == decoded[0, 0]).flatten(1).all(1).any())


@pytest.mark.filterwarnings("ignore::xlens.errors.XlensWarning")
def test_it_can_what_the_lens_can_and_refuses_the_rest_in_words(explainer, data):
    kind = load_backend(explainer.backend.name)
    if "sample" in kind.capabilities:
        drawn = explainer.sample(2, target=1)
        assert all(bool((data == one).flatten(1).all(1).any()) for one in drawn)
    if "invariances" in kind.capabilities:
        found = explainer.invariances(data[:2], 3, scale=0.0)
        assert found.kept.shape == (2, 3)
        assert bool(found.kept.all())
        assert found.shown == "the nearest real inputs"
    if "directions" in kind.capabilities:
        assert {len(direction) for direction in explainer.directions.values()} == {
            sum(len(feature.dims) for feature in explainer.features)
        }
    if "divergence" in kind.capabilities:
        with xlens.asking(explainer) as lens:
            assert bool((lens.divergence(data[:2], data[:2], "class").abs() < 1e-5).all())
    with pytest.raises(UnsupportedError, match="decodes to a hidden layer"):
        explainer.edit(data[:2], {explainer.features[0].name: 1.0})
    with pytest.raises(UnsupportedError, match="teach: .* cannot do this.*ilvm.*over=explainer"):
        explainer.teaching.query(data[:4], 2)
