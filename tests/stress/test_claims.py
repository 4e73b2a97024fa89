"""Files whose fields, with right checksums, claim more than they hold: refused before that is made."""

from __future__ import annotations

import json
import resource
import time
import warnings
from contextlib import contextmanager

import forged
import pytest
import torch
from ours import OPTIONS, around
from tasks import Task
from torch import nn

import xlens
from xlens.errors import StorageError
from xlens.explanation import Explanation
from xlens.files.building import Built
from xlens.report.page import to_html
from xlens.storage.kinds import facts_faults
from xlens.testing.world import World

#: Megabytes and seconds that an honest file of this size takes many times over.
MEGABYTES, SECONDS = 600, 20


class Wide(nn.Module):
    """A classifier of inputs of any size, with more channels than its inputs have."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1))

    def forward(self, inputs):
        bright = 20 * inputs.mean((1, 2, 3))[:, None]
        return self.body(inputs).mean((2, 3))[:, :2] + torch.cat([bright, -bright], 1)


@contextmanager
def refused(words):
    """Within this context a StorageError comes, soon and without much memory."""
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    with pytest.raises(StorageError, match=words) as said:
        yield said
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < MEGABYTES
    assert time.perf_counter() - began < SECONDS


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return Wide().eval()


@pytest.fixture(scope="module")
def lens(model, tmp_path_factory):
    """A saved lens that takes any size, and has a mask."""
    path = tmp_path_factory.mktemp("claims") / "lens"
    inputs = World.of((1, 8, 8)).inputs[:64]
    inputs = torch.nn.functional.interpolate(inputs - inputs.mean(), (16, 16))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        xlens.fit(model, inputs, "infill", progress=False, **OPTIONS["infill"][0]).save(path)
    return path, forged.facts_of(path)


#: Shapes of inputs: too large themselves, too large within the classifier, and in one side.
SHAPES = [(1, 9000, 9000), (1, 4000, 4000), (1, 2000, 2000), (1, 8, 2**20)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_shape_at_which_the_classifier_would_be_run(model, lens, shape):
    path, facts = lens
    forged.write_facts(path, {**facts, "masked": True, "spec": {**facts["spec"], "shape": shape}})
    with refused(r"than it may when.*max_bytes=(\d+)") as said:
        xlens.load(path, model)
    # And the limit that is said lets it in, as far as what comes next.
    most = int(str(said.value).partition("max_bytes=")[2].partition(")")[0])
    assert most > 2**28


def test_a_shape_at_which_a_layer_would_be_run(model, tmp_path):
    world, path = World.of((1, 8, 8)), tmp_path / "lens"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        small = OPTIONS["ilvm"][0] | {"steps": 1}
        xlens.fit(around(world.model(), "ilvm"), world.inputs[:64], "ilvm", progress=False, **small).save(path)
    facts = forged.facts_of(path)
    forged.write_facts(path, {**facts, "spec": {**facts["spec"], "shape": (1, 7000, 7000)}})
    with refused("than it may when|does not take|cannot build|another classifier"):
        xlens.load(path, around(world.model(), "ilvm"))


def test_channels_from_which_a_bank_of_patches_would_be_made(model, lens):
    path, facts = lens
    wide = {name: [0.0] * 3000 for name in ("minimum", "maximum", "mean", "std")}
    forged.write_facts(path, {**facts, "real": 3, "spec": {**facts["spec"], "shape": (3000, 8, 8), **wide}})
    with refused("than it may when|do not fit|cannot build"):
        xlens.load(path, model)


def test_a_size_that_images_would_be_given(lens):
    facts = {**lens[1], "preprocessing": {"size": [8000, 8000], "mode": "grey", "mean": [0.0], "std": [1.0]}}
    assert "preprocessing makes inputs of (8000, 8000)" in "; ".join(facts_faults(facts))
    facts["preprocessing"]["size"] = [16, 16]
    assert not facts_faults(facts)


def test_an_honest_lens_does_not_meet_the_limit(model, lens):
    path, facts = lens
    forged.write_facts(path, facts)
    xlens.load(path, model, max_bytes=2**22)


def test_what_is_computed_is_counted_before_it_is_made():
    weights, inputs = torch.zeros(64, 1, 3, 3), torch.zeros(1, 1, 1000, 1000)
    counting = Built(2**29, "this lens")
    with counting:
        torch.nn.functional.conv2d(inputs, weights)
        # Views, and what is written in place, take nothing.
        inputs.expand(10**6, 1, 1000, 1000)
        inputs.add_(1)
    assert counting._computed == 64 * 998 * 998 * 4
    for make in (
        lambda: torch.nn.functional.conv2d(inputs.expand(100, 1, 1000, 1000), weights),
        lambda: torch.nn.functional.interpolate(inputs, scale_factor=100),
        lambda: inputs.view(-1, 1) * inputs.view(1, -1),
        lambda: torch.cat([inputs] * 1000),
        lambda: torch.zeros_like(inputs.expand(10**6, 1, 1000, 1000)),
    ):
        with refused("more to be computed"), Built(2**28, "this lens"):
            make()


def hollow(tensors):
    """Yield files of tensors of which one holds nothing and has sides as long as memory."""
    for key, tensor in tensors.items():
        if tensor.dim() > 1:
            yield {**tensors, key: tensor.new_zeros(len(tensor), 0, 2**26)}


def twice(plain, key="0"):
    """Return facts in which every tensor is one and the same."""
    if isinstance(plain, dict):
        return {"__tensor__": key} if "__tensor__" in plain else {k: twice(v, key) for k, v in plain.items()}
    return [twice(part, key) for part in plain] if isinstance(plain, list) else plain


@pytest.mark.usefixtures("toy_installed")
def test_tensors_of_an_explanation_that_hold_nothing_or_are_everywhere(fitted, images, tmp_path):
    path = tmp_path / "why"
    fitted.explain(images[:2]).save(path)
    tensors, plain, kind = forged.tree_of(path)
    for one in hollow(tensors):
        forged.write_tree(path, one, json.dumps(plain), kind)
        with refused("truncated or damaged"):
            to_html(Explanation.load(path))
    forged.write_tree(path, tensors, json.dumps(twice(plain)), kind)
    with refused("truncated or damaged"):
        Explanation.load(path)


def test_tensors_and_places_of_a_checkpoint(tmp_path):
    Task(output_dir=tmp_path).fit()
    path = tmp_path / "toy.checkpoint"
    tensors, plain, kind = forged.tree_of(path)
    again = Task(output_dir=tmp_path, resume=True)
    for one in hollow(tensors):
        forged.write_tree(path, one, json.dumps(plain), kind)
        with refused("truncated or damaged"):
            again.fit()
    forged.write_tree(path, tensors, json.dumps(twice(plain)), kind)
    with refused("truncated or damaged"):
        again.fit()
    # Of an indexed stream, and where the data end before.
    for position in (10**15, -1):
        forged.write_tree(
            path, tensors, json.dumps(forged.with_field(plain, ("stream", "position"), position)), kind
        )
        with refused("does not fit what is trained"):
            again.fit()
