"""``xlens fit`` and ``xlens explain``, as somebody types them."""

import csv
import importlib.metadata
import json
import pickle
import subprocess
import sys
import zipfile
from importlib import import_module

import numpy as np
import pytest
import torch
import toys
from command_line import EXPLAIN, FIT, SCALE
from pages import data_of
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from xlens import cli
from xlens.cli.arrays import read_array
from xlens.cli.inputs import Preprocessing, read_images
from xlens.cli.models import load_model
from xlens.cli.weights import read_weights
from xlens.errors import DataError, ModelError, OptionError, StorageError


@pytest.mark.filterwarnings("ignore::xlens.errors.XlensWarning")
def test_from_a_folder_of_images_to_a_report(here, capsys):
    assert cli.main([*FIT, "photos", *SCALE, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["class_names"] == ["0-none", "1-bright", "2-dark"]
    assert (facts["inputs"], facts["shape"]) == (30, [1, 8, 8])
    assert json.loads((here / "lens" / "lens.json").read_text())["preprocessing"]["mean"] == [0.6]

    image = sorted((here / "photos" / "1-bright").iterdir())[0]
    assert (
        cli.main([*EXPLAIN, str(image), "photos/2-dark", "--html", "why.html", "--csv", "why.csv", "--json"]) == 0
    )
    rows = json.loads(capsys.readouterr().out)["explanations"]
    assert len(rows) == 11
    assert rows[0]["input"] == str(image)
    assert rows[0]["target"] == "1-bright"
    assert rows[0]["contrast"] == "0-none"
    with (here / "why.csv").open(newline="") as file:
        assert [row["input"] for row in csv.DictReader(file)] == [row["input"] for row in rows]
    data = data_of((here / "why.html").read_text())
    assert [item["name"] for item in data["items"]] == [row["input"] for row in rows]
    assert [item["score"] for item in data["items"]] == pytest.approx([row["score"] for row in rows], abs=1e-2)
    # The image came back as it was: prepared for the lens, and drawn in its natural range.
    assert {one["feature"] for one in data["items"][0]["traversals"]} == {"bright", "dark"}


@pytest.mark.filterwarnings("ignore::xlens.errors.XlensWarning")
def test_arrays_classes_and_exit_codes(here, capsys):
    assert cli.main([*FIT, "data.npz", "--option", "kind=sloppy", "--option", "strength=2"]) == 0
    assert "saved in lens" in capsys.readouterr().out
    stored = json.loads((here / "lens" / "lens.json").read_text())
    assert stored["preprocessing"] is None
    assert stored["options"] == {"kind": "sloppy", "strength": 2}
    assert "my_models" not in json.dumps(stored)  # which code to run is not in the file

    torch.save(toys.pictures(4, seed=5)[0], here / "four.pt")
    assert cli.main([*EXPLAIN, "four.pt", "--target", "1", "--contrast", "class 2"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("class 1 not class 2") == 4
    holds = "DO NOT TRUST" not in shown
    assert cli.main([*EXPLAIN, "four.pt", "--target", "1", "--contrast", "2", "--strict"]) == (0 if holds else 1)
    assert not holds


def test_images_need_their_preprocessing(here, capsys):
    assert cli.main([*FIT, "data.npz"]) == 0
    assert cli.main([*EXPLAIN, "photos/1-bright"]) == 2
    assert "say --mean and --std" in capsys.readouterr().err
    assert cli.main([*EXPLAIN, "photos/1-bright", "--mean", "0.6", "--std", "0.2"]) == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([*FIT, "missing"], "no such data"),
        ([*FIT, "data.npz", "--option", "strngth=2"], "Did you mean 'strength'?"),
        ([*FIT, "data.npz", "--option", "steps"], "not NAME=VALUE"),
        (["fit", "my_models:nte", "data.npz", "--backend", "toy", "-o", "lens"], "Did you mean 'net'?"),
        (["fit", "my_models", "data.npz", "--backend", "toy", "-o", "lens"], "package.module:factory"),
        (["fit", "no_such_module:net", "data.npz", "--backend", "toy", "-o", "lens"], "cannot import"),
        (["fit", "my_models:fails", "data.npz", "--backend", "toy", "-o", "lens"], "no such checkpoint"),
        (["fit", "my_models:number", "data.npz", "--backend", "toy", "-o", "lens"], "gives no model"),
        (["fit", "timm:resnet18", "data.npz", "--backend", "toy", "-o", "lens"], "would be untrained"),
        (["fit", "timm:resnet81", "data.npz", "--backend", "toy", "-o", "lens"], "Did you mean 'resnet18'?"),
        ([*FIT, "photos", "--mean", "0.5", "0.5"], "mean must be 1 or 3 numbers"),
        ([*FIT[:-1], "net.safetensors/lens", "data.npz"], "cannot write"),
        ([*FIT, "data.npz", "--backend", "tyo"], "no backend 'tyo'"),
        (["explain", "lens", "data.npz", "--model", "my_models:net"], "no saved lens here"),
    ],
)
def test_faults_are_one_line_with_what_to_do(here, capsys, arguments, says):
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("xlens: ")
    assert captured.err.count("\n") == 1
    assert says in captured.err


def test_another_model_is_refused(here, capsys):
    assert cli.main([*FIT, "data.npz"]) == 0
    assert cli.main(["explain", "lens", "data.npz", "--model", "my_models:net"]) == 2
    assert "fitted around another classifier" in capsys.readouterr().err


def test_help_has_examples_and_does_not_load_torch():
    code = (
        "import sys; from xlens import cli\n"
        "try: cli.main(['fit', '--help'])\n"
        "except SystemExit: print('torch' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "xlens fit timm:resnet18 photos/ --weights" in shown
    assert shown.splitlines()[-1] == "False"


def test_a_model_is_imported_with_its_weights(here, trained):
    model = load_model("my_models:net", here / "net.safetensors")
    assert not model.training
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), trained.parameters(), strict=True))
    assert load_model("my_models:probabilities", None).outputs == "probabilities"
    save_file({"a": torch.zeros(1)}, here / "other.safetensors")
    with pytest.raises(ModelError, match="weights do not fit"):
        load_model("my_models:net", here / "other.safetensors")


