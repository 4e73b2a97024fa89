"""The IntroVAC backend: that it learns on real digits, and all that a fit goes through."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
import toys
import xlens_introvac
from guard import unchanged
from sklearn.linear_model import LogisticRegression
from torch import nn
from xlens_introvac import IntroVAC
from xlens_introvac.lens import IntroVACLens

import xlens
from xlens import LensExplainer
from xlens.errors import DataError, OptionError, UnsupportedError, XlensWarning
from xlens.evaluation import flip_distance
from xlens.nn import ResidualEncoder

#: A mask of three steps, where the mask does not matter.
QUICK = toys.SHORT_MASK


@pytest.fixture(scope="module")
def ink(digits):
    """Whether there is much ink in the upper half, not observed on every third image; and ink in the left half."""
    _, images = digits
    upper = images.train[:, 0, :4].mean((1, 2))
    table = torch.stack([(upper > upper.median()).float(), images.train[:, 0, :, :4].mean((1, 2))], 1)
    table[::3, 0] = float("nan")
    return table


@pytest.fixture(scope="module")
def fitted(digits, ink):
    model, images = digits
    with unchanged(model):
        return xlens.fit(
            xlens.Classifier(model, class_names=images.class_names),
            images.train,
            "introvac",
            steps=500,
            hidden=128,
            code=12,
            side_info=ink,
            attributes=("upper ink", "left ink"),
            mask=xlens.MaskOptions(steps=120),
            progress=False,
        )


def test_options_that_contradict_each_other_are_refused(digits, ink):
    model, images = digits
    with pytest.raises(OptionError, match="code=4 for 5 classes and 0 attributes.*set code=21"):
        xlens.fit(nn.Linear(6, 5), torch.randn(40, 6), "introvac", code=4, progress=False)
    with pytest.raises(OptionError, match="3 classes|2 classes and 2 attributes"):
        xlens.fit(model, images.train, "introvac", code=3, side_info=ink, progress=False)
    with pytest.raises(OptionError, match="2 names, 1 different.*2 different names, one for each"):
        xlens.fit(model, images.train, "introvac", attributes=("a", "a"), side_info=ink, progress=False)
    with pytest.raises(OptionError, match="3 names, 2 different"):
        xlens.fit(model, images.train, "introvac", attributes=("a", "b", "a"), side_info=ink, progress=False)
    for taken in ("everything else", "class evidence", "evidence for 3"):
        with pytest.raises(OptionError, match=f"cannot be called '{taken}'"):
            xlens.fit(model, images.train, "introvac", attributes=("a", taken), side_info=ink, progress=False)
    with pytest.raises(OptionError, match="without side_info"):
        xlens.fit(model, images.train, "introvac", attributes=("a",), progress=False)
    for fault, says in (
        (float("nan"), "fewer than two values"),
        (1.0, "fewer than two values"),
        (float("inf"), "not finite"),
    ):
        table = ink.clone()
        table[:, 1] = fault
        with pytest.raises(DataError, match=f"side_info.*{says}"):
            xlens.fit(model, images.train, "introvac", side_info=table, progress=False)


def test_samples_that_the_classifier_does_not_accept_are_rejected(fitted, digits):
    model, images = digits
    for c in (0, 1):
        with unchanged(model):
            samples = fitted.sample(40, c, seed=3)
        assert samples.shape == (40, 1, 8, 8)
        assert (model(samples).argmax(1) == c).all()  # by construction; what others see in them is below
        eyes = LogisticRegression(max_iter=1000).fit(images.train.flatten(1), images.train_labels)
        assert (eyes.predict(samples.flatten(1)) == c).mean() >= 0.9
        with fitted.classifier.frozen():
            drawn = fitted.lens.draw(40, c, torch.Generator().manual_seed(3))
        assert torch.equal(drawn.inputs, samples)
        assert drawn.kept.all()
        assert drawn.accepted_by_head >= 0.8
        assert drawn.r_hat < 1.1
    assert torch.equal(samples, fitted.sample(40, 1, seed=3))
    assert not torch.equal(samples, fitted.sample(40, 1, seed=4))


def test_counterfactuals_move_along_the_difference_of_the_classes_to_the_usual_margin(fitted, digits):
    model, images = digits
    with unchanged(model):
        explanation = fitted.explain(images.test[:50])
        steps = flip_distance(fitted, images.test[:50])
    change = explanation.counterfactual_codes - explanation.codes
    weights = fitted.lens.head.classes
    wanted = F.normalize(weights[explanation.contrast] - weights[explanation.target], dim=1)
    torch.testing.assert_close(change, change.norm(dim=1, keepdim=True) * wanted, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(change.norm(dim=1), steps.used, atol=1e-3, rtol=1e-3)
    assert steps.flip.isfinite().float().mean() > 0.95
    # All of it is class evidence: nothing moves in the dimensions of the others.
    parts = dict(zip(explanation.feature_names, explanation.feature_contributions.T, strict=True))
    assert parts["everything else"].abs().max() < 1e-3
    assert (parts["evidence for 8"].abs() > 1).float().mean() > 0.9
    with torch.no_grad(), fitted.classifier.frozen():
        reached = model(fitted.lens.decode(explanation.counterfactual_codes))
        early = model(fitted.lens.decode(explanation.codes + 0.5 * steps.flip.clamp(max=9)[:, None] * wanted))
    rows = torch.arange(50)
    margin = reached[rows, explanation.contrast] - reached[rows, explanation.target]
    goal = torch.tensor(fitted.spec.class_margins)[explanation.contrast, explanation.target]
    assert ((margin >= goal - 1e-3) | (steps.used == fitted.backend.longest_step)).float().mean() > 0.9
    sure = (margin - goal).abs() > 0.01 * goal
    assert steps.reached[sure].equal((margin >= goal)[sure])
    assert steps.reached.float().mean() > 0.8
    assert (early.argmax(1) == explanation.contrast).float().mean() < 0.2


def test_it_learns_digits(fitted, digits):
    model, images = digits
    explanation = fitted.explain(images.test)
    assert explanation.fidelity.agrees.float().mean() >= 0.93
    assert explanation.fidelity.flips.float().mean() >= 0.95
    target, contrast, codes = explanation.target, explanation.contrast, explanation.codes
    names = [f"evidence for {name}" for name in images.class_names]
    directions = torch.stack([fitted.directions[name] for name in names])
    noise = torch.randn(32, codes.shape[1], generator=torch.Generator().manual_seed(0))
    random = F.normalize(noise, dim=1)
    with torch.no_grad(), fitted.classifier.frozen():
        moved = model(fitted.lens.decode(codes + 4 * directions[contrast])).argmax(1)
        elsewhere = [model(fitted.lens.decode(codes + 4 * u)).argmax(1) != target for u in random]
    assert (moved == contrast).float().mean() >= 0.9
    assert torch.stack(elsewhere).float().mean() <= 0.2


def test_attributes_are_learned_from_what_was_observed_and_edited_together(fitted, digits, ink):
    _, images = digits
    names = ("upper ink", "left ink")
    assert fitted.lens.attribute_names == names
    with fitted.classifier.frozen(), torch.no_grad():
        codes = fitted.lens.encode(images.train)
        read = fitted.lens.head.read_attributes(codes)
    hidden = ink[:, 0].isnan()
    upper = images.train[:, 0, :4].mean((1, 2))
    truth = upper > upper.median()
    # On images whose attribute was never shown it reads about what a linear model of the pixels does.
    pixels = images.train.flatten(1).numpy()
    reference = LogisticRegression(max_iter=1000).fit(pixels[~hidden], truth[~hidden])
    assert ((read[:, 0] > 0) == truth)[~hidden].float().mean() >= 0.9
    assert ((read[:, 0] > 0) == truth)[hidden].float().mean() >= reference.score(
        pixels[hidden], truth[hidden]
    ) - 0.05
    assert torch.corrcoef(torch.stack([read[:, 1], ink[:, 1]]))[0, 1] >= 0.8

    def inks(pictures):
        return pictures[:, 0, :4].mean(), pictures[:, 0, :, :4].mean()

    plain = fitted.edit(images.test, {"upper ink": 0.0}, carry="none")
    up = fitted.edit(images.test, {"upper ink": 2.0}, carry="none")
    both = fitted.edit(images.test, {"upper ink": 2.0, "left ink": -2.0}, carry="none")
    assert inks(up)[0] > inks(plain)[0] + 0.02
    assert inks(both)[1] < inks(up)[1] - 0.02


def test_samples_have_the_attributes_that_are_asked_for(fitted, digits):
    asked = {"upper ink": True, "left ink": -1.0}
    found = xlens_introvac.draw(fitted, 30, attributes=asked, seed=1)
    other = xlens_introvac.draw(fitted, 30, attributes={"upper ink": False}, seed=1)
    both = xlens_introvac.draw(fitted, 20, 1, attributes={"upper ink": True}, seed=1)
    with fitted.classifier.frozen(), torch.no_grad():
        again = fitted.lens.head.read_attributes(fitted.lens.encode(found.inputs))
        said = fitted.classifier(both.inputs).argmax(1)
    torch.testing.assert_close(found.read, again)
    assert (found.read[found.kept][:, 0] > 0).all()
    assert ((found.read[found.kept][:, 1] + 1).abs() <= 1).all()
    assert (said[both.kept] == 1).all()
    assert (both.read[both.kept][:, 0] > 0).all()
    assert found.kept.float().mean() > 0.5
    # By the pixels themselves, which the head only reads.
    upper = [images.inputs[:, 0, :4].mean() for images in (found, other)]
    assert upper[0] > upper[1] + 0.03
    for wrong in ({"width": True}, {"upper ink": "yes"}, {"upper ink": float("nan")}):
        with pytest.raises(OptionError, match="draw: attributes are wrong.*'upper ink', 'left ink'"):
            xlens_introvac.draw(fitted, 3, attributes=wrong)
    with pytest.raises(OptionError, match="draw: nothing is asked for"):
        xlens_introvac.draw(fitted, 3)


def test_two_attributes_edited_at_once_are_the_sum_of_both_moves(fitted, digits):
    x = digits[1].test[:5]
    edited = fitted.edit(x, {"upper ink": 4.0, "left ink": 3.0}, carry="none")
    upper, left = (fitted.lens.directions[name] for name in ("upper ink", "left ink"))
    with torch.no_grad(), fitted.classifier.frozen():
        moved = fitted.lens.decode(fitted.lens.encode(x) + 4 * upper + 3 * left)
    torch.testing.assert_close(edited, moved, atol=1e-5, rtol=1e-4)


# --- all of it together ---------------------------------------------------------------------------------------


def test_save_and_load_keep_attributes_and_answers(fitted, digits, tmp_path):
    model, images = digits
    fitted.save(tmp_path)
    again = xlens.load(tmp_path, model)
    assert isinstance(again.lens, IntroVACLens)
    assert [f.name for f in again.features] == [f.name for f in fitted.features]
    assert list(again.directions) == ["evidence for 3", "evidence for 8", "upper ink", "left ink"]
    edit = {"left ink": 1.0, "evidence for 3": -1.0}
    assert torch.equal(again.edit(images.test[:3], edit), fitted.edit(images.test[:3], edit))


def test_an_interrupted_fit_resumes_to_the_same_lens(digits, ink, tmp_path):
    model, images = digits
    options = {"steps": 8, "hidden": 16, "side_info": ink, "mask": QUICK, "progress": False}
    whole = xlens.fit(model, images.train, "introvac", **options)

    def stop(event):
        if event.phase == "introvac" and event.step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), unchanged(model):
        xlens.fit(model, images.train, "introvac", output_dir=tmp_path, on_step=stop, **options)
    resumed = xlens.fit(model, images.train, "introvac", output_dir=tmp_path, resume=True, **options)
    for name, value in whole.lens.state_dict().items():
        assert torch.equal(value, resumed.lens.state_dict()[name]), name


def test_capabilities_are_what_it_declares(fitted, digits):
    from xlens.contracts import CAPABILITIES

    for name in IntroVAC.capabilities:
        protocol = CAPABILITIES[name]
        assert protocol is None or isinstance(fitted.lens, protocol)
    assert "introvac" in xlens.backends()
    with pytest.raises(UnsupportedError):
        fitted.invariances(digits[1].test[:1], 1)


def test_three_classes_vectors_and_the_other_settings():
    generator = torch.Generator().manual_seed(0)
    centres = torch.tensor([[2.0, 0, 0, 0, 0], [0, 2.0, 0, 0, 0], [0, 0, 2.0, 0, 0]])
    labels = torch.arange(300) % 3
    inputs = centres[labels] + 0.5 * torch.randn(300, 5, generator=generator)
    model = nn.Linear(5, 3)
    with torch.no_grad():
        model.weight.copy_(2 * centres)
        model.bias.zero_()
    for options in ({}, {"introspection": False}):
        explainer = xlens.fit(
            model, inputs, "introvac", steps=300, hidden=32, code=6, mask=QUICK, progress=False, **options
        )
        explanation = explainer.explain(inputs[:60])
        assert explanation.fidelity.decoding_flips.float().mean() >= 0.9
        assert explanation.feature_names == ("everything else", "class evidence")
        # By the centres the data were made of, and not by f, whose word is what samples are chosen by.
        assert (torch.cdist(explainer.sample(30, 2), centres).argmin(1) == 2).float().mean() >= 0.8
    images = toys.pictures(24, seed=0)[0]
    paper = IntroVAC.paper(steps=2, width=4, code=16, langevin_steps=6)
    assert (paper.fool_weight, paper.detect_weight, paper.prior_weight) == (5.0, 0.01, 3.0)
    explainer = xlens.fit(toys.trained_cnn(), images, paper, mask=QUICK, progress=False)
    with pytest.warns(XlensWarning):
        explanation = explainer.explain(images[:2], carry="none")
    assert explanation.codes.shape == (2, 16)


def test_draw_takes_an_explainer_and_a_seed(fitted, digits):
    model, _ = digits
    with unchanged(model):
        found = xlens_introvac.draw(fitted, 20, 1, seed=3)
    assert torch.equal(found.inputs, fitted.sample(20, 1, seed=3))
    assert found.codes.shape == (20, 12)
    assert found.r_hat < 1.1
    assert not torch.equal(found.inputs, xlens_introvac.draw(fitted, 20, 1, seed=4).inputs)
    with pytest.raises(OptionError, match="seed must be an int >= 0"):
        xlens_introvac.draw(fitted, 20, 1, seed=-1)
    with pytest.raises(OptionError, match="draw: target is wrong"):
        xlens_introvac.draw(fitted, 20, 2)


def test_draw_refuses_what_is_no_explainer_of_its_own(fitted):
    other = LensExplainer(dataclasses.replace(fitted.fitted, lens=toys.ToyLens()))
    with pytest.raises(UnsupportedError, match="draw: this lens cannot.*ToyLens.*Allowed: a IntroVACLens"):
        xlens_introvac.draw(other, 3, 0)
    with pytest.raises(OptionError, match="draw: explainer is no explainer. Given: str"):
        xlens_introvac.draw("lens/", 3, 0)


def reconstructed(explainer, images):
    with xlens.asking(explainer) as lens:
        return lens.decode(lens.encode(images))


def test_residual_networks_learn_and_are_kept(digits, tmp_path):
    model, images = digits
    options = {"network": "residual", "width": 8, "code": 12, "ema": 0.0, "mask": QUICK, "progress": False}
    with unchanged(model):
        fitted = xlens.fit(model, images.train, "introvac", steps=150, **options)
    assert isinstance(fitted.lens.encoder.trunk, ResidualEncoder)
    far = F.l1_loss(images.test.mean(0, keepdim=True).expand_as(images.test), images.test)
    decoded = reconstructed(fitted, images.test)
    assert float(F.l1_loss(decoded, images.test)) < 0.9 * float(far)
    fitted.save(tmp_path)
    assert torch.equal(reconstructed(xlens.load(tmp_path, model), images.test), decoded)
    with pytest.raises(UnsupportedError, match="convolutions need images"):
        xlens.fit(nn.Linear(6, 2), torch.randn(40, 6), "introvac", network="residual", progress=False)


def test_the_papers_networks_are_residual():
    assert IntroVAC.paper().network == "residual"
