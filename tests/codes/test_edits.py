"""Edits by name, holding, leakage and steps, on a lens whose answers are known."""

import pytest
import torch
import torch.nn.functional as F
import toys
from directed import Directed
from guard import unchanged

from xlens.codes.moves import orthogonalised
from xlens.errors import OptionError, UnsupportedError
from xlens.evaluation import leakage


class Inexact(Directed):
    """Reconstructs at half the contrast, so that an edit of nothing shows if it is not taken against that."""

    def decode(self, codes):
        return 0.5 * super().decode(codes)


@pytest.fixture(scope="module")
def directed(fitted):
    return toys.explainer_with(Directed(), fitted)


def test_amounts_add_up_along_directions(directed, images, trained):
    x = images[:4]
    amounts = torch.tensor([0.5, -1.0, 0.0, 2.0])
    with unchanged(trained):
        edited = directed.edit(x, {"patch": amounts, "mixed": 0.25}, carry="none")
    lens = directed.lens
    expected = x.flatten(1) + amounts[:, None] * lens.patch + 0.25 * lens.mixed
    torch.testing.assert_close(edited.flatten(1), expected)
    # The lens reproduces these inputs, so the change carried onto them is the same but for the range.
    carried = directed.edit(x, {"patch": amounts, "mixed": 0.25})
    torch.testing.assert_close(carried, edited.clamp(toys.DARK, toys.BRIGHT))
    torch.testing.assert_close(directed.edit(x[3], {"patch": 2.0}, carry="none"), x[3:] + 2 * lens.patch.view(8, 8))


def test_a_masked_edit_changes_no_more_than_the_whole_one(directed, images):
    whole = directed.edit(images[:3], {"patch": 6.0}) - images[:3]
    masked = directed.edit(images[:3], {"patch": 6.0}, carry="masked") - images[:3]
    assert (masked.abs() <= whole.abs() + 1e-5).all()
    assert masked.abs().sum() > 0


def test_an_edit_of_nothing_changes_nothing_however_inexact_the_lens(fitted, images):
    explainer = toys.explainer_with(Inexact(), fitted)
    reconstruction = explainer.edit(images[:6], {"patch": 0.0}, carry="none")
    assert (reconstruction - images[:6]).abs().amax() > 0.4
    for carry in ("residual", "masked"):
        assert torch.equal(explainer.edit(images[:6], {"patch": 0.0}, carry=carry), images[:6])
        # Row by row: the others are edited as if they were alone.
        some = torch.tensor([0.0, 2.0, 0.0, -1.0, 0.0, 0.0])
        edited = explainer.edit(images[:6], {"patch": some}, carry=carry)
        assert torch.equal(edited[some == 0], images[:6][some == 0])
        alone = explainer.edit(images[1:2], {"patch": 2.0}, carry=carry)
        torch.testing.assert_close(edited[1:2], alone)
        assert (alone - images[1:2]).abs().amax() > 1e-3


def test_a_masked_edit_is_carried_as_an_explanation_is(fitted, images):
    """Under the mask lies the decoding, G(z'), and nothing of the input: x' = x + m (G(z') - x)."""
    explainer, x = toys.explainer_with(Inexact(), fitted), images[:6]
    lens, f = explainer.lens, explainer.classifier
    edited = explainer.edit(x, {"patch": 0.5}, carry="masked")
    with torch.no_grad(), f.frozen():
        reconstruction, decoded = lens.decode(lens.encode(x)), lens.decode(lens.encode(x) + 0.5 * lens.patch)
        seen = f(decoded).argmax(1)
        assert (seen == f(reconstruction).argmax(1)).all()
        mask = explainer.mask(x, reconstruction, decoded, seen).sigmoid()
    expected = (x + mask * (decoded - x)).clamp(toys.DARK, toys.BRIGHT)
    torch.testing.assert_close(edited, expected)
    by_residual = (x + mask * (decoded - reconstruction)).clamp(toys.DARK, toys.BRIGHT)
    assert not torch.allclose(edited, by_residual, atol=1e-2)


def test_the_mask_opens_further_only_where_f_sees_another_class(directed, images, labels):
    plain = images[labels == 0][:6]
    little, much = ({"patch": amount} for amount in (0.05, 9.0))
    with torch.no_grad(), directed.classifier.frozen():
        f = directed.classifier
        before, after = plain + 0.05 * directed.lens.patch.view(8, 8), plain + 9 * directed.lens.patch.view(8, 8)
        assert (f(before).argmax(1) == 0).all()
        changed = f(after).argmax(1) != 0
        assert changed.any()
        mask = directed.mask(plain, plain, before, torch.zeros(6, dtype=torch.long)).sigmoid()
        edited = directed.edit(plain, much, carry="masked")
        assert torch.equal(f(edited).argmax(1)[changed], f(after).argmax(1)[changed])
    torch.testing.assert_close(directed.edit(plain, little, carry="masked"), plain + mask * (before - plain))