def test_a_timm_model_takes_its_shape_from_its_weights(tmp_path):
    timm = pytest.importorskip("timm")
    made = timm.create_model("resnet10t", num_classes=3, in_chans=1).eval()
    save_file(made.state_dict(), tmp_path / "w.safetensors")
    model = load_model("timm:resnet10t", tmp_path / "w.safetensors")
    inputs = torch.rand(2, 1, 32, 32)
    assert torch.equal(model(inputs), made(inputs))
    save_file({"head.bias": torch.zeros(3)}, tmp_path / "x.safetensors")
    with pytest.raises(ModelError, match=r"have no classifier of timm:resnet10t.*fc\.weight"):
        load_model("timm:resnet10t", tmp_path / "x.safetensors")


def test_weights_of_an_export_before_torch_2_8_are_refused_in_words(tmp_path):
    with zipfile.ZipFile(tmp_path / "net.pt2", "w") as archive:
        archive.writestr("serialized_state_dict.json", b"{}")
    with pytest.raises(StorageError, match="holds no weights.*torch 2.8 or newer, or as .safetensors"):
        read_weights(tmp_path / "net.pt2")


@pytest.mark.skipif(torch.__version__ < (2, 8), reason="torch.export puts weights where they are read from 2.8 on")
def test_exported_weights_are_read_without_the_graph(tmp_path):
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 2)).eval()
    net[0].weight = nn.Parameter(net[0].weight.detach().permute(0, 1, 3, 2))  # not contiguous
    torch.export.save(torch.export.export(net, (torch.zeros(1, 1, 8, 8),)), tmp_path / "net.pt2")
    with zipfile.ZipFile(tmp_path / "net.pt2") as archive, zipfile.ZipFile(tmp_path / "cut.pt2", "w") as cut:
        for name in archive.namelist():
            if "/weights/" in name:
                cut.writestr(name, archive.read(name))
    for name in ("net.pt2", "cut.pt2"):
        found = read_weights(tmp_path / name)
        assert found.keys() == net.state_dict().keys()
        assert all(torch.equal(found[key], value) for key, value in net.state_dict().items())


