"""Edits by name, holding, leakage and steps, on a lens whose answers are known."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import toys
from guard import unchanged

import xlens
from xlens.codes.moves import orthogonalised
from xlens.errors import OptionError, UnsupportedError
from xlens.metrics import leakage


class Directed(xlens.Lens):
    """The code is the picture; two correlated directions in it, and f flips along one of them."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))
        patch, corner = torch.zeros(8, 8), torch.zeros(8, 8)
        patch[2:5, 2:5] = 1.0
        corner[:2, :2] = 1.0
        mixed = F.normalize(patch.flatten(), dim=0) + F.normalize(corner.flatten(), dim=0)
        self.register_buffer("patch", F.normalize(patch.flatten(), dim=0))
        self.register_buffer("mixed", F.normalize(mixed, dim=0))

    @property
    def directions(self):
        return {"patch": self.patch, "mixed": self.mixed}

    def encode(self, inputs):
        return inputs.flatten(1) / self.scale

    def decode(self, codes):
        return (codes * self.scale).view(-1, 1, 8, 8)

    def counterfactual(self, codes, target, contrast):
        sign = (contrast == 1).float() - (contrast != 1).float()
        return codes + 9 * sign[:, None] * self.patch

    @property
    def features(self):
        return (xlens.Feature("rows above", tuple(range(32)), "nuisance"), xlens.Feature("last", (63,), "nuisance"))


class ManyClasses(Directed):
    """K directions that sum to 0, each as far from the others as from any."""

    def __init__(self, k):
        super().__init__()
        self.k = k

    @property
    def directions(self):
        corners = torch.eye(self.k, 64) - torch.eye(self.k, 64).mean(0)
        return {f"class {c}": F.normalize(row, dim=0) for c, row in enumerate(corners)}


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
        torch.testing.assert_close(explainer.edit(images[:6], {"patch": 0.0}, carry=carry), images[:6])


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


def test_leakage_is_the_cosine_where_the_lens_is_exact_and_zero_where_held(directed, images):
    found = directed.leakage(images[:5], amount=-1.5)
    for edited, row in found.items():
        for read, value in row.items():
            assert value == pytest.approx(1.0 if read == edited else 0.5**0.5, abs=1e-4)
    held = directed.leakage(images[:5], orthogonal=True)
    assert held["mixed"]["patch"] == pytest.approx(0.0, abs=1e-5)
    assert held["mixed"]["mixed"] == pytest.approx(0.5**0.5, abs=1e-4)


@pytest.mark.parametrize("k", [3, 10])
def test_leakage_of_dependent_classes_holds_all_but_one(fitted, images, k):
    found = toys.explainer_with(ManyClasses(k), fitted).leakage(images[:4], orthogonal=True)
    # Perpendicular to K - 2 of the others, what is left of a corner is its difference from the one left over.
    own = (k / (2 * (k - 1))) ** 0.5
    for edited, row in found.items():
        assert row.pop(edited) == pytest.approx(own, abs=1e-4)
        *held, opposed = sorted(row.values(), key=abs)
        assert held == pytest.approx([0.0] * (k - 2), abs=1e-4)
        assert opposed == pytest.approx(-own, abs=1e-4)


@pytest.mark.parametrize("amount", [0, float("nan"), float("inf"), "3", True, None])
def test_leakage_refuses_what_is_no_amount(directed, images, amount):
    with pytest.raises(OptionError, match="a finite number other than 0"):
        directed.leakage(images[:2], amount)


def test_leakage_takes_numbers_of_any_kind(directed, images):
    assert directed.leakage(images[:2], np.float32(2.0)) == directed.leakage(images[:2], 2.0)


def test_leakage_counts_what_happens_in_the_input_and_not_in_the_code_alone():
    # This decoder turns half of the first direction into the second.
    matrix = torch.tensor([[1.0, 0.5], [0.0, 1.0]])
    axes = torch.eye(2)
    found = leakage(lambda x: x, lambda z: z @ matrix, torch.randn(6, 2), axes, axes, 3.0)
    torch.testing.assert_close(found, matrix)


def test_traverse_sets_the_coordinate_along_a_direction(directed, images):
    frames = directed.traverse(images[:2], "mixed", [-1.0, 3.0])
    coordinates = frames.flatten(2) @ directed.lens.mixed
    torch.testing.assert_close(coordinates, torch.tensor([[-1.0, 3.0]] * 2), atol=1e-5, rtol=0)
    rest = frames.flatten(2) - coordinates[:, :, None] * directed.lens.mixed
    torch.testing.assert_close(rest[:, 0], rest[:, 1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("feature", [["mixed"], {"mixed": 1}, None, 2.5, "mixt"])
def test_traverse_refuses_what_is_no_feature(directed, images, feature):
    with pytest.raises(OptionError, match="there is no feature"):
        directed.traverse(images[:1], feature, [1.0])


def test_a_lens_without_directions_is_edited_by_its_features(fitted, images):
    bright = fitted.edit(images[1:2], {"bright": 0.5}, carry="none") - images[1:2]
    # Sideways of nothing: along the block that the input has, half of the square root of its width.
    assert bright.norm().item() == pytest.approx(4.0, rel=1e-4)
    assert (bright != 0).equal(images[1:2] > 0.5)
    assert fitted.directions == {}
    with pytest.raises(UnsupportedError, match="backends that can"):
        fitted.leakage(images[:2])
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


def test_steps_say_where_the_decision_flips(directed, trained, images, labels):
    plain = images[labels == 0][:6]
    with unchanged(trained):
        steps = directed.steps(plain, target=0, contrast=1)
    torch.testing.assert_close(steps.used, torch.full((6,), 9.0))
    codes = plain.flatten(1)
    for i in range(6):
        distances = torch.linspace(0, 9, 721)
        path = (codes[i] + distances[:, None] * directed.lens.patch).view(-1, 1, 8, 8)
        with torch.no_grad(), directed.classifier.frozen():
            flipped = directed.classifier(path).argmax(1) == 1
        assert flipped.any()
        assert steps.flip[i] == pytest.approx(float(distances[flipped][0]), abs=0.04)
    # Away from it, f never sees a bright patch.
    assert directed.steps(plain, target=0, contrast=2).flip.shape == (6,)
    never = toys.explainer_with(toys.StuckLens(), directed).steps(plain, target=0, contrast=1)
    assert never.flip.isinf().all()
    assert not never.used.any()
    assert not never.reached.any()


def test_steps_say_whether_the_margin_of_real_inputs_was_reached(directed, images, labels):
    plain = images[labels == 0][:6]
    with torch.no_grad(), directed.classifier.frozen():
        logits = directed.classifier((plain.flatten(1) + 9 * directed.lens.patch).view(-1, 1, 8, 8))
    margins = logits[:, 1] - logits[:, 0]
    assert (logits.argmax(1) == 1).all()

    def asked(goal):
        table = [[0.0, 1.0, 1.0], [goal, 0.0, 1.0], [1.0, 1.0, 0.0]]
        spec = dataclasses.replace(directed.spec, class_margins=tuple(map(tuple, table)))
        explainer = toys.explainer_with(Directed(), directed)
        explainer.spec = spec
        return explainer.steps(plain, target=0, contrast=1).reached

    middle = float(margins.sort().values[2:4].mean())
    assert asked(middle).equal(margins >= middle)
    assert asked(middle).sum() == 3
    # The margin of a class without inputs is not known: 1, the median of the others, stands in.
    assert asked(0.0).equal(margins >= 1)
