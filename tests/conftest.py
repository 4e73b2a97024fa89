"""Fixtures: one toy classifier and one fitted lens for the whole session."""

from __future__ import annotations

import importlib
import importlib.metadata
import signal
import socket
import sys

import fake_hub
import numpy as np
import pytest
import torch
import toys
from forking import Forking
from guard import unchanged
from PIL import Image
from safetensors.torch import save_file

torch.set_num_threads(1)
# A shell that runs the tests in the background has Ctrl-C ignored, and some of them press it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def images():
    return toys.pictures(96, seed=1)[0]


@pytest.fixture(scope="session")
def labels():
    return toys.pictures(96, seed=1)[1]


@pytest.fixture(scope="session")
def trained():
    """The trained network; handed over in train mode, with a hook, and one gradient in place."""
    return toys.trained_cnn()


@pytest.fixture(autouse=True)
def trained_stays(request):
    """Let the test fail that changes the network which the others use too."""
    if "trained" not in request.fixturenames:
        yield
        return
    model = request.getfixturevalue("trained")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    yield
    changed = [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])]
    assert not changed, f"{request.node.name} changed {', '.join(changed)} of the network of all tests"


@pytest.fixture(scope="session")
def fitted(trained):
    """An explainer with a faithful lens, whose mask is fitted in full."""
    import xlens

    return xlens.fit(trained, toys.pictures(240, seed=0)[0], toys.Toy(), progress=False)


@pytest.fixture
def ask(fitted, trained):
    """Call a method of the fitted explainer, or of another one, under guard."""

    def ask(method, *args, of=fitted, **kwargs):
        with unchanged(trained):
            return getattr(of, method)(*args, **kwargs)

    return ask


@pytest.fixture(scope="session")
def digits():
    """A small network that tells two digits apart, and their images."""
    from xlens.datasets import load_images, small_cnn, train_classifier

    torch.manual_seed(0)
    images = load_images("digits")
    model = small_cnn((1, 8, 8))
    train_classifier(model, images.train, images.train_labels, steps=150, progress=False)
    return model, images


@pytest.fixture
def toy_installed(monkeypatch):
    """Make the toy backends the only installed ones."""

    def entry_points():
        return [
            importlib.metadata.EntryPoint(name, f"toys:{variable}", "xlens")
            for name, variable in (("toy", "TOY_PLUGIN"), ("plain", "PLAIN_PLUGIN"))
        ]

    # By its module: in the package, the name is that of a function.
    monkeypatch.setattr(importlib.import_module("xlens.registry.installed"), "entry_points", entry_points)


@pytest.fixture
def hub_alone(monkeypatch, tmp_path):
    """Let huggingface_hub know nobody: no account, nothing downloaded before; yields its constants."""
    constants = pytest.importorskip("huggingface_hub.constants")
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    return constants


@pytest.fixture
def hub(hub_alone, monkeypatch):
    """Serve a hub on this machine, that huggingface_hub talks to."""
    file_download = pytest.importorskip("huggingface_hub.file_download")
    with fake_hub.serving() as (served, address):
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        for module in (hub_alone, file_download):
            # Where a version has taken it over by name.
            monkeypatch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
        monkeypatch.setattr(hub_alone, "ENDPOINT", address)
        served.address = address
        yield served


@pytest.fixture
def nobody(hub_alone, monkeypatch):
    """Make the hub an address of this machine that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setattr(hub_alone, "ENDPOINT", f"http://127.0.0.1:{free.getsockname()[1]}")
        yield


@pytest.fixture(scope="session")
def diffusers():
    """Return diffusers, whose import takes seconds: only for who asks for it."""
    return pytest.importorskip("diffusers")


@pytest.fixture(scope="session")
def programs(tmp_path_factory):
    """Run Python in processes of their own, in which torch has been imported and nothing of xlens."""
    imports = "import sys, torch\nassert not [name for name in sys.modules if name.startswith('xlens')]\n"
    place = tmp_path_factory.mktemp("programs")
    with Forking(sys.executable, imports, place) as forking:
        yield forking.run


@pytest.fixture
def short_masks(monkeypatch):
    """Fit every mask in three steps, in documents and examples that leave it at its default."""
    from xlens.api import fit

    def briefly(model, *args, mask=None, **options):
        # On a hidden layer there is none.
        short = None if getattr(model, "layer", None) else toys.SHORT_MASK
        return fit(model, *args, mask=mask or short, **options)

    monkeypatch.setattr("xlens.api.fit", briefly)
    return briefly


#: What somebody keeps in a file of their own.
_MODELS = """
import torch, toys
import xlens

def net():
    model = toys.Cnn()
    return model.train()

def fails():
    raise RuntimeError("no such checkpoint")

def probabilities():
    return xlens.Classifier(net(), outputs="probabilities")

class Halved(torch.nn.Module):
    def encode(self, images):
        return torch.nn.functional.avg_pool2d(images, 2)

    def decode(self, latents):
        return torch.nn.functional.interpolate(latents, scale_factor=2, mode="bilinear")

def with_layer():
    return xlens.Classifier(net(), layer="body.0")

number = 3
"""


@pytest.fixture
def here(tmp_path, monkeypatch, trained, toy_installed):
    """A working folder with a module, weights, image folders and an array."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_models", raising=False)
    (tmp_path / "my_models.py").write_text(_MODELS)
    state = {key: value.clone() for key, value in trained.state_dict().items()}
    save_file(state, tmp_path / "net.safetensors")
    inputs, labels = toys.pictures(60, seed=3)
    np.savez(tmp_path / "data.npz", x=inputs.numpy(), y=labels.numpy())
    for c, name in enumerate(("none", "bright", "dark")):
        folder = tmp_path / "photos" / f"{c}-{name}"
        folder.mkdir(parents=True)
        for i in (labels == c).nonzero()[:10, 0].tolist():
            levels = ((inputs[i, 0] + 3) / 5 * 255).round().to(torch.uint8).numpy()
            Image.fromarray(levels).save(folder / f"{i}.png")
    return tmp_path
