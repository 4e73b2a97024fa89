"""The ILVM lens on scikit-learn's digits."""

import copy
import functools
import warnings

import pytest
import torch
from on_digits import HELD, LAYER, codes_of
from torch import nn

import xlens
from xlens.errors import DataError, ModelError, OptionError, UnsupportedError, XlensWarning
from xlens.evaluation import flip_distance
from xlens.integrations.quantus import as_quantus
from xlens.metrics import interpretability
from xlens.report import save_report


@pytest.fixture(scope="module")
def explainer(digits, model, some):
    return xlens.fit(
        xlens.Classifier(model, layer=LAYER),
        digits[0][:HELD],
        "ilvm",
        side_info=some,
        attributes=("digit", "ink"),
        kinds=("single", "measured"),
        steps=300,
        layers=1,
        hidden=32,
        progress=False,
    )


@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-4), (torch.float64, 1e-10)])
def test_nothing_is_lost(explainer, digits, model, dtype, most):
    images = digits[0][HELD:].to(dtype)
    classifier = xlens.Classifier(copy.deepcopy(model).to(dtype), layer=LAYER)
    with torch.no_grad():
        logits = classifier(images)
        activations = classifier.activations(images)
        y, rest = explainer.lens.space(activations)
        codes = torch.cat([explainer.lens.model.code(y), rest], 1).to(dtype)
        again = classifier.tail(explainer.lens.decode(codes), images)
    assert float((again - logits).abs().max()) <= most
    assert torch.equal(again.argmax(1), logits.argmax(1))


def test_attributes_are_read_off_one_dimension_better_than_off_the_layer(explainer, digits):
    images, _, table = digits
    with torch.no_grad():
        layer = explainer.classifier.activations(images[HELD:])
    codes = codes_of(explainer, images[HELD:])
    half = len(codes) // 2
    parts = {}
    for name, values in (("layer", layer), ("code", codes)):
        parts[name] = interpretability(
            values[:half], table[HELD:][:half], test_codes=values[half:], test_side_info=table[HELD:][half:]
        )
    assert parts["code"].dims.tolist() == [0, 1]
    assert (parts["code"].likelihood > 1.2 * parts["layer"].likelihood).all()


def test_the_score_difference_is_shared_out_over_attributes_and_pixels(explainer, digits):
    images = digits[0][HELD : HELD + 16]
    found = explainer.explain(images, attributions=("lig", "ig_counterfactual"))
    model = explainer.classifier.model
    with torch.no_grad():
        logits = [model(part) for part in (images, found.counterfactual)]
    rows = torch.arange(16)
    scores = [one[rows, found.target] - one[rows, found.contrast] for one in logits]
    difference = scores[0] - scores[1]
    assert found.feature_names == ("digit", "ink", "everything else")
    torch.testing.assert_close(found.feature_contributions.sum(1), difference, rtol=0.01, atol=0.01)
    torch.testing.assert_close(found.attributions["lig"].flatten(1).sum(1), difference, rtol=0.01, atol=0.01)
    for index, name in enumerate(found.feature_names):
        whole = found.attributions[f"lig: {name}"].flatten(1).sum(1)
        error = (whole - found.feature_contributions[:, index]).abs() / difference.abs()
        assert float(error.max()) <= 0.01
    assert found.fidelity.agrees.all()
    assert float(found.fidelity.score_gap.max()) < 1e-3
    assert bool(found.trustworthy.float().mean() > 0.9)


def test_the_map_of_an_attribute_is_the_chain_of_both_integrals(explainer, digits):
    """Against sums over a fine grid: slopes in the code, times integrated gradients of the code."""
    image = digits[0][HELD + 3 : HELD + 4]
    found = explainer.explain(image, tolerance=0.002)
    lens, classifier = explainer.lens, explainer.classifier
    start = found.counterfactual
    middles = (torch.arange(2000) + 0.5) / 2000
    z, z0 = found.codes.double(), found.counterfactual_codes.double()
    points = (z0 + middles[:, None].double() * (z - z0)).requires_grad_()
    logits = classifier.tail(lens.decode(points).float(), image.expand(2000, -1, -1, -1))
    score = (logits[:, found.target[0]] - logits[:, found.contrast[0]]).sum()
    slopes = torch.autograd.grad(score, points)[0].mean(0)
    torch.testing.assert_close(found.code_attributions[0].double(), slopes * (z - z0)[0], rtol=0.02, atol=0.02)
    pixels = (start + middles[:, None, None, None] * (image - start)).requires_grad_()
    read = lens.encode(pixels)[:, 0].sum()
    expected = slopes[0] * torch.autograd.grad(read, pixels)[0].mean(0).double() * (image - start)[0]
    own = found.attributions["lig: digit"][0].double()
    assert float((own - expected).abs().max()) < 0.02 * float(expected.abs().max())


