"""A lens on the hub: sent and read back over HTTP, and every way in which that goes wrong, in words."""

import json
import logging
import re
import sys
from pathlib import Path

import pytest
import torch

import xlens
from xlens.errors import MissingExtraError, OptionError, StorageError
from xlens.hub import words
from xlens.hub.names import HubName, hub_name

NAME = "somebody/a-lens"
pytestmark = [
    pytest.mark.usefixtures("toy_installed"),
    pytest.mark.filterwarnings("ignore::xlens.errors.UntrustworthyWarning"),
]


@pytest.fixture
def pushed(hub, fitted):
    """The lens, on the hub."""
    return fitted.push_to_hub(NAME, token="hf_write", private=True)


def test_a_lens_sent_and_read_back_is_the_same(hub, pushed, fitted, trained, images, caplog):
    assert sorted(hub.files(NAME)) == sorted(pushed.files) == ["README.md", "lens.json", "lens.safetensors"]
    assert hub.private[NAME] is True
    assert hub.tokens == {"Bearer hf_write"}
    assert re.fullmatch("[0-9a-f]{40}", pushed.commit)
    found = xlens.load(pushed.name, trained)
    assert any(one.startswith("GET") and one.endswith("/lens.safetensors") for one in hub.asked)
    assert torch.equal(found.counterfactual(images[:3]), fitted.counterfactual(images[:3]))
    # Once more without the network: as it was downloaded before, and that is said.
    hub_package = words.hub_package("load")
    with pytest.MonkeyPatch.context() as patch, caplog.at_level(logging.WARNING, "xlens"):
        # Nobody listens there.
        patch.setattr(hub_package.constants, "ENDPOINT", "http://127.0.0.1:9")
        again = xlens.load(pushed.name, trained)
    assert torch.equal(again.counterfactual(images[:3]), found.counterfactual(images[:3]))
    assert "as it was downloaded before" in caplog.text


def test_only_the_files_of_the_lens_go_and_come(hub, pushed, trained, tmp_path):
    for file in ("pytorch_model.bin", "evil.pkl", "loader.py", "config.json"):
        hub.files(NAME)[file] = b"\x80\x04."
    xlens.load(f"hf://{NAME}", trained, token="hf_read")
    assert not [one for one in hub.asked if one.endswith((".bin", ".pkl", ".py", "config.json", "README.md"))]
    assert "Bearer hf_read" in hub.tokens


def test_a_revision_is_a_branch_or_a_commit(hub, pushed, fitted, trained):
    other = fitted.push_to_hub(NAME, revision="v1/next", token="t")
    assert other.name == f"hf://{NAME}@v1/next"
    assert xlens.load(other.name, trained).backend.name == fitted.backend.name
    assert xlens.load(f"hf://{NAME}@{other.commit}", trained).backend.name == fitted.backend.name
    with pytest.raises(OptionError, match="said twice"):
        fitted.push_to_hub(other.name, revision="main")


def test_the_card_loads_the_lens_and_says_what_holds(hub, fitted, trained, images):
    explanation = fitted.explain(images[:6])
    fitted.push_to_hub(NAME, token="t", license="mit", explanation=explanation)
    card = hub.files(NAME)["README.md"].decode()
    header, code = card.split("---")[1], re.search(r"```python\n(.*?)```", card, re.S).group(1)
    assert 'license: "mit"' in header
    assert "library_name: xlens" in header
    held = int(explanation.trustworthy.sum())
    assert f"Of 6 explanations that it was judged by, {held} hold" in card
    assert f"| {int(explanation.verdicts['flips'].sum())} of 6 |" in card
    assert fitted.fitted.bound.fingerprint in card
    names = {"classifier": trained, "inputs": images[:2]}
    exec(compile(code, "card", "exec"), names)
    assert len(names["explanation"]) == 2


