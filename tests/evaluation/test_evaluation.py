"""The suite on a world whose answers are known: what is right is at the top, what says nothing at the bottom."""

from __future__ import annotations

import copy
import json
import math
import sys

import numpy as np
import pytest
import scipy.stats
import torch
import toys
from guard import unchanged
from safetensors.torch import save_file

import xlens
from xlens import cli, metrics
from xlens.errors import DataError, OptionError, UnsupportedError
from xlens.evaluation.contenders import blurred
from xlens.testing.state import differing, model_state

METHODS = (
    "lig", "ig_counterfactual", "integrated_gradients:black", "integrated_gradients:nearest", "saliency",
    "layer_grad_cam", "occlusion:mean", "random", "edges", "constant",
)  # fmt: skip
NOTHING = ("random", "edges", "constant")


@pytest.fixture(scope="module")
def known():
    """Pictures with a patch, where it is, and what they were without."""
    inputs, labels = toys.pictures(150, seed=5)
    inputs = inputs[labels > 0]
    masks = toys.patch_of(inputs)
    return inputs, masks, torch.where(masks, -0.5, inputs)


@pytest.fixture(scope="module")
def found(fitted, known):
    inputs, masks, clean = known
    with unchanged(fitted.classifier.model):
        return xlens.evaluate(
            {"good": fitted, "blind": toys.explainer_with(toys.BlindLens(), fitted)},
            inputs,
            masks=masks,
            clean=clean,
            oracle={"judge": toys.trained_cnn()},
            references=toys.pictures(90, seed=8)[0],
            methods=METHODS,
            n=60,
            smoothing=1.0,
            progress=False,
        )


def test_a_lens_that_is_right_is_ahead_of_what_says_nothing(found):
    for name, sign in {
        "pointing": 1, "IoU": 1, "mass": 1, "rank": 1, "deletion": -1, "insertion": 1, "DiffID": 1, "drop": 1,
        "sparseness": 1, "DiffID, true fill": 1, "IoU, smoothed": 1, "pointing, smoothed": 1,
    }.items():  # fmt: skip
        # The patch is where this world has its edges, so that an edge detector is no fool here.
        for nothing in ("random", "constant") if name in ("insertion", "deletion") else NOTHING:
            ahead = found.compare(name, "good: lig", nothing)
            assert min(sign * ahead.low, sign * ahead.high) > 0, (name, nothing, ahead)


def test_a_lens_that_is_wrong_is_found_out(found):
    for name in ("agrees", "trustworthy", "SSIM"):
        assert found.get(name, "good").value > found.get(name, "blind").value + 0.2
    assert found.get("MSE", "good").value < found.get("MSE", "blind").value / 10


def test_a_classifier_of_shuffled_labels_is_explained_beside_it(found, fitted, known):
    """Against gradients and ranks written out; and the classifier itself in its place, whose maps are the same."""
    own, images = fitted.classifier.model, known[0][:20]
    other = metrics.shuffled_weights(own, seed=3)

    def evaluated(model):
        return xlens.evaluate(
            fitted, images, methods=("lig", "saliency", "constant"), relabelled=model, progress=False
        )

    by_other, by_own = evaluated(other), evaluated(own)
    lens = by_own.contenders[0]
    for contender in (f"{lens}: lig", "saliency", "constant"):
        assert by_own.get("relabelled", contender).value == pytest.approx(1, abs=1e-6)
    assert by_other.get("relabelled", "constant").value == 1
    asked = fitted.explain(images)
    maps = []
    for model in (own, other):
        x = images.clone().requires_grad_()
        # As it is asked: without dropout.
        logits = copy.deepcopy(model).eval()(x)
        margin = logits.gather(1, asked.target[:, None]) - logits.gather(1, asked.contrast[:, None])
        maps.append(torch.autograd.grad(margin.sum(), x)[0].abs().sum(1).flatten(1))
    alike = [scipy.stats.spearmanr(one, two).statistic for one, two in zip(*maps, strict=True)]
    assert by_other.get("relabelled", "saliency").value == pytest.approx(np.mean(alike), abs=1e-5)
    with pytest.raises(OptionError, match="there is no figure 'relabelled'"):
        found.get("relabelled", "saliency")
    with pytest.raises(OptionError, match="'relabelled' tells other classes"):
        evaluated(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(images[0].numel(), 7)))


