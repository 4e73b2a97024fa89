"""What ``xlens fit`` and ``xlens explain`` make of folders, bytes and factories: nothing is taken silently."""

import importlib
import importlib.metadata
import json

import numpy as np
import pytest
import torch
import toys
from command_line import EXPLAIN, FIT, SCALE
from PIL import Image
from safetensors.torch import save_file

import xlens
from xlens import cli
from xlens.cli.classes import as_label, check_order, make_classifier
from xlens.cli.inputs import Preprocessing
from xlens.errors import DataError, OptionError, XlensWarning

quiet = pytest.mark.filterwarnings("ignore::xlens.errors.XlensWarning")


def refused(capsys, arguments, *says):
    assert cli.main(arguments) == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    for part in says:
        assert part in shown
    return shown


@quiet
def test_folders_in_another_order_than_the_classes_are_refused(here, capsys):
    (here / "photos" / "0-none").rename(here / "photos" / "3-none")
    refused(
        capsys,
        [*FIT, "photos", *SCALE],
        "of 30 images, folder by folder, it agrees with 0%",
        "--class-names 3-none 1-bright 2-dark",
    )
    assert cli.main([*FIT, "photos", *SCALE, "--json", "--class-names", "3-none", "1-bright", "2-dark"]) == 0
    assert json.loads(capsys.readouterr().out)["class_names"] == ["3-none", "1-bright", "2-dark"]


def test_an_order_is_refused_where_another_fits_better_and_not_where_f_is_only_weak(trained):
    inputs, labels = toys.pictures(300, seed=8)
    f = xlens.Classifier(trained)
    check_order(f, inputs, labels, ["a", "b", "c"])
    with pytest.raises(DataError, match="--class-names c a b"):
        check_order(f, inputs, (labels - 1) % 3, ["a", "b", "c"])
    # Half of the labels wrong at random: f agrees with the folders on too few, but no other order is better.
    noise = torch.randint(3, (300,), generator=torch.Generator().manual_seed(0))
    half = torch.where(torch.arange(300) % 2 == 0, noise, labels)
    check_order(f, inputs, half, ["a", "b", "c"])
    # Few images prove little.
    check_order(f, inputs[:4], labels[:4], ["a", "b", "c"])
    with pytest.raises(DataError, match="2 folders, 3 classes"):
        check_order(f, inputs, labels.clamp_max(1), ["a", "b"])


def test_no_better_than_chance_is_said(trained):
    inputs, _ = toys.pictures(300, seed=8)
    f = xlens.Classifier(trained)
    with torch.no_grad(), f.frozen():
        predicted = f(inputs).argmax(1)
    # f's predictions are spread evenly over the folders, with what is left over in the wrong ones.
    labels = torch.empty_like(predicted)
    for c in range(3):
        own = (predicted == c).nonzero()[:, 0]
        labels[own] = (torch.arange(len(own)) + c + 1) % 3
    with pytest.warns(XlensWarning, match="no more than chance"):
        check_order(f, inputs, labels, ["a", "b", "c"])


@quiet
def test_unequal_folders_are_looked_at_evenly(trained):
    inputs, labels = toys.pictures(600, seed=9)
    keep = (labels == 0) | (torch.arange(600) < 60)
    swapped = torch.tensor([0, 2, 1])[labels]
    # The two small folders are swapped; the large one alone would hide it.
    with pytest.raises(DataError, match="--class-names a c b"):
        check_order(xlens.Classifier(trained), inputs[keep], swapped[keep], ["a", "b", "c"])


def test_folders_that_would_shift_the_classes_are_refused(here, capsys):
    (here / "photos" / "0-aa").mkdir()
    refused(capsys, [*FIT, "photos", *SCALE], "without images", "0-aa")
    (here / "photos" / "0-aa").rename(here / "photos" / ".hidden")
    Image.new("L", (8, 8)).save(here / "photos" / "stray.png")
    refused(capsys, [*FIT, "photos", *SCALE], "beside the folders", "stray.png")


@pytest.mark.parametrize("option", [["--size", "8"], ["--mode", "grey"], ["--mean", "0.5"], ["--std", "2"]])
def test_preprocessing_of_floats_is_refused(here, capsys, option):
    refused(capsys, [*FIT, "data.npz", *option], f"{option[0]} would do nothing")
    assert cli.main([*FIT, "data.npz"]) == 0
    refused(capsys, [*EXPLAIN, "data.npz", *option], f"{option[0]} would do nothing")


