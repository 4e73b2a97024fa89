"""The DIF backend: that it learns on real digits, and all that a fit goes through."""

import dataclasses
import warnings

import pytest
import torch
import torch.nn.functional as F
import toys
import xlens_dif
from guard import unchanged
from torch import nn
from xlens_dif import DIF, DIFLens
from xlens_dif.sparse import PENALTIES

import xlens
from xlens import LensExplainer
from xlens.errors import DataError, OptionError, UnsupportedError, XlensWarning

#: A mask of three steps, where the mask does not matter.
QUICK = toys.SHORT_MASK


@pytest.fixture(scope="module")
def fitted(digits):
    model, images = digits
    with unchanged(model), warnings.catch_warnings():
        warnings.simplefilter("error")
        return xlens.fit(
            xlens.Classifier(model, class_names=images.class_names),
            images.train,
            DIF(steps=500, hidden=96, code=12, batch_size=64),
            mask=xlens.MaskOptions(steps=120),
            progress=False,
        )


def test_options_that_contradict_each_other_are_refused(digits):
    model, images = digits
    with pytest.raises(OptionError, match="code=2 for 5 classes.*at least 5"):
        xlens.fit(nn.Linear(6, 5), torch.randn(40, 6), "dif", code=2, separation="logistic", progress=False)
    with pytest.raises(UnsupportedError, match="convolutions need images"):
        xlens.fit(nn.Linear(6, 2), torch.randn(40, 6), "dif", network="convolutional", progress=False)
    with pytest.raises(OptionError, match="game must be one of 'exponential', 'margin', 'none'"):
        xlens.fit(model, images.train, "dif", game="hard", progress=False)


def test_it_learns_digits(fitted, digits):
    model, images = digits
    lens = fitted.lens
    assert not lens.health.problems
    assert lens.health.fake_kl > lens.health.real_kl
    with unchanged(model):
        agreement = lens.agreement(images.test)
    assert (agreement.sparse >= 0.93).all()
    assert agreement.confirmed >= 0.9
    assert agreement.flips >= 0.9
    explanation = fitted.explain(images.test)
    assert explanation.fidelity.agrees.float().mean() >= 0.93
    assert explanation.fidelity.decoding_flips.float().mean() >= 0.9
    assert explanation.fidelity.flips.float().mean() >= 0.8


def test_codes_are_bounded_and_features_grow_with_their_class(fitted, digits):
    _, images = digits
    lens = fitted.lens
    with torch.no_grad():
        codes = lens.encode(images.test)
    assert codes.abs().max() < 3
    *named, rest = lens.features
    assert [part.name for part in named] == [f"8 feature {i + 1}" for i in range(len(named))]
    assert len(named) <= 3
    assert rest.name == "everything else"
    assert sorted(dim for part in lens.features for dim in part.dims) == list(range(12))
    weights = lens.weights[PENALTIES.index(0.01)]
    strongest = weights[1, [part.dims[0] for part in named]]
    assert (strongest > 0).all()
    assert (strongest.diff() <= 0).all()
    assert lens.feature_weights == dict(zip([part.name for part in named], strongest.tolist(), strict=True))
    is_eight = images.test_labels == 1
    first = codes[:, named[0].dims[0]]
    assert first[is_eight].mean() > first[~is_eight].mean()
    # Without a penalty all weights count, with a strong one few.
    assert (lens.weights[0, 1] != 0).sum() > (lens.weights[-1, 1] != 0).sum()


def test_draws_are_of_the_posterior_of_each_input(fitted, digits):
    images, lens = digits[1].test[:4], fitted.lens
    noise = torch.randn(400, lens.code, generator=torch.Generator().manual_seed(0))
    with fitted.classifier.frozen(), torch.no_grad():
        draws = lens.encode_draws(images, noise)
        raw = lens.bound * torch.atanh((draws * lens.orientation / lens.bound).double())
        mean, log_variance = lens.encoder(images)
        assert torch.allclose(lens.encode_draws(images, 0 * noise[:1])[0], lens.encode(images), atol=1e-6)
    assert draws.shape == (400, 4, lens.code)
    assert torch.allclose(raw, (mean + (0.5 * log_variance).exp() * noise.unsqueeze(1)).double(), atol=1e-2)