def test_maps_that_do_not_look_at_f_do_not_change_with_its_weights(found, fitted, known):
    for nothing in NOTHING:
        assert found.get("randomised", nothing).value == 1
    assert found.get("randomised", "saliency").value < 0.5
    # A lens keeps its edit, and so the support of its map; it has to say itself that this no longer holds.
    assert found.get("trustworthy", "good").value > 0.95
    assert found.get("trustworthy, the classifier shuffled", "good").value < 0.4


def other_classifier(explainer, model):
    """Return the record of a lens that is asked about another classifier than its own."""
    return explainer.fitted.around(explainer.classifier.around(model))


def test_a_lens_around_shuffled_weights_fails(fitted, trained, known):
    inputs, masks, _ = known
    state = model_state(trained)
    other = other_classifier(fitted, metrics.shuffled_weights(fitted.classifier.model, seed=1))
    with torch.no_grad(), fitted.classifier.frozen():
        target = fitted.classifier(inputs).argmax(1)
    arguments = {"target": target, "contrast": 0, "masks": masks, "methods": ("lig", "saliency"), "progress": False}
    good = xlens.evaluate(fitted, inputs, **arguments)
    shuffled = xlens.evaluate(other, inputs, **arguments)
    for name, who in (("flips", "toy"), ("trustworthy", "toy"), ("DiffID", "toy: lig"), ("pointing", "saliency")):
        assert good.get(name, who).low > shuffled.get(name, who).high, name
    # The mask asks the classifier that it was fitted around, which is the user's, in training mode here.
    assert trained.training
    assert not differing(state, model_state(trained))


def test_figures_are_those_of_the_metrics(found, fitted, known):
    inputs, masks, clean = (part[found.index] for part in known)
    explanation = fitted.explain(inputs, attributions=("lig",))
    maps = explanation.attributions["lig"]
    assert torch.allclose(found.get("IoU", "good: lig").values, metrics.mask_iou(maps, masks).double(), atol=1e-3)
    explained = (fitted.classifier, inputs, maps, explanation.target)
    with torch.no_grad(), fitted.classifier.frozen():
        for label, fill in ((", true fill", clean), (", own fill", explanation.counterfactual)):
            exchanged = metrics.diff_id(*explained, fill)
            assert found.get("DiffID" + label, "good: lig").value == pytest.approx(
                float(exchanged.mean()), abs=0.02
            )
    smooth = blurred(maps.sum(1, keepdim=True), 1.0)
    expected = metrics.mask_iou(smooth, masks).double()
    assert (found.get("IoU, smoothed", "good: lig").values - expected).abs().mean() < 0.02
    # Edits go as far as f flips and no further, so that rounding may decide one of them.
    flips = float(explanation.fidelity.flips.float().mean())
    assert found.get("flips", "good").value == pytest.approx(flips, abs=0.04)
    judge = toys.trained_cnn().eval()
    asked = metrics.oracle_validity(
        judge, inputs, explanation.counterfactual, explanation.target, explanation.contrast
    )
    assert found.get("judge: flips", "good").value == pytest.approx(asked.share, abs=0.04)
    assert found.get("judge: unedited", "good").value == pytest.approx(asked.unedited_share)
    with torch.no_grad():
        truly = (judge(clean).argmax(1) == explanation.contrast)[asked.counted].float().mean()
    assert found.get("judge: true original", "good").value == pytest.approx(float(truly))


