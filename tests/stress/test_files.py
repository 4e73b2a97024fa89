"""Files that were damaged, forged, or written by somebody who was stopped: an error in words, or a whole lens."""

from __future__ import annotations

import copy
import dataclasses
import errno
import itertools
import os
import random
import shutil
import warnings

import forged
import pytest
import torch

import xlens
from xlens.errors import XlensError
from xlens.explanation import Explanation
from xlens.report.page import to_html

pytestmark = pytest.mark.usefixtures("toy_installed")


@pytest.fixture(scope="module")
def explained(fitted, images):
    return fitted.explain(images[:3])


@pytest.fixture
def folder(fitted, tmp_path):
    fitted.save(tmp_path / "lens")
    return tmp_path / "lens"


@pytest.fixture
def why(explained, tmp_path):
    explained.save(tmp_path / "why")
    return tmp_path / "why"


def outcome(act):
    """Return None where it works or is refused in words, and else what was raised."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            act()
    except XlensError:
        return None
    except Exception as fault:  # noqa: BLE001 - that is what is looked for
        return f"{type(fault).__name__}: {fault}"[:200]
    return None


def load_and_use(path, model, inputs):
    """Load a lens, and ask of it what a person asks."""
    explainer = xlens.load(path, model)
    explainer.explain(inputs, n_steps=2)
    repr(explainer)
    explainer.fitted.mask_options  # noqa: B018
    "".join(explainer.class_names).encode()


def shown(path):
    """Load an explanation, and show it."""
    explanation = Explanation.load(path)
    repr(explanation), explanation[0], explanation.fidelity.to_markdown()
    to_html(explanation)


def lens_cases():
    places = [*forged.places(EXAMPLE_FACTS)]
    return [(place, value) for place in places for value in (*forged.ODD, ...)]


#: The fields of a lens that lies alone, of which a test's lens has the values.
EXAMPLE_FACTS = {
    **dict.fromkeys(("format", "version", "contract", "masked", "backend", "layer", "outputs", "class_names")),
    **dict.fromkeys(("fingerprint", "tensors", "preprocessing", "over")),
    "options": {"strength": 1.0, "kind": "exact"},
    "spec": {
        **{"shape": [1, 8], "num_classes": 3, "minimum": [0.0], "maximum": [0.0], "mean": [0.0], "std": [0.0]},
        "class_margins": [[0.0, 0.0], [0.0, 0.0]],
    },
    "provenance": {"seed": 0, "supervision": "classifier", "mask": {}, "start_from": ""},
}


def few(cases, count):
    """Return some of many cases, the same ones each time, or all where XLENS_LONG is set."""
    cases = list(cases)
    return cases if os.environ.get("XLENS_LONG") else random.Random(0).sample(cases, min(count, len(cases)))


def test_fields_of_a_lens_with_right_checksums(folder, trained, images):
    facts, faults = forged.facts_of(folder), []
    cases = few(lens_cases(), 150)
    for place, value in cases:
        forged.write_facts(folder, forged.with_field(facts, place, value))
        if said := outcome(lambda: load_and_use(folder, trained, images[:2])):
            faults.append((place, value, said))
    print(f"{len(cases)} fields of a lens, {len(faults)} raw errors")
    assert not faults


def test_fields_in_the_tensors_header_with_right_checksums(folder, trained, images):
    path, faults = folder / "lens.safetensors", []
    (folder / "lens.json").unlink()
    tensors, plain, kind = forged.tree_of(path)
    cases = few(itertools.product(forged.places(plain), (*forged.ODD, ...)), 60)
    for place, value in cases:
        forged.write_tree(path, tensors, forged.json.dumps(forged.with_field(plain, place, value)), kind)
        if said := outcome(lambda: load_and_use(folder, trained, images[:2])):
            faults.append((place, value, said))
    print(f"{len(cases)} fields of a header, {len(faults)} raw errors")
    assert not faults


def test_fields_of_an_explanation_with_right_checksums(why):
    tensors, plain, kind = forged.tree_of(why)
    faults = []
    cases = few(itertools.product(forged.places(plain), (*forged.ODD, ...)), 150)
    for place, value in cases:
        forged.write_tree(why, tensors, forged.json.dumps(forged.with_field(plain, place, value)), kind)
        if said := outcome(lambda: shown(why)):
            faults.append((place, value, said))
    print(f"{len(cases)} fields of an explanation, {len(faults)} raw errors")
    assert not faults


def test_tensors_of_an_explanation_with_right_checksums(why):
    tensors, plain, kind = forged.tree_of(why)
    faults = []
    cases = few([(key, i) for key in tensors for i in range(6)], 60)
    for key, i in cases:
        odd = forged.odd_tensors(tensors[key])[i].clone().contiguous()
        forged.write_tree(why, {**tensors, key: odd}, forged.json.dumps(plain), kind)
        if said := outcome(lambda: shown(why)):
            faults.append((key, odd.dtype, tuple(odd.shape), said))
    print(f"{len(cases)} tensors of an explanation, {len(faults)} raw errors")
    assert not faults


@pytest.mark.parametrize("name", ["lens.json", "lens.safetensors", "why"])
def test_bytes(folder, why, trained, images, name):
    path = why if name == "why" else folder / name
    content, faults, draw = path.read_bytes(), [], random.Random(0)
    count = 3000 if os.environ.get("XLENS_LONG") else 60
    for _ in range(count):
        changed = bytearray(content)
        for _ in range(draw.choice((1, 1, 4, 40))):
            # Most of what is said stands at the beginning.
            changed[int(draw.random() ** 3 * len(changed))] = draw.randrange(256)
        at = draw.randrange(len(content))
        path.write_bytes(draw.choice((changed, changed[:at], changed + changed[at:])))
        if said := outcome(lambda: shown(why) if name == "why" else load_and_use(folder, trained, images[:2])):
            faults.append(said)
    print(f"{count} files of changed bytes, {len(faults)} raw errors")
    assert not faults


@pytest.mark.parametrize("levels", [70, 900, 3000, 200_000])
def test_deep_json(folder, why, trained, levels):
    text = forged.deep(levels)
    facts = {**forged.facts_of(folder), "options": 0}
    found = forged.json.dumps(facts).replace('"options": 0', f'"options": {text}')
    (folder / "lens.json").write_text(found[:-1] + ', "checksum": ""}')
    with pytest.raises(XlensError):
        xlens.load(folder, trained)
    tensors, _, kind = forged.tree_of(why)
    forged.write_tree(why, tensors, text, kind)
    with pytest.raises(XlensError):
        Explanation.load(why)


# --- writers that are stopped -------------------------------------------------------------------------


CALLS = ("open", "write", "fsync", "close", "replace", "unlink", "mkdir")


class Stopped(BaseException):
    """Stands for a kill: nothing that runs afterwards would have run."""


class Killed:
    """Makes the n-th call of the system's, and every one after it, fail: nothing is done any more."""

    def __init__(self, patch, at, fault, once=False):
        self.count, self.at = 0, at
        for name in CALLS:
            patch.setattr(os, name, self._wrapped(name, getattr(os, name), fault, once))

    def _wrapped(self, name, real, fault, once):
        def call(*given, **named):
            self.count += 1
            if self.count == self.at or (self.count > self.at and not once):
                if name == "close":
                    # The descriptor is gone, whatever close says, and so is that of a process that is killed.
                    real(*given, **named)
                raise fault
            return real(*given, **named)

        return call