def test_a_traversal_brings_fs_score_under_every_frame(fitted, digits):
    model, images = digits
    x = images.test[:20]
    with unchanged(model):
        found = fitted.lens.traversal(x, "8 feature 1", 7)
        assert torch.equal(found.frames, fitted.lens.traversal(x, 0, 7).frames)
    assert found.frames.shape == (20, 7, 1, 8, 8)
    assert found.values[0] == -found.values[-1]
    assert 2.9 < found.values[-1] < 3
    logits = model(found.frames.flatten(0, 1))
    torch.testing.assert_close(found.scores.flatten(), logits[:, 1] - logits[:, 0], atol=1e-4, rtol=1e-4)
    assert torch.allclose(found.frames, fitted.traverse(x, "8 feature 1", found.values), atol=1e-6)
    assert (found.scores[:, -1] > found.scores[:, 0]).float().mean() >= 0.9
    for wrong in ("everything else", 17, True, "9 feature 1"):
        with pytest.raises(OptionError, match="8 feature 1"):
            fitted.lens.traversal(x, wrong)
    with pytest.raises(OptionError, match="Did you mean '8 feature 1'"):
        fitted.lens.traversal(x, "8 featur 1")
    for wrong in (1, 7.0, True):
        with pytest.raises(OptionError, match="count is wrong"):
            fitted.lens.traversal(x, 0, wrong)


def test_what_is_asked_of_the_lens_itself_is_checked_and_converted(fitted, digits):
    _, images = digits
    lens, x = fitted.lens, images.test[:300]
    assert torch.equal(lens.traversal(x[:2].double(), 0, 3).frames, lens.traversal(x[:2], 0, 3).frames)
    assert lens.agreement(x.double()).flips == lens.agreement(x).flips
    assert lens.traversal(x[0], 0, 3).frames.shape == (1, 3, 1, 8, 8)
    for wrong in (x[:0], x[:, :, 1:], x * float("nan")):
        with pytest.raises(DataError):
            lens.traversal(wrong, 0)
        with pytest.raises(DataError):
            lens.agreement(wrong)


def test_counterfactuals_move_the_selected_features_alone_to_the_usual_margin(fitted, digits):
    model, images = digits
    explanation = fitted.explain(images.test[:50])
    change = explanation.counterfactual_codes - explanation.codes
    chosen = [part.dims[0] for part in fitted.lens.features[:-1]]
    others = [dim for dim in range(12) if dim not in chosen]
    assert not change[:, others].any()
    assert change[:, chosen].any(1).all()
    assert explanation.counterfactual_codes.abs().max() < 3
    toward_eight = explanation.contrast == 1
    assert (change[toward_eight][:, chosen] >= 0).all()
    assert (change[~toward_eight][:, chosen] <= 0).all()
    parts = dict(zip(explanation.feature_names, explanation.feature_contributions.T, strict=True))
    assert not parts["everything else"].any()
    with torch.no_grad():
        reached = model(fitted.lens.decode(explanation.counterfactual_codes))
    rows = torch.arange(50)
    margin = reached[rows, explanation.contrast] - reached[rows, explanation.target]
    goal = torch.tensor(fitted.spec.class_margins)[explanation.contrast, explanation.target]
    at_the_edge = (explanation.counterfactual_codes[:, chosen].abs() > 2.99).any(1)
    assert ((margin >= goal - 1e-3) | at_the_edge).all()
    assert (margin >= goal - 1e-3).float().mean() > 0.5


def test_a_fit_that_fails_its_health_test_is_begun_anew_and_says_so(digits, monkeypatch):
    from xlens_dif import backend
    from xlens_dif.health import Health

    model, images = digits
    found = [Health(5.0, 4.0, 0.5, True), Health(5.0, 6.0, 0.5, True)]
    examined = iter(found)
    monkeypatch.setattr(backend, "examine", lambda *_, **__: next(examined))
    phases = set()
    options = {
        "steps": 3,
        "hidden": 16,
        "mask": QUICK,
        "progress": False,
        "on_step": lambda event: phases.add(event.phase),
    }
    with pytest.warns(XlensWarning, match="begun anew, because .* 4.0, and real inputs one of 5.0") as said:
        explainer = xlens.fit(model, images.train, "dif", **options)
    assert said[0].filename == __file__
    assert {"dif", "dif-2"} <= phases
    assert "dif-3" not in phases
    assert explainer.lens.health == found[1]
    examined = iter([found[0]] * 2)
    with pytest.warns(XlensWarning, match="not sound, also after 1 restarts") as said:
        explainer = xlens.fit(model, images.train, "dif", restarts=1, **options)
    assert {warning.filename for warning in said} == {__file__}
    assert explainer.lens.health.problems


