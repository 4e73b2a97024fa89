"""Variants of inputs: what is varied, how they are carried, and that the classifier is asked about each."""

import pytest
import torch
import toys
from guard import unchanged

import xlens
from xlens.errors import DataError, OptionError, UnsupportedError


def decided(model, inputs):
    """Ask the classifier by hand, beside the model's own state."""
    from copy import deepcopy

    with torch.no_grad():
        return torch.stack([deepcopy(model).eval()(one[None])[0].argmax() for one in inputs])


def test_one_part_is_varied_and_the_other_held(ask, images):
    patch = toys.patch_of(images[1:3])
    found = ask("invariances", images[1:3], 4)
    frames = found.variants
    assert frames.shape == (2, 4, 1, 8, 8)
    assert frames.std(1).flatten(1).amax(1).min() > 0.01
    assert torch.equal(frames, ask("invariances", images[1:3], 4).variants)
    assert not torch.equal(frames, ask("invariances", images[1:3], 4, seed=1).variants)
    assert torch.allclose(ask("invariances", images[1:3], 2, scale=0.0).variants[:, 1], images[1:3], atol=1e-6)
    by_class = ask("invariances", images[1:3], 4, vary="class").variants
    assert torch.allclose(by_class[:, 2][~patch], images[1:3][~patch], atol=1e-6)
    assert not torch.allclose(by_class[:, 2][patch], images[1:3][patch], atol=1e-2)


def test_f_is_asked_about_each_variant(ask, trained, images):
    found = ask("invariances", images[:6], 5, scale=20.0)
    own = decided(trained, images[:6])
    assert torch.equal(found.predicted, own)
    by_hand = decided(trained, found.variants.flatten(0, 1)).view(6, 5) == own[:, None]
    assert torch.equal(found.kept, by_hand)
    # At this scale the background itself looks like evidence, so both verdicts occur.
    assert found.kept.any()
    assert not found.kept.all()
    torch.testing.assert_close(found.share_kept, by_hand.float().mean(1))
    row = int((found.share_kept < 1).nonzero()[0, 0])
    assert len(found.only_kept(row)) == int(by_hand[row].sum())
    assert f"the classifier keeps its class on {by_hand.float().mean():.0%}" in repr(found)


def test_distances_are_those_of_a_slow_loop(ask, images):
    found = ask("invariances", images[:2], 3)
    for i in range(2):
        flat = [variant.flatten() for variant in found.variants[i]]
        pairs = [(flat[a] - flat[b]).square().sum().sqrt() for a in range(3) for b in range(a)]
        torch.testing.assert_close(found.diversity[i], torch.stack(pairs).mean())
        to_input = torch.stack([(one - images[i].flatten()).square().sum().sqrt() for one in flat])
        torch.testing.assert_close(found.distance[i], to_input)
    assert not ask("invariances", images[:2], 1).diversity.any()


class Blurred(toys.ToyLens):
    """Reconstructs only four fifths of the background."""

    def decode(self, codes):
        return super().decode(torch.cat([0.8 * codes[:, :64], codes[:, 64:]], 1))


def test_what_the_lens_leaves_out_stays_when_the_change_is_carried(ask, fitted, images):
    of = toys.explainer_with(Blurred(), fitted)
    decoded = ask("invariances", images[:4], 3, of=of)
    carried = ask("invariances", images[:4], 3, of=of, carry="residual")
    codes = of.lens.encode(images[:4])
    low, high = fitted.spec.minimum[0], fitted.spec.maximum[0]
    change = decoded.variants - of.lens.decode(codes)[:, None]
    expected = (images[:4, None] + change).clamp(low, high)
    torch.testing.assert_close(carried.variants, expected)
    assert not torch.allclose(carried.variants, decoded.variants, atol=1e-2)
    still = ask("invariances", images[:4], 2, 0.0, of=of, carry="residual")
    torch.testing.assert_close(still.variants[:, 0], images[:4])


