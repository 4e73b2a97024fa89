"""The suite where something is missing, comes in another form or is of another kind: it says so, or refuses."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
import toys
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import xlens
from xlens import metrics
from xlens.errors import DataError, ModelError, OptionError
from xlens.evaluation import contenders, judge
from xlens.evaluation.contenders import Asked
from xlens.evaluation.realism import realism
from xlens.evaluation.suite import Suite
from xlens.evaluation.table import interval


@pytest.fixture(scope="module")
def known():
    inputs, labels = toys.pictures(60, seed=5)
    return inputs, labels, toys.patch_of(inputs)


def judged(explainer, data, **options):
    return xlens.evaluate(explainer, data, **{"methods": ("random",), "progress": False, **options})


def said(found, part):
    return [note for note in found.notes if part in note]


class Sure(nn.Module):
    """Sees one class, whatever it is shown."""

    def __init__(self, column, classes=3):
        super().__init__()
        self.column, self.classes = column, classes

    def forward(self, inputs):
        return nn.functional.one_hot(torch.full((len(inputs),), self.column), self.classes).float()


def test_a_judge_that_sees_no_input_positive_says_nothing_of_edits(fitted, known):
    inputs, labels, _ = known
    found = judged(fitted, inputs[labels > 0], oracle={"none": Sure(0), "one": Sure(1)})
    assert said(found, "none: flips is left out")
    with pytest.raises(OptionError, match="no figure 'none: flips'"):
        found.get("none: flips", "toy")
    assert found.get("none: unedited", "toy").value == 1
    # Counted where it sees class 1 before, which it sees after, too.
    assert len(found.get("one: flips", "toy").values) == int((labels == 1).sum())
    assert found.get("one: flips", "toy").value == 0


def test_f_as_its_own_judge_is_named_and_other_classes_are_refused(fitted, known):
    found = judged(fitted, known[0], n=6, oracle={"again": fitted.classifier.model, "other": Sure(1)})
    assert said(found, "again is the classifier itself")
    assert not said(found, "other is the classifier")
    with pytest.raises(OptionError, match="'wide' tells other classes than f.*5 classes.*3"):
        judged(fitted, known[0], oracle={"wide": Sure(0, 5)})


def test_inputs_without_a_cause_do_not_count_for_what_needs_one(fitted, known):
    inputs, labels, masks = known
    clean = torch.where(masks, -0.5, inputs)  # the same image where there is no patch
    judge_of = {"judge": toys.trained_cnn()}
    found = judged(fitted, inputs, masks=masks, clean=clean, oracle=judge_of)
    caused = int((labels > 0).sum())
    for name, who in (("DiffID, true fill", "random"), ("judge: true original", "toy"), ("IoU", "random")):
        assert len(found.get(name, who).values) == caused < len(inputs)
    assert found.get("judge: true original", "toy").value > 0.9
    alone = judged(fitted, inputs[labels > 0], clean=clean[labels > 0], oracle=judge_of)
    assert found.get("judge: true original", "toy").value == alone.get("judge: true original", "toy").value
    empty = judged(fitted, inputs, masks=torch.zeros_like(masks), clean=inputs)
    assert said(empty, "all masks are empty")
    assert said(empty, "no input differs from its clean version")
    assert not {"IoU", "DiffID, true fill"} & set(empty.names)


def test_one_input(fitted, known):
    inputs, _, masks = known
    for data in (inputs[1:2], inputs[1]):
        found = judged(fitted, data, masks=masks[1:2], factors=torch.ones(1, 1), methods=("lig", "random"))
        assert found.count == len(found.index) == 1
        assert found.get("IoU", "toy: lig").value == 1
        assert said(found, "factor 0 is known of 1 rows")
        assert "nan" not in repr(found)


def test_a_loader_gives_what_a_tensor_gives(fitted, known):
    inputs, labels, masks = known
    loader = DataLoader(TensorDataset(inputs, labels), batch_size=16)
    asked = {"masks": masks, "methods": ("lig", "random")}
    before = torch.get_rng_state()
    assert repr(judged(fitted, loader, **asked)) == repr(judged(fitted, inputs, **asked))
    assert repr(judged(fitted, list(inputs.split(7)), **asked)) == repr(judged(fitted, inputs, **asked))
    some, again, other = (judged(fitted, loader, n=9, seed=seed, **asked) for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert repr(some) == repr(again)
    assert not torch.equal(some.index, other.index)
    assert some.index.tolist() == sorted(set(some.index.tolist()))
    assert len(some.index) == 9
    assert some.get("IoU", "toy: lig").value > 0.9  # each with its own mask
    mixed = DataLoader(TensorDataset(inputs, labels), batch_size=16, shuffle=True)
    first = judged(fitted, mixed, n=9)
    with torch.random.fork_rng():
        torch.rand(1)
        assert repr(first) == repr(judged(fitted, mixed, n=9))
    assert torch.equal(before, torch.get_rng_state())
    for beside in ({"masks": masks}, {"clean": inputs}, {"factors": labels[:, None]}, {"target": labels}):
        with pytest.raises(DataError, match="cannot be matched.*shuffles"):
            judged(fitted, mixed, **beside)


class Counting(Dataset):
    """Says how many of its images were read."""

    def __init__(self, inputs):
        self.inputs, self.read = inputs, 0

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, i):
        self.read += 1
        return self.inputs[i]


def test_only_the_inputs_that_are_explained_are_read(fitted, known):
    data = Counting(known[0])
    found = judged(fitted, data, n=5)
    assert data.read == 5
    assert torch.equal(found.index, judged(fitted, known[0], n=5).index)


def test_classes_and_masks_belong_to_the_inputs_that_were_drawn(fitted, known):
    inputs, labels, masks = known
    contrast = (labels + 1) % 3
    found = judged(fitted, inputs, target=labels, contrast=contrast, n=20)
    some = found.index
    alone = judged(fitted, inputs[some], target=labels[some], contrast=contrast[some])
    assert found.get("score gap", "toy").values.tolist() == alone.get("score gap", "toy").values.tolist()
    assert found.get("flips", "toy").value == alone.get("flips", "toy").value > 0.9
    for wrong in (torch.cat([masks[:1], masks]), masks[:59]):
        with pytest.raises(DataError, match="a row for each of the 60"):
            judged(fitted, inputs, masks=wrong, n=10)
    with pytest.raises(DataError, match="target does not fit"):
        judged(fitted, inputs, target=labels[:20], n=20)


def test_what_is_not_finite_or_no_number_is_refused_before_anything_is_explained(fitted, known, monkeypatch):
    inputs, _, masks = known
    monkeypatch.setattr(judge, "explain", lambda *_, **__: pytest.fail("explained all the same"))
    with pytest.raises(DataError, match="clean is not finite"):
        judged(fitted, inputs, clean=inputs * torch.nan)
    with pytest.raises(DataError, match="masks is not finite"):
        judged(fitted, inputs, masks=torch.where(masks, torch.nan, 0.0))
    with pytest.raises(DataError, match="factors is no table of numbers"):
        judged(fitted, inputs, factors=[["a"]] * 60)
    with pytest.raises(OptionError, match="n must be.*carry must be"):
        judged(fitted, inputs, n=0, carry="bogus")
    bright = inputs[toys.pictures(60, seed=5)[1] == 1]
    with pytest.raises(OptionError, match="references hold none of a contrast class.*class [02]"):
        judged(fitted, inputs, references=bright, methods=("lig", "integrated_gradients:nearest"))
    for name in ("random", "integrated_gradients:mean"):
        with pytest.raises(OptionError, match=f"'{name}' would be the name of two things"):
            judged({name: fitted}, inputs, methods=("integrated_gradients:mean", "random"))


def test_factors_that_say_nothing_here_are_left_out_by_name(fitted, known):
    inputs, labels, _ = known
    bright = inputs.amax((1, 2, 3)) > 1
    place = torch.where(labels > 0, inputs.flatten(1).abs().argmax(1) % 8, torch.nan)  # known of patches alone
    table = torch.stack([bright.float(), torch.ones(60), place, torch.full((60,), torch.nan)], 1)
    found = judged(fitted, inputs, factors=table)
    assert said(found, "factor 1 is constant")
    assert said(found, "factor 3 is known of 0 rows")
    assert not said(found, "factor 0")
    assert not said(found, "factor 2")
    alone = judged(fitted, inputs, factors=table[:, [0, 2]])
    for name in ("MIG", "SAP", "DCI completeness", "interpretability"):
        assert found.get(name, "toy").value == alone.get(name, "toy").value


def test_data_that_come_class_by_class_are_held_out_at_random(fitted):
    """The last quarter of sorted rows would hold values that the first three never had."""
    inputs = torch.linspace(-1, 0, 120)[:, None, None, None].expand(120, 1, 8, 8).clone()
    found = judged(fitted, inputs, factors=inputs[:, 0, 0, :1])
    assert found.get("DCI informativeness", "toy").value > 0.95
    # Each dimension of the code is the factor, so that it tells all, and no other tells less.
    assert found.get("interpretability", "toy").value > 0.8
    assert found.get("MIG", "toy").value == pytest.approx(0, abs=1e-6)


@pytest.fixture(scope="module")
def tens():
    """A network for ten digits given as vectors, their images and classes."""
    from xlens.datasets import train_classifier

    digits = load_digits()
    order = torch.randperm(len(digits.data), generator=torch.Generator().manual_seed(0))
    inputs, labels = (torch.as_tensor(part)[order] for part in (digits.data, digits.target))
    inputs = (inputs / 16).float()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 10))
        train_classifier(model, inputs[:1200], labels[:1200], steps=300, progress=False)
    return model, inputs, labels


@pytest.fixture(scope="module")
def on_layer(tens):
    model, inputs, _ = tens
    return xlens.fit(xlens.Classifier(model, layer="0"), inputs[:600], "ilvm", steps=60, progress=False)


def test_a_lens_on_a_layer_beside_one_on_inputs(tens, on_layer):
    model, inputs, labels = tens
    below = xlens.fit(model, inputs[:600], toys.Plain(), progress=False)
    factors = torch.stack([labels[1200:].float(), inputs[1200:].mean(1)], 1)
    found = xlens.evaluate(
        {"inputs": below, "layer": on_layer}, inputs[1200:], references=inputs[:900], factors=factors, n=120,
        methods=("lig", "ig_ensemble", "integrated_gradients:nearest", "random"), restarts=2, progress=False,
    )  # fmt: skip
    assert found.get("agrees", "layer").value == found.get("flips", "layer").value == 1
    assert found.get("DiffID", "layer: lig").low > found.get("DiffID", "random").high
    assert found.get("trustworthy, the classifier shuffled", "layer").value < 0.2
    assert said(found, "'layer' decodes to '0': its MSE and SSIM are of activations")
    assert not said(found, "'inputs' decodes")
    assert "nan" not in repr(found)
    assert len(found.plot().axes) >= 8
    with pytest.raises(OptionError, match="around another classifier"):
        xlens.evaluate([below, xlens.fit(nn.Linear(64, 10), inputs[:600], toys.Plain(), progress=False)], inputs)


def test_influence_in_a_layer_goes_through_what_follows_it():
    """Also where activations have the shape of inputs, which the classifier would take as well."""
    torch.manual_seed(0)
    model, inputs = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 2)), torch.randn(120, 6)
    with torch.no_grad():
        model[2].bias -= model(inputs).mean(0)
    explainer = xlens.fit(xlens.Classifier(model, layer="1"), inputs, "ilvm", steps=30, progress=False)
    found = judged(explainer, inputs)
    with torch.no_grad(), explainer.classifier.frozen():
        expected = metrics.causal_influence(
            model[2], explainer.lens.decode, explainer.lens.encode(inputs),
            [feature.dims for feature in explainer.features], values=16, others=32,
        )  # fmt: skip
    for feature, value in zip(explainer.features, expected.tolist(), strict=True):
        assert found.get(f"influence of {feature.name}", "ilvm").value == pytest.approx(value, rel=1e-3)
    assert expected.max() > 1e-3


def test_what_a_lens_on_a_layer_cannot_do_is_refused_by_its_name(on_layer, tens, monkeypatch):
    monkeypatch.setattr(judge, "explain", lambda *_, **__: pytest.fail("explained all the same"))
    with pytest.raises(OptionError, match="'deep': carry='residual' needs a lens that decodes to inputs"):
        judged({"deep": on_layer}, tens[1][:8], carry="residual")
    with pytest.raises(OptionError, match="'deep': attribution 'lig_paper' needs"):
        judged({"deep": on_layer}, tens[1][:8], methods=("lig_paper",))


def test_a_lens_over_another_one(tens):
    model, inputs, labels = tens
    below = xlens.fit(model, inputs[:600], "svae", steps=60, progress=False)
    over = xlens.fit(
        model, inputs[:600], "ilvm", over=below, side_info=labels[:600, None].float(), steps=40, progress=False
    )
    found = judged([below, over], inputs[1200:], n=40, methods=("lig",))
    assert found.contenders == ("svae", "svae: lig", "ilvm", "ilvm: lig")
    # What they decode to is the same; where they lead is not.
    assert found.get("MSE", "svae").value == pytest.approx(found.get("MSE", "ilvm").value, rel=1e-2)
    assert found.get("L1", "svae").value != found.get("L1", "ilvm").value
    assert found.get("trustworthy, the classifier shuffled", "ilvm").value < 0.3


def test_realism_has_the_shares_of_classes_that_the_edits_have(tens, on_layer):
    """Edits that are other real inputs, most of them of one class, beside references that hold as many of each."""
    model, inputs, _ = tens
    with torch.no_grad():
        classes = model(inputs).argmax(1)
    fresh = torch.arange(len(inputs)) >= 900
    edits = torch.cat([((classes == c) & fresh).nonzero()[:n, 0] for c, n in ((1, 70), (7, 14), (4, 7))])
    asked = Asked(
        on_layer.classifier, on_layer.spec, inputs[edits], torch.zeros(len(edits)).long(), classes[edits],
        references=(inputs[:900], classes[:900]), clean=None, seed=0,
    )  # fmt: skip
    suite = Suite(asked, None, {}, 0.0, 0.05, 10)
    found = {score.name: float(score.values) for score in realism(suite, inputs[edits])}
    assert found["sFID"] < 1.5 * found["sFID, references"]
    assert "which makes it too large" in suite.notes[0]
    wrong = {score.name: float(score.values) for score in realism(suite, inputs[edits] + 0.1)}
    assert wrong["sFID"] > 2 * found["sFID"]
    assert wrong["sFID, references"] == found["sFID, references"]


def test_realism_without_references_is_read_beside_unedited_inputs(tens, on_layer):
    _, inputs, _ = tens
    found = judged(on_layer, inputs[1200:])
    assert 0 < found.get("sFID, unedited", "ilvm").value < found.get("sFID", "ilvm").value
    assert said(judged(on_layer, inputs[:20]), "sFID is left out")


def test_the_usual_methods_are_those_of_an_honest_table(fitted, known, tens, on_layer, monkeypatch):
    found = xlens.evaluate(fitted, known[0][:8], references=DataLoader(known[0], batch_size=9), progress=False)
    for name in ("layer_grad_cam", "integrated_gradients:nearest", "occlusion:mean", "random", "toy: lig"):
        assert name in found.maps
    plain = xlens.evaluate(on_layer, tens[1][:8], progress=False)
    assert not {"layer_grad_cam", "integrated_gradients:nearest"} & set(plain.maps)
    with monkeypatch.context() as patched:
        patched.setattr(type(on_layer), "explain", lambda *_, **__: pytest.fail("explained all the same"))
        with pytest.raises(ModelError, match="no convolution"):
            judged(on_layer, tens[1][:8], methods=("lig", "layer_grad_cam"))


def test_nothing_is_kept_or_computed_again_that_need_not_be(fitted, known, monkeypatch):
    inputs = known[0].repeat(3, 1, 1, 1)
    kept, shuffled, drawn = [], [], []
    join, edges = judge.join, contenders.CONTROLS["edges"]

    def keep(parts):
        kept.extend(parts)
        return join(parts)

    def shuffle(model, seed):
        shuffled.append(model)
        return metrics.shuffled_weights(model, seed=seed)

    def draw(images, seed):
        drawn.append(len(images))
        return edges(images, seed)

    monkeypatch.setattr(judge, "join", keep)
    monkeypatch.setattr(judge, "shuffled_weights", shuffle)
    monkeypatch.setitem(contenders.CONTROLS, "edges", draw)
    judged(fitted, inputs, methods=("lig", "saliency", "input_x_gradient", "edges"))
    assert len(kept) == 3
    for part in kept:
        assert part.path.numel() == 0
        assert part.reconstruction is part.edit is part.mask is None
        assert set(part.attributions) == {"lig"}
    assert len(shuffled) == 1
    assert drawn == [180]


def test_intervals_of_many_inputs_take_little_memory():
    values = torch.rand(20_000, generator=torch.Generator().manual_seed(0))
    interval(values[:10], 0.95, 0)
    tracemalloc.start()
    low, high = interval(values, 0.95, 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 150e6  # all resamples at once are 320 MB of positions alone
    deviation = float(values.double().std()) / np.sqrt(20_000)
    assert (high - low) / (2 * 1.96 * deviation) == pytest.approx(1, abs=0.1)