def test_intervals_are_scipys_and_differences_are_paired(found):
    one, other = found.get("IoU", "saliency"), found.get("IoU", "random")
    expected = scipy.stats.bootstrap(
        (one.values.numpy(),), np.mean, n_resamples=1999, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    assert (one.low, one.high) == (expected.low, expected.high)
    ahead = found.compare("IoU", "saliency", "random")
    assert ahead.value == pytest.approx(float((one.values - other.values).mean()))
    assert ahead.low < ahead.value < ahead.high
    nothing = found.compare("IoU", "saliency", "saliency")
    assert (nothing.low, nothing.value, nothing.high) == (0, 0, 0)


def test_it_is_seeded_and_what_needs_no_lens_is_there_once(found, fitted, known):
    assert found.contenders.count("saliency") == 1
    assert {"good: lig", "blind: lig"} <= set(found.contenders)
    assert len(found.index) == found.count == 60
    arguments = {"methods": ("lig", "random"), "n": 10, "progress": False}
    first, again, other = (xlens.evaluate(fitted, known[0], seed=s, **arguments) for s in (1, 1, 2))
    assert repr(first) == repr(again)
    assert not torch.equal(first.index, other.index)


def test_tables_pictures_and_frames(found, monkeypatch):
    text = found.to_markdown()
    assert "| saliency |" in text
    assert "| flips ↑ |" in text
    assert repr(found) == text == found._repr_markdown_()
    frame = found.to_dataframe()
    assert len(frame) == len(found.figures)
    assert set(frame["contender"]) == set(found.contenders)
    assert not frame["value"].isna().any()
    json.dumps(found.records())
    assert len(found.plot().axes) >= 10
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UnsupportedError, match="pandas is not installed"):
        found.to_dataframe()


def test_codes_are_judged_by_known_factors(fitted, known):
    inputs, _, _ = known
    factors = torch.stack([inputs.mean((1, 2, 3)), (inputs.amax((1, 2, 3)) > 1).float()], 1)
    found = xlens.evaluate(fitted, inputs, factors=factors, methods=(), progress=False)
    assert found.get("DCI informativeness", "toy").value > 0.5
    # Computed with 100 values and 400 draws of everything else, among which there is a patch already.
    for part, known in (("background", 0.109), ("bright", 0.0175), ("dark", 0.052)):
        assert found.get(f"influence of {part}", "toy").value == pytest.approx(known, abs=0.03)
    assert 0 <= found.get("MIG", "toy").value <= 1
    assert "methods" not in found.to_markdown()


def test_an_ensemble_is_not_asked_of_another_f(fitted, known):
    references = toys.pictures(60, seed=8)[0]
    asked = {"methods": ("lig", "ig_ensemble"), "references": references, "n": 8, "progress": False}
    found = xlens.evaluate(fitted, known[0], **asked)
    assert found.get("DiffID", "toy: ig_ensemble").value > 0
    with pytest.raises(OptionError, match="has no figure 'randomised'"):
        found.get("randomised", "toy: ig_ensemble")
    assert any("randomised: not of 'ig_ensemble'" in note for note in found.notes)


class Searching(toys.ToyLens):
    """Finds the code of an input, or one beside it that depends on the start."""

    def __init__(self, spread):
        super().__init__()
        self.spread = spread

    def invert(self, inputs, *, steps, restarts, generator):
        codes = self.encode(inputs)
        return codes + self.spread * torch.randn(restarts, *codes.shape, generator=generator)


def test_restarts_of_a_search(fitted, known):
    lenses = {name: toys.explainer_with(Searching(spread), fitted) for name, spread in (("sure", 0), ("lost", 1.0))}
    asked = {"methods": (), "n": 8, "restarts": 3, "progress": False}
    found = xlens.evaluate({**lenses, "toy": fitted}, known[0], **asked)
    for name in ("restarts: cosine of codes", "restarts: SSIM of images"):
        assert found.get(name, "sure").value == pytest.approx(1, abs=1e-5)
        assert found.get(name, "lost").value < 0.8
    assert any("'toy' cannot search" in note for note in found.notes)


def test_vectors():
    torch.manual_seed(0)
    model = torch.nn.Linear(6, 2)
    inputs = torch.randn(80, 6)
    explainer = xlens.fit(model, inputs, toys.Plain(), progress=False)
    methods = ("lig", "integrated_gradients:mean", "random", "constant")
    found = xlens.evaluate(explainer, inputs, methods=methods, masks=torch.ones(80, 6) > 0, n=40, progress=False)
    assert found.get("DiffID", "plain: lig").value > found.get("DiffID", "random").value
    assert found.get("pointing", "random").value == 1