def test_a_grid_crosses_two_features(ask, fitted, images):
    found = ask("traverse", images[1:3], ("bright", "dark"), [0.0, 1.0], relative=False)
    assert found.variants.shape == (2, 2, 2, 1, 8, 8)
    assert found.kept.shape == (2, 2, 2)
    codes = fitted.lens.encode(images[1:3])
    nothing = codes.clone()
    nothing[:, 64:] = 0
    torch.testing.assert_close(found.variants[:, 0, 0], fitted.lens.decode(nothing))
    # The first feature runs down, the second across; each as in a traversal.
    down = ask("traverse", fitted.lens.decode(nothing), "bright", [0.0, 1.0])
    torch.testing.assert_close(found.variants[1, :, 0], down[1], atol=1e-5, rtol=1e-5)


def test_a_relative_grid_has_the_input_in_its_middle(ask, images):
    found = ask("traverse", images[1:3], (0, 2), [-0.2, 0.0, 0.2])
    torch.testing.assert_close(found.variants[:, 1, 1], images[1:3])
    assert found.kept[:, 1, 1].all()
    grown, shrunk = found.variants[:, 2, 1], found.variants[:, 0, 1]
    torch.testing.assert_close(grown + shrunk, 2 * images[1:3], atol=1e-5, rtol=1e-5)
    assert (grown - images[1:3]).abs().amax() > 0.01


@pytest.mark.parametrize(
    ("method", "arguments", "message"),
    [
        ("invariances", {"n": 2, "scale": -1}, "scale must be a number >= 0, got -1"),
        ("invariances", {"n": 2, "vary": "both"}, "'nuisance' or 'class'"),
        ("invariances", {"n": 2, "carry": "masked", "vary": "x"}, "carry must be 'none' or 'residual'.*; vary"),
        ("invariances", {"n": 0, "scale": -1}, "scale must be.*; n must be an int >= 1"),
        ("traverse", {"feature": ([0], 1), "values": [0.0], "relative": "no"}, "relative must be.*; two features"),
        ("traverse", {"feature": ("bright",), "values": [0.0]}, "two names or positions"),
        ("traverse", {"feature": ("bright", "dark", 0), "values": [0.0]}, "two names or positions"),
        ("traverse", {"feature": ("bright", "bright"), "values": [0.0]}, "share dimensions"),
        ("traverse", {"feature": ("bright", "drak"), "values": [0.0]}, "traverse: there is no feature.*'dark'"),
        ("traverse", {"feature": (0, 1), "values": [float("inf")]}, "traverse: values are wrong"),
        ("traverse", {"feature": (0, 1), "values": [0.0], "carry": "mask"}, "carry must be"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(ask, images, method, arguments, message):
    with pytest.raises(OptionError, match=message):
        ask(method, images[:1], **arguments)


def test_a_row_alone_has_the_verdict_of_its_batch(ask, images):
    together = ask("traverse", images[:3], (0, 1), [-1.0, 1.0])
    alone = ask("traverse", images[2], (0, 1), [-1.0, 1.0])
    torch.testing.assert_close(alone.variants[0], together.variants[2])
    assert torch.equal(alone.kept[0], together.kept[2])


def test_values_that_are_not_finite_never_pass(ask, fitted, images):
    with pytest.raises(DataError, match="not finite"):
        ask("invariances", images[:1], 2, of=toys.explainer_with(toys.NanLens(), fitted))
    with pytest.raises(DataError, match="do not fit together"):
        xlens.Invariances(
            inputs=images[:1], variants=images[:2, None], kept=torch.ones(2, 1, dtype=torch.bool),
            predicted=torch.zeros(1), class_names=("a",), data_range=(0.0, 1.0),
        )  # fmt: skip


def test_vectors_have_verdicts():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        inputs, model = torch.randn(30, 5), torch.nn.Linear(5, 2)

    class Split(toys.VectorLens):
        """Each value is a feature of its own."""

        features = tuple(xlens.Feature(f"value {i}", (i,), "class") for i in range(5))

    with unchanged(model):
        explainer = toys.explainer_with(Split(5), xlens.fit(model, inputs, toys.Plain(), progress=False))
        found = explainer.traverse(inputs[:2], ("value 0", 4), [0.0, 1.0])
    expected = inputs[1].clone()
    expected[4] += 1
    torch.testing.assert_close(found.variants[1, 0, 1], expected)
    assert torch.equal(found.kept[1, 0, 1], model(expected).argmax() == model(inputs[1]).argmax())
    with pytest.raises(UnsupportedError, match="invariances: a 'plain' lens cannot"):
        explainer.invariances(inputs[:1], 2)