def test_counterfactuals_are_real_inputs_of_the_contrast_class(explainer, digits):
    images = digits[0][HELD : HELD + 12]
    found = explainer.explain(images, contrast=None)
    seen = digits[0][:HELD].flatten(1)
    assert all(bool((seen == one.flatten()).all(1).any()) for one in found.counterfactual)
    with torch.no_grad():
        assert torch.equal(explainer.classifier.model(found.counterfactual).argmax(1), found.contrast)
    assert torch.equal(explainer.counterfactual(images), found.counterfactual)
    assert found.reconstruction is None
    assert found.edit is None
    assert found.mask is None


def test_pictures_reports_and_files_do_without_a_reconstruction(explainer, digits, tmp_path):
    images = digits[0][HELD : HELD + 3]
    found = explainer.explain(images)
    found.plot()
    found.plot_features()
    save_report(explainer, found, tmp_path / "why.html")
    assert "those on the way are" in (tmp_path / "why.html").read_text()
    xlens.plot.traversal(explainer, images, "ink", [-1.5, 0.0, 1.5])
    found.save(tmp_path / "one.safetensors")
    again = xlens.Explanation.load(tmp_path / "one.safetensors")
    assert again.reconstruction is None
    assert torch.equal(again.attributions["lig: ink"], found.attributions["lig: ink"])


def test_saved_and_loaded_it_is_the_same_and_can_be_taught(explainer, digits, model, some, tmp_path):
    images, _, table = digits
    explainer.save(tmp_path / "lens")
    again = xlens.load(tmp_path / "lens", model)
    assert [f.name for f in again.features] == ["digit", "ink", "everything else"]
    first, second = (one.explain(images[HELD : HELD + 4]) for one in (explainer, again))
    assert torch.equal(first.attributions["lig"], second.attributions["lig"])
    before = {k: v.clone() for k, v in model.state_dict().items()}
    hidden = some.isnan().all(1).nonzero()[:, 0]
    asked = again.teaching.query(images[hidden], 30, "mutual_information")
    rows = hidden[asked]
    known = len(again.lens.memory.y)
    again.teaching.teach(images[rows], table[rows], progress=False)
    assert len(again.lens.memory.y) == known + 30
    assert not torch.equal(codes_of(again, images[:4]), codes_of(explainer, images[:4]))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    # What was learned is saved as well.
    again.save(tmp_path / "taught")
    third = xlens.load(tmp_path / "taught", model)
    assert torch.equal(codes_of(third, images[:4]), codes_of(again, images[:4]))
    assert len(third.lens.memory.y) == known + 30


@pytest.mark.parametrize("flow", ["coupling", "planar"])
def test_before_anything_is_known_every_strategy_can_ask(digits, model, flow):
    classifier = xlens.Classifier(model, layer=LAYER)
    untaught = xlens.fit(
        classifier, digits[0][:200], "ilvm", kinds=("binary", "classes:3"), flow=flow, steps=5, progress=False
    )
    for strategy in ("power_mutual_information", "mutual_information", "max_entropy", "random"):
        assert len(untaught.teaching.query(digits[0][:40], 10, strategy).unique()) == 10


def test_power_mutual_information_draws_in_proportion(explainer, digits, monkeypatch):
    worth = torch.tensor([0.0, 0.1, 0.2, 0.3, 0.4])
    # 2,000 pools of five in one: which of five comes first does not depend on the others.
    pool = digits[0][:1].repeat(10_000, 1, 1, 1)
    pool[:, 0, 0, 0] = worth.repeat(2000)
    seen = []

    def informativeness(inputs, strategy, generator):
        seen.append(strategy)
        return inputs[:, 0, 0, 0].clone()

    monkeypatch.setattr(explainer.lens, "informativeness", informativeness)
    ask = functools.partial(explainer.teaching.query, pool, len(pool), "power_mutual_information")
    found = ask(seed=0)
    assert not torch.equal(found, ask(seed=1))
    orders = found.argsort().view(2000, 5).argsort(1)
    assert set(seen) == {"mutual_information"}
    assert (orders[:, -1] == 0).all()  # nothing is to be learned from it
    first = torch.bincount(orders[:, 0], minlength=5) / 2000
    # Four standard errors of a share of 2,000 draws.
    assert torch.allclose(first, worth, atol=0.045)
    # Drawn without replacement: given that the last came first, the others share what is left in proportion.
    second = torch.bincount(orders[orders[:, 0] == 4, 1], minlength=5) / (orders[:, 0] == 4).sum()
    assert torch.allclose(second[:4], worth[:4] / 0.6, atol=0.075)


