"""A lens on the hub, as somebody types it: sent, named wherever a lens is taken, and refused in one line."""

import importlib
import importlib.metadata
import json
import sys

import pytest
import torch
import toys

import xlens
from xlens import cli
from xlens.explainer import LensExplainer

NAME = "somebody/a-lens"
MODEL = ("--model", "my_models:net", "--weights", "net.safetensors")
PUSH = ("push", "lens", NAME, *MODEL)
pytestmark = pytest.mark.filterwarnings("ignore::xlens.errors.XlensWarning")


@pytest.fixture
def lens(here, fitted):
    fitted.save(here / "lens")
    torch.save(toys.pictures(4, seed=5)[0], here / "four.pt")
    return here / "lens"


@pytest.fixture
def pushed(lens, hub, fitted):
    return fitted.push_to_hub(NAME, token="hf_write")


def refused(capsys, *arguments):
    """Return the one line that is said where a command is refused; standard output stays empty."""
    assert cli.main([*map(str, arguments)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    line = err.splitlines()[-1]
    assert line.startswith("xlens: ")
    assert "Traceback" not in err
    return line


def test_a_lens_is_sent_and_read_by_its_name(lens, hub, capsys):
    assert cli.main([*PUSH, "--private", "--license", "mit", "--message", "First", "--judge", "four.pt"]) == 0
    said = capsys.readouterr().out
    commit = said.rpartition(" ")[2].strip()
    assert said.startswith(f"hf://{NAME}: README.md (")
    assert f"sent, commit {commit}" in said
    assert hub.private[NAME] is True
    card = hub.files(NAME)["README.md"].decode()
    assert 'license: "mit"' in card
    assert "Of 4 explanations that it was judged by" in card
    assert cli.main(["explain", f"hf://{NAME}@{commit}", "four.pt", *MODEL, "--json"]) == 0
    here = json.loads(capsys.readouterr().out)
    assert cli.main(["explain", "lens", "four.pt", *MODEL, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == here


def test_machines_are_told_what_went(lens, hub, capsys):
    assert cli.main([*PUSH, "--revision", "next", "--json"]) == 0
    out, err = capsys.readouterr()
    facts = json.loads(out)
    assert facts["lens"] == f"hf://{NAME}@next"
    assert facts["commit"] == hub.commit(NAME, "next")[0]
    assert {name: len(content) for name, content in hub.files(NAME, "next").items()} == facts["files"]
    assert {"statistics", "weights"} <= {part["kind"] for part in facts["kept_data"]}
    assert "goes what it keeps of the data" not in out


def test_a_dry_run_sends_nothing(lens, hub, capsys):
    assert cli.main([*PUSH, "--dry-run", "look", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["commit"] is None
    assert {path.name for path in (lens.parent / "look").iterdir()} == set(facts["files"])
    assert cli.main([*PUSH, "--dry-run", "look"]) == 0
    assert "is in look, and was not sent" in capsys.readouterr().out
    assert not hub.asked


@pytest.fixture
def keeping(lens, trained, monkeypatch):
    """A lens on a hidden layer in place of the other, which keeps the inputs that it shows."""
    svae = importlib.metadata.EntryPoint("svae", "xlens_svae", "xlens")
    monkeypatch.setattr(importlib.import_module("xlens.registry.installed"), "entry_points", lambda: [svae])
    over = xlens.Classifier(trained, layer="body.0")
    fitted = xlens.fit(over, toys.pictures(40, seed=3)[0], "svae", steps=2, hidden=16, progress=False)
    assert fitted.kept_data.single_inputs
    fitted.save(lens)


def test_single_inputs_go_with_consent_alone(keeping, hub, capsys, monkeypatch):
    layered = ("push", "lens", NAME, "--model", "my_models:with_layer", "--weights", "net.safetensors")
    with monkeypatch.context() as patch:
        patch.setattr(LensExplainer, "explain", lambda *_, **__: pytest.fail("explained before it was refused"))
        line = refused(capsys, *layered, "--judge", "four.pt")
    assert "real inputs" in line
    assert "--with-data" in line
    assert not hub.asked
    assert cli.main([*layered, "--with-data", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert "inputs" in {part["kind"] for part in facts["kept_data"]}
    assert "lens.safetensors" in hub.files(NAME)


COMMANDS = {
    "explain": ("four.pt",),
    "evaluate": ("four.pt", "--method", "lig"),
    "audit": ("data.npz", "--search", "windows", "-n", "6"),
    "push": ("somebody/again",),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_a_lens_from_the_hub(pushed, hub, capsys, command):
    assert cli.main([command, f"hf://{NAME}", *COMMANDS[command], *MODEL, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)
    assert any(one.endswith("/lens.safetensors") for one in hub.asked)


def test_lenses_of_one_name_are_told_apart(pushed, fitted, hub, capsys):
    other = fitted.push_to_hub("another/a-lens", token="hf_write").name
    assert cli.main(["evaluate", pushed.name, "four.pt", *MODEL, "--method", "lig", "--also", other, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)["figures"]
    assert {pushed.name, other} <= {text for figure in figures for text in figure.values() if isinstance(text, str)}


@pytest.mark.parametrize("command", COMMANDS)
def test_nobody_there_is_one_line(lens, nobody, capsys, command):
    line = refused(capsys, command, f"hf://{NAME}", *COMMANDS[command], *MODEL, "--json")
    assert "the hub cannot be reached, and this lens was not downloaded before" in line
    assert "What to do: " in line


def test_nobody_to_send_to_is_one_line(lens, nobody, capsys):
    line = refused(capsys, *PUSH)
    assert "push_to_hub: the hub cannot be reached, and nothing was sent" in line
    assert "--dry-run" in line


NO_NAMES = ["hf://one", "hf:/somebody/a-lens", "HF://somebody/a-lens", "https://huggingface.co/somebody/a-lens"]


@pytest.mark.parametrize("name", NO_NAMES)
def test_what_is_no_name_is_refused_before_anybody_is_asked(lens, hub, capsys, name):
    for command in ("explain", "audit"):
        assert "hf://owner/name@revision" in refused(capsys, command, name, *COMMANDS[command], *MODEL)
    assert "hf://owner/name@revision" in refused(capsys, "push", "lens", name, "--model", "no_such:model")
    assert not hub.asked


def test_a_revision_is_said_once(lens, hub, capsys):
    line = refused(capsys, "push", "lens", f"hf://{NAME}@v1", "--revision", "v2", "--model", "no_such:model")
    assert "the revision is said twice" in line


def test_a_lens_is_not_fitted_into_the_hub(here, hub, capsys):
    command = ("fit", "my_models:net", "data.npz", "--weights", "net.safetensors", "--backend", "toy")
    line = refused(capsys, *command, "-o", f"hf://{NAME}")
    assert "xlens push" in line
    assert not (here / "hf:").exists()


def test_answers_are_kept_in_a_folder(pushed, hub, capsys):
    before = len(hub.asked)
    line = refused(capsys, "label", pushed.name, "four.pt", "--model", "no_such:model")
    assert "xlens.load(name, model).save(folder)" in line
    assert len(hub.asked) == before


REFUSED = {
    "no lens": (f"hf://{NAME}", "there is no lens in this repository"),
    "no repository": ("hf://nobody/nothing", "there is no such repository, or it is private"),
    "no revision": (f"hf://{NAME}@v9", "no such revision"),
    "too large": (f"hf://{NAME}", "larger than it may be"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_hub_does_not_have_is_one_line(pushed, hub, capsys, case):
    name, said = REFUSED[case]
    if case == "no lens":
        del hub.files(NAME)["lens.safetensors"]
    if case == "too large":
        hub.sizes["lens.safetensors"] = 2**40
    line = refused(capsys, "explain", name, "four.pt", *MODEL, "--json")
    assert said in line
    assert name in line


def test_without_rights_nothing_is_sent(lens, hub, capsys):
    hub.repos[NAME] = {"main": {}}
    hub.gated.add(NAME)
    assert "access to this repository has to be asked for" in refused(capsys, *PUSH)
    assert not hub.files(NAME)


def test_without_the_package_the_line_that_installs_it_is_said(lens, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for command in (PUSH, ("explain", f"hf://{NAME}", "four.pt", *MODEL)):
        assert "pip install 'xlens[hub]'" in refused(capsys, *command)
