"""Saved lenses and explanations: the same afterwards, or refused."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import warnings

import pytest
import torch
import toys
from guard import unchanged
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

import xlens
from xlens.errors import BackendNotFoundError, OptionError, StorageError, XlensWarning
from xlens.explanation import Explanation

pytestmark = pytest.mark.usefixtures("toy_installed")


@pytest.fixture
def folder(fitted, trained, tmp_path):
    with unchanged(trained):
        fitted.save(tmp_path / "deep" / "lens")
    return tmp_path / "deep" / "lens"


def rewrite(folder, **changes):
    """Edit the JSON as a careful forger would, checksum included."""
    from xlens.storage.lens_files import checksum

    facts = json.loads((folder / "lens.json").read_text())
    del facts["checksum"]
    facts |= changes
    (folder / "lens.json").write_text(json.dumps({**facts, "checksum": checksum(facts)}))


def assert_equal(first, second):
    for (name, a), (_, b) in zip(first._tensors(), second._tensors(), strict=True):
        assert torch.equal(a, b), name
    for name in ("problems", "class_names", "feature_names", "data_range", "channel_ranges"):
        assert getattr(first, name) == getattr(second, name)


def test_a_loaded_lens_explains_the_same(folder, fitted, trained, images):
    with unchanged(trained):
        loaded = xlens.load(folder, trained)
    assert_equal(loaded.explain(images[:4]), fitted.explain(images[:4]))
    assert loaded.backend == fitted.backend
    assert loaded.spec == fitted.spec
    assert loaded.provenance == fitted.provenance
    found = {name: fact for name, fact in fitted.provenance.items() if name not in ("passes", "soundness")}
    assert found == {"seed": 0, "supervision": "classifier"}
    assert not any(parameter.requires_grad for parameter in loaded.lens.parameters())


def test_a_copy_of_the_classifier_will_do(folder, trained, images):
    assert xlens.load(folder, copy.deepcopy(trained).eval()).explain(images[:1]).trustworthy.all()


def test_the_files_are_json_and_safetensors_and_nothing_else(folder):
    assert sorted(path.name for path in folder.iterdir()) == ["lens.json", "lens.safetensors"]
    json.loads((folder / "lens.json").read_text())
    with safe_open(folder / "lens.safetensors", framework="pt") as file:
        assert "lens.template" in file.keys()  # noqa: SIM118


def test_saving_again_overwrites(folder, fitted, trained):
    fitted.save(folder)
    assert xlens.load(folder, trained).backend.name == "toy"


def other_classifier(trained):
    other = copy.deepcopy(trained)
    with torch.no_grad():
        other.head.bias.add_(1e-3)
    return other


def test_another_classifier_is_refused_unless_told(folder, trained, images):
    other = other_classifier(trained)
    with pytest.raises(StorageError, match="fitted around another classifier.*Cnn.*strict=False"):
        xlens.load(folder, other)
    with pytest.raises(StorageError, match="another classifier"):
        xlens.load(folder, xlens.Classifier(trained, layer="head"))
    assert len(xlens.load(folder, other, strict=False).explain(images[:2])) == 2


@pytest.mark.parametrize("name", ["lens.json", "lens.safetensors"])
@pytest.mark.parametrize("keep", [0, 1, 40, -1])
def test_a_truncated_file_is_refused(folder, trained, name, keep):
    (folder / name).write_bytes((folder / name).read_bytes()[:keep])
    with pytest.raises(StorageError, match=f"{name}.*truncated"):
        xlens.load(folder, trained)


@pytest.mark.parametrize("name", ["lens.json", "lens.safetensors"])
@given(where=st.integers(0, 10**9), bit=st.integers(0, 7))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_edited_bit_is_noticed(folder, trained, name, where, bit):
    original = (folder / name).read_bytes()
    edited = bytearray(original)
    edited[where % len(edited)] ^= 1 << bit
    (folder / name).write_bytes(edited)
    try:
        if name == "lens.json" and _says_the_same(original, edited):
            return
        with pytest.raises(StorageError):
            xlens.load(folder, trained)
    finally:
        (folder / name).write_bytes(original)


def _says_the_same(original, edited):
    try:
        return json.loads(original) == json.loads(edited)
    except ValueError:
        return False


def test_an_edited_option_is_noticed(folder, trained):
    text = (folder / "lens.json").read_text()
    assert '"strength": 1.0' in text
    (folder / "lens.json").write_text(text.replace('"strength": 1.0', '"strength": 2.0'))
    with pytest.raises(StorageError, match="edited after it was saved"):
        xlens.load(folder, trained)


@pytest.mark.parametrize("content", ["", "[]", "3", "null", '{"a": 1}', "import os", '{"checksum": 1}'])
def test_a_foreign_file_is_refused(folder, trained, content):
    (folder / "lens.json").write_text(content)
    with pytest.raises(StorageError):
        xlens.load(folder, trained)


def test_a_folder_that_holds_nothing(tmp_path, trained):
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(StorageError, match="no saved lens here"):
            xlens.load(path, trained)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, "another format or version.*version 2"),
        ({"contract": 9}, "contract 9"),
        ({"format": "a cake"}, "'a cake'"),
        ({"options": {"speed": 3}}, "does not know this lens's options.*unknown option 'speed'"),
        ({"options": {"strength": -1}}, "strength must be"),
        ({"spec": {"shape": [1, 8, 8]}}, "does not know"),
        ({"backend": "plain"}, "does not know"),
        ({"backend": "plain", "options": {}}, "tensors do not fit the lens"),
    ],
)
def test_facts_that_do_not_fit_are_refused(folder, trained, changes, message):
    rewrite(folder, **changes)
    with pytest.raises(StorageError, match=message):
        xlens.load(folder, trained)


@pytest.mark.parametrize("name", ["os.system", "medx", "../x"])
def test_a_backend_that_is_not_installed(folder, trained, name):
    rewrite(folder, backend=name)
    with pytest.raises(BackendNotFoundError, match=name):
        xlens.load(folder, trained)


def test_tensors_of_another_lens_are_refused(folder, trained):
    save_file({"lens.template": torch.zeros(64)}, folder / "lens.safetensors")
    with pytest.raises(StorageError, match="belongs to another lens"):
        xlens.load(folder, trained)


def test_a_device_that_is_not_there(folder, trained):
    with pytest.raises(OptionError, match="load: device must be one that torch can use here, got 'cuda:97'"):
        xlens.load(folder, trained, device="cuda:97")


def test_a_place_that_cannot_be_written(fitted, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        fitted.save(tmp_path / "file" / "lens")


def test_class_names_come_back_with_a_bare_model(trained, images, tmp_path):
    named = xlens.Classifier(trained, class_names=["a", "b", "c"])
    xlens.fit(named, images, "toy", mask=toys.SHORT_MASK, progress=False).save(tmp_path)
    assert xlens.load(tmp_path, trained).class_names == ("a", "b", "c")


# --- explanations -------------------------------------------------------------------------------------


@pytest.fixture
def saved(fitted, images, tmp_path):
    explanation = fitted.explain(images[:3])
    explanation.save(tmp_path / "why.safetensors")
    return explanation, tmp_path / "why.safetensors"


def test_an_explanation_is_the_same_after_loading(saved):
    explanation, path = saved
    assert_equal(Explanation.load(path), explanation)
    assert explanation.decisions is not None
    assert torch.equal(explanation.decisions[:, 1] == explanation.contrast, explanation.fidelity.flips)
    assert list(path.parent.iterdir()) == [path]


def test_an_explanation_that_cannot_be_written(saved, tmp_path):
    with pytest.raises(StorageError, match="save: cannot write"):
        saved[0].save(tmp_path)
    assert not list(tmp_path.parent.glob("*.partial"))


def test_an_explanation_without_a_mask_survives(saved, tmp_path):
    # Nor without the decisions, which earlier versions did not keep.
    explanation = dataclasses.replace(saved[0], mask=None, edit=None, reconstruction=None, decisions=None)
    explanation.save(tmp_path / "again")
    loaded = Explanation.load(tmp_path / "again")
    assert loaded.mask is loaded.edit is loaded.reconstruction is None
    assert_equal(loaded, explanation)


@pytest.mark.parametrize("keep", [0, 5, 300, -1])
def test_a_truncated_explanation_is_refused(saved, keep):
    path = saved[1]
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(StorageError, match="truncated or damaged"):
        Explanation.load(path)


@pytest.mark.parametrize("where", [-5, -3000, 100])
def test_an_edited_explanation_is_refused(saved, where):
    path = saved[1]
    content = bytearray(path.read_bytes())
    content[where] ^= 1
    path.write_bytes(content)
    with pytest.raises(StorageError):
        Explanation.load(path)


def test_a_file_that_is_no_explanation(tmp_path):
    save_file({"a": torch.ones(1)}, tmp_path / "other")
    with pytest.raises(StorageError, match="not an xlens explanation"):
        Explanation.load(tmp_path / "other")
    with pytest.raises(StorageError, match="no file"):
        Explanation.load(tmp_path / "nowhere")


def test_an_explanation_of_another_version(saved, tmp_path):
    from xlens.training.checkpoint import write_file

    write_file(tmp_path / "old", "an xlens explanation", {"inputs": torch.zeros(1)})
    with pytest.raises(StorageError, match="another version"):
        Explanation.load(tmp_path / "old")


def test_a_lens_is_bound_to_the_classifier_that_it_was_fitted_around(fitted, images, tmp_path):
    """Also where the user's model, which is held by reference, is trained on afterwards."""
    model = copy.deepcopy(fitted.classifier.model)
    fitted.save(tmp_path / "first")
    explainer = xlens.load(tmp_path / "first", model)

    def asked():
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            explainer.counterfactual(images[:2])
        return [str(one.message) for one in said]

    weight = next(model.parameters())
    before = weight.detach().clone()
    assert asked() == []
    with torch.no_grad():
        weight.mul_(1.01)
    assert any("classifier has changed since this lens was fitted" in one for one in asked())
    with pytest.warns(XlensWarning, match="save: the classifier has changed.*start_from=explainer"):
        explainer.save(tmp_path / "late")
    with pytest.raises(StorageError, match="another classifier"):
        xlens.load(tmp_path / "late", model)
    with torch.no_grad():
        weight.copy_(before)
    assert asked() == []


@pytest.mark.parametrize("before", [True, False])
def test_stopped_between_its_two_files_a_lens_is_whole(fitted, tmp_path, monkeypatch, before):
    """What was there is loaded, or what was to be written; never a lens that cannot be read."""
    folder = tmp_path / "lens"
    fitted.save(folder)
    provenance = {**fitted.provenance, "again": True}
    record = dataclasses.replace(fitted.fitted, provenance=provenance, lens=copy.deepcopy(fitted.lens))
    changed = xlens.LensExplainer(record)
    with torch.no_grad():
        next(iter(changed.lens.state_dict().values())).add_(1)
    replace, done = os.replace, []

    def stopped(source, target):
        if len(done) == (0 if before else 1):
            raise KeyboardInterrupt
        done.append(target)
        replace(source, target)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(os, "replace", stopped)
        changed.save(folder)
    again = xlens.load(folder, fitted.classifier)
    assert again.provenance == (fitted if before else changed).provenance
    wanted = (fitted if before else changed).lens.state_dict()
    assert all(torch.equal(value, wanted[key]) for key, value in again.lens.state_dict().items())
    fitted.save(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["lens.json", "lens.safetensors"]
    assert xlens.load(folder, fitted.classifier).provenance == fitted.provenance