def test_queries_are_reproducible_and_checked(explainer, digits):
    pool = digits[0][:60]
    for strategy in ("power_mutual_information", "mutual_information", "max_entropy", "random"):
        found = explainer.teaching.query(pool, 10, strategy)
        assert len(found.unique()) == 10
        assert torch.equal(found, explainer.teaching.query(pool, 10, strategy))
    assert len(explainer.teaching.query(pool, 100)) == 60
    with pytest.raises(OptionError, match="'mutual_informations'.*Did you mean 'mutual_information'"):
        explainer.teaching.query(pool, 5, "mutual_informations")
    with pytest.raises(DataError, match="side_info does not fit"):
        explainer.teaching.teach(pool, torch.zeros(59, 2))
    with pytest.raises(DataError, match="column 0 has a value that it does not know"):
        explainer.teaching.teach(pool[:1], torch.tensor([[77.0, 0.2]]))


def test_without_side_information_f_s_own_classes_are_named(digits, model):
    images = digits[0]
    found = xlens.fit(
        xlens.Classifier(model, layer=LAYER), images[:HELD], "ilvm", steps=400, layers=1, progress=False
    )
    assert [f.name for f in found.features][:2] == ["evidence for class 0", "evidence for class 1"]
    explanation = found.explain(images[HELD : HELD + 24])
    # Moving the evidence alone flips f on the layer's activations, everything else kept.
    assert float(explanation.fidelity.decoding_flips.float().mean()) >= 0.9
    share = explanation.feature_contributions[:, :-1].sum(1) / explanation.feature_contributions.sum(1)
    assert float(share.median()) > 0.7
    with pytest.raises(UnsupportedError, match="fitted without side_info"):
        found.teaching.query(images[:5], 2, "max_entropy")


def test_columns_of_which_nothing_is_known_yet_are_learned_from_nothing_on(digits, model):
    images, _, table = digits
    found = xlens.fit(
        xlens.Classifier(model, layer=LAYER), images[:HELD], "ilvm", attributes=("round", "digit"),
        kinds=("binary", "classes:10"), steps=10, layers=1, teaching_steps=150, progress=False,
    )  # fmt: skip
    assert [(q.name, len(q.choices)) for q in found.lens.questions] == [("round", 2), ("digit", 10)]
    assert found.lens.memory.targets.isnan().all()
    wanted = torch.stack([(table[:, 0] == 0).float(), table[:, 0]], 1)
    chosen = found.teaching.query(images[:HELD], 200)
    found.teaching.teach(images[chosen], wanted[chosen], progress=False)
    figures = interpretability(codes_of(found, images[HELD:]), wanted[HELD:, :1])
    assert figures.dims.tolist() in ([0], [1])  # the column of its own, or the digit's
    assert float(figures.accuracy) > 0.95