def test_features_are_held_too(directed, images):
    lens = directed.lens
    free = (directed.edit(images[:3], {"rows above": 1.0}, carry="none") - images[:3]).flatten(1)
    held = (directed.edit(images[:3], {"rows above": 1.0}, carry="none", hold=["patch"]) - images[:3]).flatten(1)
    assert (free @ lens.patch).abs().min() > 0.1
    torch.testing.assert_close(held @ lens.patch, torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(held.norm(dim=1), free.norm(dim=1))
    generated = directed.edit(images[:3], {"mixed": 1.0}, hold=(name for name in ["patch"]))
    assert torch.equal(generated, directed.edit(images[:3], {"mixed": 1.0}, hold=["patch"]))
    # An empty block has an even direction, and an amount of 0 is held like any other.
    nothing = directed.edit(images[:3], {"rows above": 0.0}, carry="none", hold=["patch"])
    torch.testing.assert_close(nothing, images[:3])


def test_what_is_held_stays(directed, images):
    lens = directed.lens
    edited = directed.edit(images[:3], {"mixed": 2.0}, carry="none", hold=("patch",))
    change = (edited - images[:3]).flatten(1)
    torch.testing.assert_close(change @ lens.patch, torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(change.norm(dim=1), torch.full((3,), 2.0))
    # The corner alone is what is left of the mixture.
    torch.testing.assert_close(change @ lens.mixed, torch.full((3,), 2.0 / 2**0.5))
    with pytest.raises(OptionError, match="nothing of the direction is left"):
        orthogonalised(lens.patch, torch.stack([lens.patch + lens.mixed, lens.mixed]))


def test_orthogonalising_against_dependent_directions():
    held = torch.tensor([[1.0, 0, 0, 0], [2.0, 0, 0, 0], [1.0, 1.0, 0, 0]])
    found = orthogonalised(F.normalize(torch.tensor([3.0, 4.0, 1.0, 1.0]), dim=0), held)
    torch.testing.assert_close(found, torch.tensor([0, 0, 0.5, 0.5]) * 2**0.5)


def test_a_lens_without_directions_is_edited_by_its_features(fitted, images):
    bright = fitted.edit(images[1:2], {"bright": 0.5}, carry="none") - images[1:2]
    # Sideways of nothing: along the block that the input has, half of the square root of its width.
    assert bright.norm().item() == pytest.approx(4.0, rel=1e-4)
    assert (bright != 0).equal(images[1:2] > 0.5)
    assert fitted.directions == {}
    with pytest.raises(UnsupportedError, match="backends that can"):
        leakage(fitted, images[:2])
    with pytest.raises(UnsupportedError, match="backends that can"):
        fitted.edit(images[:2], {"dark": 1.0}, hold=("bright",))


@pytest.mark.parametrize(
    ("amounts", "hold", "says"),
    [
        (
            {"patsch": 1.0},
            (),
            "no direction or feature 'patsch'. Did you mean 'patch'.*patch, mixed, rows above, last",
        ),
        ({"patch": float("nan")}, (), "amount of 'patch' is wrong.*3 of them"),
        ({"patch": "much"}, (), "amount of 'patch' is wrong"),
        ({"patch": torch.ones(2)}, (), "amount of 'patch' is wrong"),
        ({}, (), "a dict of names and numbers"),
        (["patch"], (), "a dict of names and numbers"),
        ({"patch": 1.0}, ("mixt",), "no direction 'mixt' to hold.*Did you mean 'mixed'"),
        ({"patch": 1.0}, "mixed", "hold must be a sequence"),
        ({"patch": 1.0}, 5, "hold must be a sequence"),
        ({"patch": 1.0}, None, "hold must be a sequence"),
        ({"patch": 1.0}, [["mixed"]], "hold must be a sequence"),
        ({"last": 1.0}, ("mixt",), "no direction 'mixt' to hold"),
    ],
)
def test_edits_name_what_is_wrong(directed, images, amounts, hold, says):
    with pytest.raises(OptionError, match=says):
        directed.edit(images[:3], amounts, hold=hold)