def test_bytes_are_prepared_as_images_are(here, capsys):
    levels = ((np.load("data.npz")["x"] + 3) / 5 * 255).round().astype(np.uint8)
    np.savez("bytes.npz", x=levels)
    assert cli.main([*FIT, "data.npz"]) == 0
    # Floats from -3 to 2: how bytes become that is not known, and is never guessed.
    refused(capsys, [*EXPLAIN, "bytes.npz"], "say --mean and --std")
    assert cli.main([*FIT, "bytes.npz", "--mean", "0.6", "--std", "0.2"]) == 0
    assert "bytes.npz holds bytes, taken for pixels: 8x8 pixels, grey" in capsys.readouterr().err
    kept = Preprocessing.of(xlens.load(here / "lens", toys.Cnn(), strict=False).provenance)
    assert kept == Preprocessing(size=(8, 8), mode="grey", mean=(0.6,), std=(0.2,))
    scores = []
    torch.save(torch.from_numpy((levels[:5] / 255 - 0.6) / 0.2).float(), "floats.pt")
    for name in ("bytes.npz", "floats.pt"):
        assert cli.main([*EXPLAIN, name, "--json"]) == 0
        scores.append([row["score"] for row in json.loads(capsys.readouterr().out)["explanations"]][:5])
    assert scores[0] == pytest.approx(scores[1], abs=1e-3)
    refused(capsys, [*FIT, "bytes.npz", "--size", "4"], "--size would do nothing")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (np.zeros((4, 1, 8, 8), np.int64), "int64"),
        (np.zeros((4, 8, 8, 3), np.uint8), "(4, 8, 8, 3)"),
        (np.zeros((4, 20), np.uint8), "(4, 20)"),
    ],
)
def test_numbers_that_may_mean_anything_are_refused(here, capsys, values, says):
    np.savez("odd.npz", x=values)
    refused(capsys, [*FIT, "odd.npz"], says, "astype('float32')")


def test_floats_outside_of_the_lens_are_said(here, capsys):
    assert cli.main([*FIT, "data.npz"]) == 0
    np.savez("far.npz", x=100 * np.load("data.npz")["x"][:2])
    capsys.readouterr()
    assert cli.main([*EXPLAIN, "far.npz"]) == 0
    assert "outside of what the lens was fitted on, -" in capsys.readouterr().err
    assert cli.main([*EXPLAIN, "data.npz"]) == 0
    assert "outside" not in capsys.readouterr().err


def test_what_a_factory_leaves_open_is_filled(trained):
    own = xlens.Classifier(trained, layer="body.0")
    filled = make_classifier(own, layer=None, outputs=None, class_names=["a", "b", "c"])
    assert (filled.layer, filled.outputs, filled.class_names) == ("body.0", "logits", ("a", "b", "c"))
    bare = make_classifier(trained, layer="body.0", outputs="probabilities", class_names=None)
    assert (bare.layer, bare.outputs, bare.class_names) == ("body.0", "probabilities", None)
    named = xlens.Classifier(trained, layer="body.0", class_names=["x", "y", "z"])
    assert make_classifier(named, layer="body.0", outputs="logits", class_names=["x", "y", "z"]).layer == "body.0"
    with pytest.raises(OptionError, match="--layer says 'body.3'.*--outputs says 'prob.*--class-names says"):
        make_classifier(named, layer="body.3", outputs="probabilities", class_names=["a", "b", "c"])