class Bomb:
    def __reduce__(self):
        return print, ("the file was executed",)


def test_files_with_objects_are_refused_and_not_executed(tmp_path, capsys):
    np.savez(tmp_path / "bomb.npz", x=np.array([Bomb()], dtype=object))
    torch.save({"x": Bomb()}, tmp_path / "bomb.pt")
    (tmp_path / "raw.pt").write_bytes(pickle.dumps(Bomb()))
    for name in ("bomb.npz", "bomb.pt", "raw.pt"):
        with pytest.raises(DataError, match="cannot be read as numbers"):
            read_array(tmp_path / name)
    (tmp_path / "w.safetensors").write_bytes(pickle.dumps(Bomb()))
    (tmp_path / "w.pt2").write_bytes(pickle.dumps(Bomb()))
    (tmp_path / "w.pth").write_bytes(pickle.dumps(Bomb()))
    for name in ("w.safetensors", "w.pt2", "w.pth", "missing.pt2"):
        with pytest.raises(StorageError):
            read_weights(tmp_path / name)
    assert "executed" not in capsys.readouterr().out


@pytest.mark.parametrize("form", ["tensor", "pair", "dict", "npy"])
def test_arrays_in_every_form(tmp_path, form):
    x, y = torch.rand(3, 2, 4), torch.arange(3)
    path = tmp_path / ("a.npy" if form == "npy" else "a.pt")
    if form == "npy":
        np.save(path, x.numpy())
    else:
        torch.save({"tensor": x, "pair": (x, y), "dict": {"images": x, "labels": y}}[form], path)
    inputs, labels = read_array(path)
    assert torch.equal(torch.as_tensor(inputs), x)
    assert (labels is None) == (form in ("tensor", "npy"))
    np.savez(tmp_path / "b.npz", q=x.numpy())
    with pytest.raises(DataError, match="keys q"):
        read_array(tmp_path / "b.npz")


def test_images_are_resized_and_normalised(tmp_path):
    Image.new("RGB", (6, 4), (255, 0, 51)).save(tmp_path / "a.png")
    Image.new("L", (3, 3), 102).save(tmp_path / "b.png")
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    with pytest.raises(DataError, match="6x4"):
        read_images(paths, Preprocessing())
    found = read_images(paths, Preprocessing(size=(2, 5), mean=(0.5, 0.0, 0.2), std=(0.5, 1.0, 2.0)))
    assert found.shape == (2, 3, 2, 5)
    assert found[0, :, 0, 0].tolist() == pytest.approx([1.0, 0.0, 0.0])
    assert found[1, :, 0, 0].tolist() == pytest.approx([-0.2, 0.4, 0.1])
    (tmp_path / "c.png").write_text("no image")
    with pytest.raises(DataError, match="c.png"):
        read_images([tmp_path / "c.png"], Preprocessing())


DAMAGED = [
    [1],
    {"mode": 1},
    {"command": "rm"},
    {"size": ["a", 1]},
    {"size": 3},
    {"mean": 0.5},
    {"mean": [10**400]},
    {"mean": ["a"], "mode": "grey"},
    {"std": None},
    {"std": [0.0]},
]


@pytest.mark.parametrize("facts", DAMAGED, ids=range(len(DAMAGED)))
def test_what_is_saved_of_preprocessing_is_checked(facts):
    how = Preprocessing(size=(4, 5), mode="grey", mean=(0.5,))
    assert Preprocessing.of({"preprocessing": json.loads(json.dumps(how.facts()))}) == how
    assert Preprocessing.of({"seed": 3}) is None
    with pytest.raises((StorageError, OptionError)):
        Preprocessing.of({"preprocessing": facts})