def test_a_card_without_licence_or_judgement_says_so(fitted, tmp_path):
    fitted.push_to_hub(NAME, dry_run=tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert "license" not in card.split("---")[1]
    assert "None was chosen" in card
    assert "without explanations to judge it by" in card


def test_what_a_class_is_called_means_nothing_to_the_card(trained, tmp_path):
    import toys

    names = ("<script>alert(1)</script>", "a | b", "[x](http://y) `z`\n# h")
    classifier = xlens.Classifier(trained, class_names=names)
    named = xlens.fit(classifier, toys.pictures(60, seed=0)[0], toys.Toy(), mask=toys.SHORT_MASK, progress=False)
    named.push_to_hub(NAME, dry_run=tmp_path)
    row = next(line for line in (tmp_path / "README.md").read_text().splitlines() if line.startswith("| 3 classes"))
    assert r"\<script\>alert(1)\</script\>, a \| b, \[x\](http://y) \`z\` \# h" in row


def test_a_dry_run_sends_nothing_and_can_be_loaded(hub, fitted, trained, tmp_path):
    (tmp_path / "answers.json").write_text("{}")
    done = fitted.push_to_hub(NAME, dry_run=tmp_path)
    assert done.commit is None
    assert not hub.asked
    assert xlens.load(tmp_path, trained).backend.name == fitted.backend.name


def test_what_goes_is_said_before_it_goes(hub, fitted, caplog):
    with caplog.at_level(logging.WARNING, "xlens"):
        done = fitted.push_to_hub(NAME, token="t")
    assert f"with hf://{NAME} goes what it keeps of the data: " in caplog.text
    assert done.kept_data == fitted.kept_data
    for part in done.kept_data.parts:
        assert part.said in caplog.text


REFUSALS = {
    "no repository": ("hf://nobody/nothing", "there is no such repository, or it is private"),
    "no revision": (f"hf://{NAME}@v9", "no such revision"),
    "gated": (f"hf://{NAME}", "has to be asked for"),
    "no lens": (f"hf://{NAME}", "there is no lens in this repository"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_the_hub_refuses_is_said_in_words(hub, pushed, trained, case):
    name, said = REFUSALS[case]
    if case == "gated":
        hub.gated.add(NAME)
    if case == "no lens":
        del hub.files(NAME)["lens.json"]
    with pytest.raises(StorageError, match=said) as caught:
        xlens.load(name, trained)
    assert "What to do: " in str(caught.value)
    assert name in str(caught.value)


def test_nobody_there_is_said_in_words(nobody, fitted, trained):
    with pytest.raises(StorageError, match="cannot be reached, and this lens was not downloaded before"):
        xlens.load(f"hf://{NAME}", trained)
    with pytest.raises(StorageError, match="cannot be reached, and nothing was sent"):
        fitted.push_to_hub(NAME)


def test_sending_without_rights_is_said_in_words(hub, fitted):
    hub.repos[NAME] = {"main": {}}
    hub.gated.add(NAME)
    with pytest.raises(StorageError, match="push_to_hub: access to this repository has to be asked for"):
        fitted.push_to_hub(NAME, token="t")


def test_what_is_downloaded_is_checked_as_any_file(hub, pushed, trained, fitted):
    facts = json.loads(hub.files(NAME)["lens.json"])
    hub.files(NAME)["lens.json"] = json.dumps({**facts, "backend": "other"}).encode()
    with pytest.raises(StorageError, match="edited"):
        xlens.load(f"hf://{NAME}", trained)
    fitted.push_to_hub(NAME, token="t")
    with pytest.raises(StorageError, match="another classifier"):
        xlens.load(f"hf://{NAME}", torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(256, 3)))


@pytest.mark.parametrize("file", ["lens.json", "lens.safetensors"])
def test_no_more_is_downloaded_than_was_allowed(hub, pushed, trained, file):
    hub.sizes[file] = 2**40
    before = len(hub.asked)
    with pytest.raises(StorageError, match=r"larger than it may be.*1,099,511,627,776 bytes"):
        xlens.load(f"hf://{NAME}", trained)
    assert not [one for one in hub.asked[before:] if "/resolve/" in one]
    with pytest.raises(StorageError, match="say max_bytes="):
        hub.sizes.clear()
        xlens.load(f"hf://{NAME}", trained, max_bytes=100)


def test_without_the_package_the_line_that_installs_it_is_said(fitted, trained, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for call in (lambda: xlens.load(f"hf://{NAME}", trained), lambda: fitted.push_to_hub(NAME)):
        with pytest.raises(MissingExtraError, match=r"pip install 'xlens\[hub\]'"):
            call()


@pytest.mark.parametrize(
    "name",
    [
        "hf://",
        "hf://one",
        "hf://a/b/c",
        "hf://../x",
        "hf://a/b@",
        "hf://a/b@../../etc",
        "hf://a/b@x y",
        "hf://a /b",
        "hf:a/b",
        "HF://a/b",
        "https://huggingface.co/a/b",
        Path("hf://a/b"),
    ],
)
def test_what_is_no_name_is_refused_before_anybody_is_asked(hub, trained, name):
    with pytest.raises(OptionError, match="hf://owner/name@revision"):
        xlens.load(name, trained)
    assert not hub.asked


def test_a_lens_is_not_saved_in_a_folder_of_the_hubs_name(fitted, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in (f"hf://{NAME}", Path(f"hf://{NAME}")):
        with pytest.raises(OptionError, match="explainer.push_to_hub"):
            fitted.save(path)
    assert not list(tmp_path.iterdir())


def test_names_come_back_as_they_are_written():
    for text in ("hf://a/b", "hf://a.b/c-d_e@refs/pr/1"):
        assert str(hub_name(text)) == text
    assert hub_name("hf://a/b@v1") == HubName("a/b", "v1")


def test_a_token_goes_with_no_folder(trained, tmp_path):
    with pytest.raises(OptionError, match="token is for lenses on the hub"):
        xlens.load(tmp_path, trained, token="t")