def test_faults_come_together_and_say_what_to_do(fitted, known):
    inputs, masks, _ = known
    with pytest.raises(OptionError) as fault:
        xlens.evaluate(
            fitted, inputs, n=0, confidence=1, restarts=1,
            methods=("lgi", "saliency:black", "integrated_gradients:blck", "integrated_gradients:nearest",
                     "random:mean", "integrated_gradients:clean"),
        )  # fmt: skip
    said = str(fault.value)
    parts = (
        "Did you mean 'lig'",
        "'saliency' takes no baseline",
        "Did you mean 'black'",
        "needs references=",
        "needs clean=",
        "'random:mean' takes no options",
        "n must be",
        "confidence",
        "restarts must be",
    )
    for part in parts:
        assert part in said, part
    for wrong in ({"masks": masks[:3]}, {"masks": masks.expand(-1, 2, -1, -1)}, {"clean": inputs[:, :, :4]}):
        with pytest.raises(DataError, match="does not fit"):
            xlens.evaluate(fitted, inputs, progress=False, **wrong)
    with pytest.raises(OptionError, match="explainers cannot be judged"):
        xlens.evaluate([], inputs)
    with pytest.raises(OptionError, match="oracle is no classifier"):
        xlens.evaluate(fitted, inputs, oracle=3)
    with pytest.raises(OptionError, match="around another classifier"):
        other = other_classifier(fitted, metrics.shuffled_weights(fitted.classifier.model))
        xlens.evaluate({"a": fitted, "b": other}, inputs)
    small = xlens.evaluate(fitted, inputs, n=4, methods=("random",), progress=False)
    with pytest.raises(OptionError, match="Did you mean 'DiffID'"):
        small.get("diffid", "random")
    with pytest.raises(OptionError, match="has no figure 'agrees'"):
        small.get("agrees", "random")
    with pytest.raises(OptionError, match="cannot be paired"):
        small.compare("influence of bright", "toy", "toy")


def test_blur_against_scipy(known):
    from scipy.ndimage import gaussian_filter

    expected = gaussian_filter(known[0][0, 0].numpy(), 1.0, mode="nearest", truncate=3.0)
    assert np.allclose(blurred(known[0][:1], 1.0)[0, 0].numpy(), expected, atol=1e-5)


@pytest.mark.filterwarnings("ignore::xlens.errors.XlensWarning")
def test_from_the_command_line(tmp_path, monkeypatch, capsys, trained, fitted, toy_installed):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "toy_nets.py").write_text("import toys\n\ndef net():\n    return toys.Cnn()\n")
    save_file({key: value.clone() for key, value in trained.state_dict().items()}, "net.safetensors")
    fitted.save("lens")
    fitted.save("more/lens")
    inputs, _ = toys.pictures(30, seed=5)
    np.savez("data.npz", x=inputs.numpy())
    np.save("masks.npy", toys.patch_of(inputs).numpy())
    asked = ["evaluate", "lens", "data.npz", "--model", "toy_nets:net", "--weights", "net.safetensors"]
    asked += ["--oracle", "toy_nets:net", "--oracle-weights", "net.safetensors"]
    assert cli.main([*asked, "--masks", "masks.npy", "--also", "more/lens", "--plot", "a.png", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["inputs"] == 30
    names = {row["contender"] for row in facts["figures"]}
    assert {"lens", "more/lens", "lens: lig", "more/lens: lig", "random"} <= names
    assert all(math.isfinite(row["value"]) for row in facts["figures"])
    assert (tmp_path / "a.png").stat().st_size > 5000
    assert cli.main([*asked, "--method", "random", "-n", "5"]) == 0
    assert "| random |" in capsys.readouterr().out
    more = ["--method", "lig", "integrated_gradients:nearest", "--references", "data.npz", "--carry", "none"]
    assert cli.main([*asked, *more, "-n", "5", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert {"integrated_gradients:nearest", "lens: lig"} <= {row["contender"] for row in facts["figures"]}
    assert any("oracle is the classifier itself" in note for note in facts["notes"])
    assert cli.main([*asked, "--method", "randm"]) == 2
    assert "Did you mean 'random'?" in capsys.readouterr().err