def test_the_current_folder_does_not_shadow_packages(tmp_path):
    (tmp_path / "jinja2.py").write_text("raise SystemExit('planted')")
    (tmp_path / "nets.py").write_text("import torch\n\ndef net():\n    return torch.nn.Linear(2, 2)\n")
    code = "from xlens.cli.models import load_model; load_model('nets:net', None); import jinja2.sandbox"
    subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, check=True)


def test_deep_and_damaged_images_are_refused(tmp_path):
    Image.fromarray(np.full((4, 4), 40000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(DataError, match="more than 8 bits"):
        read_images([tmp_path / "deep.png"], Preprocessing(mode="grey"))
    Image.new("L", (40, 40), 7).save(tmp_path / "cut.png")
    content = bytearray((tmp_path / "cut.png").read_bytes())
    content[37:41] = b"\0\0\0\0"
    (tmp_path / "cut.png").write_bytes(content)
    with pytest.raises(DataError, match="cannot be read"):
        read_images([tmp_path / "cut.png"], Preprocessing())


def test_a_weights_table_that_is_no_table_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.pt2", "w") as archive:
        archive.writestr("a/data/weights/model_weights_config.json", '{"config": [1]}')
    with pytest.raises(StorageError, match="damaged"):
        read_weights(tmp_path / "w.pt2")


@pytest.fixture
def svae_installed(here, monkeypatch):
    """Make one of the backends that ship with xlens installed again, beside the folder of toys."""
    svae = importlib.metadata.EntryPoint("svae", "xlens_svae", "xlens")
    monkeypatch.setattr(import_module("xlens.registry.installed"), "entry_points", lambda: [svae])


@pytest.mark.filterwarnings("ignore::xlens.errors.XlensWarning")
def test_a_hidden_layer_with_a_decoder_is_fitted_on_and_shown(here, svae_installed, capsys):
    plain = [part for part in FIT if part not in ("--mask-steps", "3")]
    on_layer = [word if word != "toy" else "svae" for word in plain]
    small = [part for name in ("steps=2", "hidden=8") for part in ("--option", name)]
    assert (
        cli.main([*on_layer, "photos", *SCALE, "--layer", "body.3", "--decoder-steps", "2", *small, "--json"]) == 0
    )
    assert "decoder" in json.loads((here / "lens" / "lens.json").read_text())["stage"]
    image, said = str(next((here / "photos" / "1-bright").iterdir())), []
    for show in ("retrieve", "decode"):
        assert cli.main([*EXPLAIN, image, "--show", show, "--html", f"{show}.html", "--json"]) == 0
        said.append(data_of((here / f"{show}.html").read_text())["decoded"])
    assert said == [False, True]
    capsys.readouterr()
    assert cli.main([*on_layer, "data.npz", "--decoder", *small]) == 2
    assert "decoder is for lenses that are fitted on a hidden layer" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore::xlens.errors.XlensWarning")
def test_an_autoencoder_of_ones_own_is_named_again(here, svae_installed, capsys):
    behind = [word if word != "toy" else "svae" for word in FIT]
    small = [part for name in ("steps=2", "hidden=8") for part in ("--option", name)]
    short = ["--mask-steps", "1", *small, "--json"]
    assert cli.main([*behind, "data.npz", "--codec", "my_models:Halved", *short]) == 0
    assert json.loads((here / "lens" / "lens.json").read_text())["stage"]["own"]["name"] == "Halved"
    capsys.readouterr()
    assert cli.main([*EXPLAIN, "data.npz"]) == 2
    assert "pass it: xlens.load(path, model, codec=module)" in capsys.readouterr().err
    assert cli.main([*EXPLAIN, "data.npz", "--codec", "my_models:Halved", "--json"]) == 0
    capsys.readouterr()
    for wrong, says in (
        ("some", "codec: cannot be found. Given: some."),
        ("my_models:Halvd", "codec: 'my_models' has no 'Halvd'. Did you mean 'Halved'?"),
        ("my_models:fails", "codec: my_models:fails() failed"),
        ("my_models:number", "gives no module"),
        ("my_models:net", "without encode and decode"),
    ):
        assert cli.main([*behind, "data.npz", "--codec", wrong, *short]) == 2
        assert says in " ".join(capsys.readouterr().err.split())