def test_the_amortised_mode_recovers_the_layer_nearly_and_says_how_nearly(digits, model, some):
    found = xlens.fit(
        xlens.Classifier(model, layer=LAYER), digits[0][:HELD], "ilvm", side_info=some, mode="amortised",
        flow="planar", layers=4, steps=300, progress=False,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", XlensWarning)
        explanation = found.explain(digits[0][HELD : HELD + 24])
    with torch.no_grad():
        variance = found.classifier.activations(digits[0][HELD:]).var()
    assert 0 < float(explanation.fidelity.mse.mean()) < 0.3 * float(variance)
    assert float(explanation.fidelity.score_gap.max()) > 1e-3


def test_the_unit_of_the_layer_does_not_decide_which_inputs_are_near(digits, some):
    """The same the classifier, with a layer in thousandths: a power of two, so that nothing else changes."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first = nn.Sequential(
            nn.Flatten(), nn.Linear(64, 90), nn.Tanh(), nn.Linear(90, 40), nn.ReLU(), nn.Linear(40, 10)
        )
    second = copy.deepcopy(first)
    with torch.no_grad():
        second[3].weight *= 1024
        second[3].bias *= 1024
        second[5].weight /= 1024
    found = [
        xlens.fit(
            xlens.Classifier(one, layer="3"), digits[0][:HELD], "ilvm", side_info=some, steps=20, layers=1,
            kinds=("single", "measured"), code=8, progress=False,
        ).counterfactual(digits[0][HELD : HELD + 60])
        for one in (first.eval(), second.eval())
    ]  # fmt: skip
    assert torch.equal(*found)
    assert len(found[0].unique(dim=0)) > 1


def test_a_query_does_not_depend_on_where_an_input_lies_in_the_pool(explainer, digits):
    pool = digits[0][:600].clone()
    best = int(explainer.teaching.query(pool, 1, "mutual_information"))
    pool[(best + 300) % 600] = pool[best]  # in another part of those that are looked at together
    assert set(explainer.teaching.query(pool, 2, "mutual_information").tolist()) == {best, (best + 300) % 600}


def test_teaching_that_is_interrupted_changes_nothing(explainer, digits, model, tmp_path):
    explainer.save(tmp_path / "lens")
    again = xlens.load(tmp_path / "lens", model)
    before = {key: value.clone() for key, value in again.lens.state_dict().items()}

    def stop(event):
        if event.step == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        again.teaching.teach(digits[0][:50], digits[2][:50], on_step=stop, progress=False)
    after = again.lens.state_dict()
    torch.testing.assert_close(dict(after), before, rtol=0, atol=0, equal_nan=True)
    assert not any(module.training for module in again.lens.modules())
    assert not any(parameter.requires_grad for parameter in again.lens.parameters())


def test_too_many_dimensions_are_refused_with_what_helps(digits):
    images, labels, _ = digits
    with torch.random.fork_rng():
        torch.manual_seed(0)
        wide = nn.Sequential(nn.Flatten(), nn.Linear(64, 40), nn.Tanh(), nn.Linear(40, 30)).eval()
    layer = xlens.Classifier(wide, layer="1")
    with pytest.raises(OptionError, match="for the classes.*30 dimensions.*set code=30 or more, or pass side_info"):
        xlens.fit(layer, images[:300], "ilvm", code=16, progress=False)
    xlens.fit(layer, images[:300], "ilvm", code=30, steps=2, progress=False)
    side = labels[:300, None].float().repeat(1, 5)
    with pytest.raises(OptionError, match=r"for the side information.*name a wider layer, or give .*'single'"):
        xlens.fit(layer, images[:300], "ilvm", side_info=side, kinds=("classes",) * 5, code=30, progress=False)


class Skipping(nn.Module):
    """A path goes around the layer."""

    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Linear(64, 12), nn.Linear(76, 10)

    def forward(self, inputs):
        flat = inputs.flatten(1)
        return self.head(torch.cat([self.layer(flat), flat], 1))


def test_what_it_cannot_work_on_is_refused(digits, model, explainer):
    images, _, table = digits
    with pytest.raises(OptionError, match="nothing to work on"):
        xlens.fit(model, images[:100], "ilvm")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        skipping = Skipping()
    with pytest.raises(ModelError, match="not decided by the layer 'layer' alone"):
        xlens.fit(xlens.Classifier(skipping, layer="layer"), images[:100], "ilvm", progress=False)
    layer = xlens.Classifier(model, layer=LAYER)
    with pytest.raises(OptionError, match="attributes must be 2 different names"):
        xlens.fit(layer, images, "ilvm", side_info=table, attributes=("a",), progress=False)
    with pytest.raises(OptionError, match="too few dimensions"):
        xlens.fit(layer, images, "ilvm", side_info=table[:, :1].repeat(1, 3), progress=False)
    with pytest.raises(OptionError, match="the code is too narrow"):
        xlens.fit(model, images, "jlvm", side_info=table, code=4, progress=False)
    with pytest.raises(OptionError, match="over is no explainer"):
        xlens.fit(layer, images, "ilvm", over=explainer.lens, progress=False)
    with pytest.warns(XlensWarning, match="exactly 0, as behind a ReLU"):
        xlens.fit(xlens.Classifier(model, layer="7"), images[:200], "ilvm", steps=2, progress=False)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda e, x: e.edit(x, {"ink": 1.0}), "edit: this lens decodes to a hidden layer"),
        (lambda e, x: flip_distance(e, x), "flip_distance: this lens decodes"),
        (lambda e, x: e.traverse(x, (0, 1), [0.0]), "traverse: this lens decodes"),
    ],
)
def test_what_needs_decoded_inputs_is_refused(explainer, digits, ask, message):
    with pytest.raises(UnsupportedError, match=message):
        ask(explainer, digits[0][:1])


def test_options_that_need_decoded_inputs_are_refused_together(explainer, digits):
    with pytest.raises(OptionError, match="'latent_shift' needs.*carry='residual' needs.*path='geodesic' needs"):
        explainer.explain(digits[0][:1], attributions=("latent_shift",), carry="residual", path="geodesic")


def test_other_attributions_have_the_retrieved_input_as_baseline(explainer, digits):
    images = digits[0][HELD : HELD + 3]
    names = ("ig_counterfactual", "idgi", "guided_ig", "ig_ensemble", "integrated_gradients", "occlusion")
    options = {name: {} for name in names} | {"occlusion": {"sliding_window_shapes": (1, 3, 3)}}
    found = explainer.explain(images, attributions=options, references=digits[0][:HELD])
    difference = found.scores - found.counterfactual_scores
    for name in ("ig_counterfactual", "idgi", "guided_ig"):
        torch.testing.assert_close(found.attributions[name].flatten(1).sum(1), difference, rtol=0.02, atol=0.02)
    assert set(found.attributions) == set(names)
    maps = as_quantus(explainer, "lig")(explainer.classifier.model, images.numpy(), found.target.numpy())
    assert maps.shape == images.shape