@quiet
def test_a_factory_of_a_classifier_keeps_what_the_command_line_says(here, capsys, monkeypatch):
    # One that can be fitted on the layer that the factory names.
    svae = importlib.metadata.EntryPoint("svae", "xlens_svae", "xlens")
    monkeypatch.setattr(importlib.import_module("xlens.registry.installed"), "entry_points", lambda: [svae])
    fit = [
        "fit",
        "my_models:with_layer",
        "data.npz",
        "--weights",
        "net.safetensors",
        "--backend",
        "svae",
        "-o",
        "l",
    ]
    fit += ["--option", "steps=2", "--option", "hidden=16"]
    assert cli.main([*fit, "--class-names", "none", "bright", "dark", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["class_names"] == ["none", "bright", "dark"]
    stored = json.loads((here / "l" / "lens.json").read_text())
    assert stored["layer"] == "body.0"
    explain = ["explain", "l", "data.npz", "--model", "my_models:with_layer", "--weights", "net.safetensors"]
    assert cli.main([*explain, "--target", "bright", "--contrast", "none", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["explanations"][0]["target"] == "bright"
    refused(capsys, [*fit, "--outputs", "probabilities"], "--outputs says 'probabilities'")


def test_a_label_or_a_threshold_that_a_factory_leaves_open_is_filled(trained):
    several = xlens.Classifier(trained, outputs="multilabel")
    empty = {"layer": None, "outputs": None, "class_names": None}
    filled = make_classifier(several, **empty, labels=["a", "b", "c"], label="b")
    assert (filled.labels, filled.label, filled.class_names) == (("a", "b", "c"), 1, ("no b", "b"))
    assert make_classifier(filled, **empty, label="b").label == 1
    assert make_classifier(filled, **{**empty, "class_names": ["healthy", "b"]}).class_names == ("healthy", "b")
    with pytest.raises(OptionError, match="--label says 2, the factory's Classifier 1"):
        make_classifier(filled, **empty, label="c")
    graded = xlens.Classifier(trained, outputs="ordinal", threshold=1)
    with pytest.raises(OptionError, match="--threshold says 2"):
        make_classifier(graded, **empty, threshold=2)
    assert [as_label(text, ["a", "7"]) for text in ("a", "7", "2")] == ["a", "7", 2]


@quiet
def test_one_label_of_several_from_the_command_line(here, capsys):
    fit = [*FIT, "data.npz", "-o", "l"]
    said = ["--outputs", "multilabel", "--labels", "none", "bright", "dark"]
    refused(capsys, [*fit, *said], "which of the classifier's independent labels")
    refused(capsys, [*fit, "--label", "1"], "label says nothing of outputs='logits'")
    assert cli.main([*fit, *said, "--label", "bright", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["class_names"] == ["no bright", "bright"]
    explain = ["explain", "l", "data.npz", "--model", "my_models:net", "--weights", "net.safetensors"]
    assert cli.main([*explain, "--target", "bright", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)["explanations"][0]
    assert (row["target"], row["contrast"]) == ("bright", "no bright")
    assert set(row["other_labels"]) == {"none", "dark"}
    assert cli.main([*explain, "--target", "bright"]) == 0
    assert "his label alone: the classifier" in capsys.readouterr().out


@quiet
def test_grades_from_the_command_line(here, capsys):
    fit = [*FIT, "data.npz", "-o", "l"]
    assert cli.main([*fit, "--outputs", "ordinal", "--threshold", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["class_names"] == ["below grade 2", "grade 2 or above"]


def test_what_cannot_be_written_is_said_first(here, capsys):
    # The model does not exist: had it been looked for, that would be the fault.
    explain = ["explain", "lens", "data.npz", "--model", "my_models:missing", "--html"]
    refused(capsys, [*explain, "no/such/why.html"], "no such folder")
    refused(capsys, [*explain, "photos"], "a folder")
    fit = ["fit", "my_models:missing", "data.npz", "--backend", "toy", "-o"]
    refused(capsys, [*fit, "net.safetensors/lens"], "cannot write")
    refused(capsys, [*fit, "lens", "--checkpoints", "net.safetensors"], "cannot write", "--checkpoints")
    refused(capsys, [*fit, "lens", "--option", "strngth=2"], "Did you mean 'strength'?")


@quiet
def test_images_take_the_size_that_the_lens_was_fitted_on(here, capsys):
    assert cli.main([*FIT, "photos", *SCALE]) == 0
    Image.new("L", (30, 20), 90).save(here / "large.png")
    assert cli.main([*EXPLAIN, "large.png", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out.partition("\n")[2])["explanations"]) == 1


@quiet
def test_timm_prepares_images_for_its_models(here, capsys):
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    seen = []

    class Saved(BaseException):
        pass

    for channels in (3, 1):
        model = timm.create_model("resnet10t", num_classes=3, in_chans=channels).eval()
        save_file(model.state_dict(), here / "w.safetensors")
        fit = ["fit", "timm:resnet10t", "photos", "--weights", "w.safetensors", "--backend", "toy", "-o", "lens"]

        def stop(classifier, data, backend, **others):
            seen.append(data[0])
            raise Saved

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("xlens.cli.commands.fit_lens", stop)
            with pytest.raises(Saved):
                cli.main([*fit, "--size", "32", "--class-names", "a", "b", "c"])
            with pytest.raises(Saved):
                cli.main([*fit, "--class-names", "a", "b", "c"])
    said = capsys.readouterr().err
    assert "as timm prepares images for resnet10t: 32x32 pixels, rgb" in said
    assert "mean 0.485 0.456 0.406, std 0.229 0.224 0.225" in said
    assert [tuple(inputs.shape[1:]) for inputs in seen] == [(3, 32, 32), (3, 176, 176), (1, 32, 32), (1, 176, 176)]
    mean, std = (torch.tensor(model.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    grey = (seen[0][0] * std + mean) - seen[2][0]
    assert float(grey.abs().max()) < 1e-5