def changed(fitted, by):
    """Return the same explainer, with other weights and another seed."""
    lens = copy.deepcopy(fitted.lens)
    with torch.no_grad():
        next(iter(lens.state_dict().values())).add_(by)
    return xlens.LensExplainer(
        dataclasses.replace(fitted.fitted, lens=lens, provenance={**fitted.provenance, "seed": by})
    )


def seed_in(folder, model, versions):
    """Return the seed of the lens that is loaded, once its tensors are known to be those of that seed."""
    found = xlens.load(folder, model)
    seed = found.provenance["seed"]
    expected = versions[seed].lens.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in found.lens.state_dict().items())
    return seed


def save_stopped(monkeypatch, explainer, folder, at, fault, once=False):
    """Save, stopped at a call of the system's, and return whether it was."""
    with monkeypatch.context() as patch:
        killed = Killed(patch, at, fault, once)
        try:
            explainer.save(folder)
        except (Stopped, XlensError):
            return True
        return killed.count >= at


def test_killed_at_every_call_and_then_again_a_lens_is_whole(fitted, trained, tmp_path, monkeypatch):
    versions = {seed: changed(fitted, seed) for seed in (1, 2, 3)}
    kills, saved = 0, tmp_path / "saved"
    versions[1].save(saved)
    # A third of the pairs: each call is the first, and each the second. The benchmark of faults has them all.
    ways = ((one, two) for one, two in itertools.product(range(1, 60), repeat=2) if (one + two) % 3 == 0)
    last = None
    for first, second in ways:
        if last is not None and (first > last or second > last):
            continue
        folder = tmp_path / f"{first}-{second}"
        shutil.copytree(saved, folder)
        if not save_stopped(monkeypatch, versions[2], folder, first, Stopped()):
            last = last or first
            continue
        assert seed_in(folder, trained, versions) in (1, 2)
        kills += 1
        if not save_stopped(monkeypatch, versions[3], folder, second, Stopped()):
            last = last or second
            continue
        assert seed_in(folder, trained, versions) in (1, 2, 3)
        kills += 1
        versions[1].save(folder)
        assert seed_in(folder, trained, versions) == 1
    print(f"{kills} kills, at each of {last} calls and then again")
    assert last > 10
    assert kills > 60


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
@pytest.mark.parametrize("what", ["lens", "explanation", "report"])
def test_a_full_disk_at_every_call(fitted, explained, trained, tmp_path, monkeypatch, number, what):
    versions = {seed: changed(fitted, seed) for seed in (1, 2)}
    for once in (True, False):
        for at in range(1, 60):
            path = tmp_path / f"{what}{number}{once}{at}"
            before, after = {
                "lens": (versions[1].save, versions[2].save),
                "explanation": (explained[0].save, explained.save),
                "report": (explained[0].save_html, explained.save_html),
            }[what]
            before(path)
            with monkeypatch.context() as patch:
                killed = Killed(patch, at, OSError(number, os.strerror(number)), once)
                said = outcome(lambda: after(path))  # noqa: B023
            assert said is None, (once, at, said)
            if killed.count < at:
                break
            if what == "lens":
                assert seed_in(path, trained, versions) in versions
            elif what == "explanation":
                assert len(Explanation.load(path)) in (1, 3)
            else:
                assert path.read_text().rstrip().endswith("</html>")
        assert at > 5
