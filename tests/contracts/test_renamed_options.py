"""Options of earlier names: they go on working, say what they are called now, and clash with nothing."""

from __future__ import annotations

import copy
import hashlib
import json

import pytest
import toys

import xlens
from xlens.contracts.options import make, options, param, to_dict
from xlens.errors import OptionError, StorageError
from xlens.registry.loading import load_backend

#: Backend -> earlier name -> today's, with a value that is not the default.
RENAMED = {
    "ilvm": {"most": ("code", 8)},
    "medxgan": {"nuisance": ("nuisance_code", 7), "block": ("class_code", 3)},
    "svae": {
        "evidence": ("class_code", 3),
        "nuisance": ("nuisance_code", 5),
        "width": ("hidden", 16),
        "architecture": ("network", "dense"),
    },
}
EACH = [(backend, old, *new) for backend, names in RENAMED.items() for old, new in names.items()]


@options
class Knobs:
    """Two options, of which one had another name."""

    code: int = param(4, ge=1, help="width of the code", formerly="most")
    network: str = param(
        "auto",
        choices=("auto", "convolutional"),
        help="kind",
        formerly="kind",
        values_formerly={"conv": "convolutional"},
    )


@pytest.mark.parametrize("made", [lambda **given: Knobs(**given), lambda **given: make(Knobs, given)])
def test_an_earlier_name_means_the_option_and_says_so(made):
    with pytest.warns(DeprecationWarning, match="Knobs: the option most is now code; .* xlens 0.3") as said:
        knobs = made(most=7)
    assert knobs == Knobs(code=7)
    assert to_dict(knobs) == {"code": 7, "network": "auto"}
    assert len(said) == 1
    assert said[0].filename == __file__


def test_values_of_earlier_names_are_understood_and_those_of_today_too():
    with pytest.warns(DeprecationWarning, match="kind is now network"):
        assert Knobs(kind="conv").network == "convolutional"
    with pytest.warns(DeprecationWarning, match="kind is now network"):
        assert Knobs(kind="auto").network == "auto"
    with pytest.raises(OptionError, match="network must be one of 'auto', 'convolutional', got 'conv'"):
        Knobs(network="conv")


def test_an_earlier_name_can_be_read():
    with pytest.warns(DeprecationWarning, match="most is now code"):
        assert Knobs(code=9).most == 9
    with pytest.raises(AttributeError, match="'Knobs' object has no attribute 'mist'"):
        _ = Knobs().mist
    assert copy.deepcopy(Knobs(code=9)) == Knobs(code=9)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_faults_under_an_earlier_name_are_named_as_of_today():
    with pytest.raises(OptionError, match="1 option is wrong: code must be an int >= 1, got 0"):
        Knobs(most=0)
    with pytest.raises(OptionError, match="most is the earlier name of code, and both are given"):
        Knobs(most=3, code=3)
    with pytest.raises(OptionError, match="2 options are wrong: most is .*; unknown option 'codes'.*'code'"):
        make(Knobs, {"most": 3, "code": 3, "codes": 3})


def test_a_name_cannot_be_an_option_and_an_earlier_name():
    with pytest.raises(TypeError, match=r"Both: \['width'\] are options, and earlier names of others"):

        @options
        class Both:
            width: int = param(1, help="channels")
            hidden: int = param(1, help="hidden", formerly="width")


@pytest.mark.filterwarnings("error")
def test_names_of_today_say_nothing():
    assert Knobs(code=3, network="convolutional").code == 3
    for name in RENAMED:
        load_backend(name)()


@pytest.mark.parametrize(("backend", "old", "new", "value"), EACH)
def test_every_renamed_option_of_a_backend_goes_on_working(backend, old, new, value):
    kind = load_backend(backend)
    with pytest.warns(DeprecationWarning, match=f"the option {old} is now {new}"):
        assert kind(**{old: value}) == kind(**{new: value})


def test_the_earlier_value_of_svaes_network_is_understood():
    with pytest.warns(DeprecationWarning, match="architecture is now network"):
        assert load_backend("svae")(architecture="conv").network == "convolutional"


@pytest.fixture(scope="module")
def narrow():
    return toys.trained_cnn(), toys.pictures(32, seed=0)[0], xlens.MaskOptions(steps=2)


@pytest.fixture
def saved_before(narrow, tmp_path):
    """A lens as an earlier version saved it: other names in its file, everything else alike."""
    model, images, mask = narrow
    given = {"steps": 2, "hidden": 16, "class_code": 3, "network": "convolutional"}
    xlens.fit(model, images, "svae", mask=mask, progress=False, **given).save(tmp_path)
    facts = json.loads((tmp_path / "lens.json").read_text())
    names = {new: old for old, (new, _) in RENAMED["svae"].items()}
    facts["options"] = {names.get(key, key): value for key, value in facts["options"].items()}
    facts["options"]["architecture"] = "conv"
    return facts, tmp_path


def write(facts, folder):
    del facts["checksum"]
    facts["checksum"] = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    (folder / "lens.json").write_text(json.dumps(facts))


@pytest.mark.filterwarnings("ignore::xlens.errors.XlensWarning")
def test_fit_takes_an_earlier_name(narrow):
    model, images, mask = narrow
    with pytest.warns(DeprecationWarning, match="SVAE: the option evidence is now class_code") as said:
        explainer = xlens.fit(model, images, "svae", steps=1, hidden=16, evidence=3, mask=mask, progress=False)
    assert [one.filename for one in said if one.category is DeprecationWarning] == [__file__]
    assert explainer.backend.class_code == 3
    assert explainer.lens.model.evidence == 3


@pytest.mark.filterwarnings("ignore::xlens.errors.XlensWarning")
def test_a_lens_saved_under_earlier_names_is_loaded(narrow, saved_before):
    facts, folder = saved_before
    write(facts, folder)
    with pytest.warns(DeprecationWarning, match="architecture is now network"):
        again = xlens.load(folder, narrow[0])
    assert (again.backend.class_code, again.backend.hidden, again.backend.network) == (3, 16, "convolutional")
    again.save(folder)
    assert "architecture" not in (folder / "lens.json").read_text()


@pytest.mark.filterwarnings("ignore::xlens.errors.XlensWarning", "ignore::DeprecationWarning")
def test_a_lens_saved_under_names_that_never_were_is_refused(narrow, saved_before):
    facts, folder = saved_before
    facts["options"]["architekture"] = facts["options"].pop("architecture")
    write(facts, folder)
    with pytest.raises(StorageError, match="does not know this lens's options.*architekture"):
        xlens.load(folder, narrow[0])