def test_save_and_load_keep_features_and_answers(fitted, digits, tmp_path):
    model, images = digits
    fitted.save(tmp_path)
    again = xlens.load(tmp_path, model)
    assert isinstance(again.lens, DIFLens)
    assert list(again.features) == list(fitted.features)
    assert again.lens.health == fitted.lens.health
    assert torch.equal(again.lens.weights, fitted.lens.weights)
    x = images.test[:4]
    assert torch.equal(again.counterfactual(x), fitted.counterfactual(x))
    edit = {"evidence for 8": 1.0, "8 feature 1": -1.0}
    assert torch.equal(again.edit(x, edit), fitted.edit(x, edit))


def test_an_interrupted_fit_resumes_to_the_same_lens(digits, tmp_path):
    model, images = digits
    options = {"steps": 8, "hidden": 16, "restarts": 0, "mask": QUICK, "progress": False}

    def stop(event):
        if event.phase == "dif" and event.step == 5:
            raise KeyboardInterrupt

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = xlens.fit(model, images.train, "dif", **options)
        with pytest.raises(KeyboardInterrupt), unchanged(model):
            xlens.fit(model, images.train, "dif", output_dir=tmp_path, on_step=stop, **options)
        resumed = xlens.fit(model, images.train, "dif", output_dir=tmp_path, resume=True, **options)
    for name, value in whole.lens.state_dict().items():
        assert torch.equal(value, resumed.lens.state_dict()[name]), name


@pytest.mark.parametrize("separation", ["me", "logistic"])
def test_a_class_too_rare_to_be_pulled_apart_is_named(separation):
    """Nine of 1,000 inputs are of class 1: one in a batch, and four are needed."""
    inputs = torch.randn(1000, 5, generator=torch.Generator().manual_seed(0))
    model = nn.Linear(5, 2)
    with torch.no_grad():
        model.weight.zero_()[1, 0] = 5
        model.bias.copy_(torch.tensor([0.0, -12.0]))
    compared = set()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        xlens.fit(
            xlens.Classifier(model, class_names=("usual", "rare")),
            inputs,
            DIF(steps=4, hidden=16, restarts=0, drawn_classes=False, separation=separation),
            on_step=lambda event: compared.add("separation" in event.losses),
            mask=QUICK,
            progress=False,
        )
    texts = [str(warning.message) for warning in said if "could hardly pull" in str(warning.message)]
    assert compared == {separation == "logistic"}
    assert len(texts) == (separation == "me")
    if texts:
        assert "pull 'rare' from the rest, of which batches of 128 hold fewer than 4 rows" in texts[0]
        assert next(w.filename for w in said if str(w.message) == texts[0]) == __file__


def test_classes_of_the_same_name_keep_features_of_their_own():
    classifier = toys.linear_classifier((5,), 3)
    classifier.class_names = ("cat", "dog", "cat")
    lens = DIF(code=6, hidden=8).build(classifier, toys.spec((5,), 3))
    classes = torch.arange(300) % 3
    lens.find_features(F.one_hot(classes, 6) + 0.1 * torch.randn(300, 6), classes)
    names = [part.name for part in lens.features]
    assert len(set(names)) == len(names)
    assert {"cat (class 0) feature 1", "dog feature 1", "cat (class 2) feature 1"} <= set(names)
    assert list(lens.directions) == [
        "evidence for cat (class 0)",
        "evidence for dog",
        "evidence for cat (class 2)",
    ]


@pytest.mark.parametrize(("options", "share"), [({}, 0.4), ({"drawn_classes": False}, 0.5)])
@pytest.mark.filterwarnings("ignore::xlens.errors.XlensWarning")
def test_classes_are_drawn_from_what_f_gives_them(monkeypatch, options, share):
    """The classifier gives class 1 to one half of the inputs with .7, and to the other with .1."""
    linear = nn.Linear(5, 1)
    with torch.no_grad():
        linear.weight.zero_()[0, 0] = 1
        linear.bias.zero_()
    inputs = torch.rand(128, 5)
    inputs[:, 0] = torch.tensor([0.7, 0.1]).logit().repeat(64)
    seen = []
    monkeypatch.setattr("xlens_dif.objective.mean_embedding_separation", lambda _, c, *__: seen.append(c))
    xlens.fit(
        linear,
        inputs,
        "dif",
        **{"steps": 12, "hidden": 16, "restarts": 0, "mask": QUICK, "progress": False, **options},
    )
    assert float(torch.cat(seen).float().mean()) == pytest.approx(share, abs=0.05)


