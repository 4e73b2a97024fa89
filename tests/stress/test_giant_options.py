"""Lenses whose options ask for giant networks, with right checksums: refused before these are built."""

from __future__ import annotations

import functools
import resource
import time
import warnings

import forged
import pytest
from ours import OPTIONS, around, mask_for

import xlens
from xlens.errors import OptionError, StorageError
from xlens.testing.world import World


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("svae", {"hidden": 10**9}),
        ("svae", {"nuisance_code": 10**12}),
        ("jlvm", {"hidden": 2**40}),
        ("medxgan", {"width": 10**8}),
        ("introvac", {"code": 10**10}),
        ("ilvm", {"layers": 10**9}),
        ("dif", {"hidden": 10**9}),
        ("infill", {"words": 10**10}),
    ],
)
def test_options_that_ask_for_giant_networks(tmp_path, name, asked):
    model, path = World.of((1, 8, 8)).model(), tmp_path / "lens"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lens_of(name).save(path)
    facts = forged.facts_of(path)
    forged.write_facts(path, {**facts, "options": {**facts["options"], **asked}})
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    with pytest.raises(StorageError, match=r"would become larger than it may.*max_bytes=(\d+)") as said:
        xlens.load(path, around(model, name), strict=False)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 600
    assert time.perf_counter() - began < 20
    assert int(str(said.value).partition("max_bytes=")[2].partition(")")[0]) > 2**28


@functools.cache
def lens_of(name):
    world = World.of((1, 8, 8))
    small = OPTIONS[name][0] | ({"steps": 1} if "steps" in OPTIONS[name][0] else {})
    mask = mask_for(name, xlens.MaskOptions(steps=1, pool=64))
    return xlens.fit(around(world.model(), name), world.inputs[:64], name, mask=mask, progress=False, **small)


def test_the_limit_of_a_lens_can_be_lifted_and_an_honest_one_does_not_meet_it(tmp_path):
    model, path = World.of((1, 8, 8)).model(), tmp_path / "lens"
    lens_of("svae").save(path)
    xlens.load(path, model)
    for more in (2**20, 10**400):
        xlens.load(path, model, max_bytes=more)
    facts = forged.facts_of(path)
    forged.write_facts(path, {**facts, "options": {**facts["options"], "hidden": 2000}})
    with pytest.raises(StorageError, match="would become larger"):
        xlens.load(path, model, max_bytes=2**20)
    with pytest.raises(StorageError, match="do not fit the lens"):
        xlens.load(path, model)
    for odd in (0, -1, 1.5, "many", None):
        with pytest.raises(OptionError, match="max_bytes must be a number of bytes"):
            xlens.load(path, model, max_bytes=odd)