def test_three_classes_of_vectors_in_every_kind_of_play_and_separation():
    generator = torch.Generator().manual_seed(0)
    centres = torch.tensor([[2.0, 0, 0, 0, 0], [0, 2.0, 0, 0, 0], [0, 0, 2.0, 0, 0]])
    labels = torch.arange(300) % 3
    inputs = centres[labels] + 0.5 * torch.randn(300, 5, generator=generator)
    model = nn.Linear(5, 3)
    with torch.no_grad():
        model.weight.copy_(2 * centres)
        model.bias.zero_()
    kinds = (("exponential", "me"), ("margin", "logistic"), ("none", "none"))
    for game, separation in kinds:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            explainer = xlens.fit(
                model,
                inputs,
                "dif",
                steps=150,
                hidden=32,
                code=6,
                restarts=0,
                reconstruction_weight=40.0,
                game=game,
                separation=separation,
                mask=QUICK,
                progress=False,
            )
            explanation = explainer.explain(inputs[:60], attributions=(), n_steps=4)
        assert explanation.fidelity.decoding_flips.float().mean() >= 0.9, (game, separation)
        assert all(part.class_index is not None for part in explainer.features[:-1])
        dims = [dim for part in explainer.features for dim in part.dims]
        assert sorted(dims) == list(range(6))
        moved = (explanation.counterfactual_codes != explanation.codes).sum(1)
        assert moved.max() <= 3
        assert explainer.lens.agreement(inputs).sparse[0] >= 0.9


def test_the_papers_settings_and_a_stream():
    images = toys.pictures(48, seed=0)[0]
    paper = DIF.paper(steps=2, width=4, restarts=0)
    assert (paper.bound, paper.game, paper.separation) == (10.0, "margin", "me")
    stream = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images), batch_size=16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        explainer = xlens.fit(toys.trained_cnn(), stream, paper, mask=QUICK, progress=False)
        explanation = explainer.explain(images[:2], carry="none")
    assert explanation.codes.shape == (2, 16)


def test_the_game_went_by_another_name():
    with pytest.warns(DeprecationWarning, match="introspection"):
        old = DIF(introspection="soft")
    assert old == DIF(game="exponential")


def test_a_scale_that_cancels_is_refused():
    with pytest.raises(OptionError, match="nu changes nothing while.*gamma=None"):
        DIF(nu=0.1)
    assert (DIF(nu=0.1, gamma=1.0).nu, DIF.paper().eta, DIF.paper().fixed_margin) == (0.1, 1e-2, 40.0)


def test_capabilities_are_what_it_declares(fitted):
    from xlens.contracts import CAPABILITIES

    protocols = [CAPABILITIES[name] for name in DIF.capabilities]
    assert all(isinstance(fitted.lens, protocol) for protocol in protocols if protocol is not None)
    assert "dif" in xlens.backends()
    assert fitted.sample(1, 0).shape == (1, 1, 8, 8)
    with pytest.raises(OptionError, match="penalty must be one of"):
        fitted.lens.class_logits(torch.zeros(1, 12), 0.5)


def test_traversal_and_agreement_take_an_explainer(fitted, digits):
    model, images = digits
    with unchanged(model):
        moved = xlens_dif.traversal(fitted, images.test[:3], 0, 5)
        found = xlens_dif.agreement(fitted, images.test[:40].numpy())
    assert moved.frames.shape == (3, 5, 1, 8, 8)
    assert torch.equal(moved.scores, fitted.lens.traversal(images.test[:3], 0, 5).scores)
    assert found.flips == fitted.lens.agreement(images.test[:40]).flips
    with pytest.raises(DataError, match="shape"):
        xlens_dif.agreement(fitted, torch.zeros(2, 3))
    other = LensExplainer(dataclasses.replace(fitted.fitted, lens=toys.ToyLens()))
    for call in (lambda: xlens_dif.traversal(other, images.test[:1], 0), lambda: xlens_dif.agreement(other, [])):
        with pytest.raises(UnsupportedError, match="this lens cannot.*ToyLens.*Allowed: a DIFLens"):
            call()
