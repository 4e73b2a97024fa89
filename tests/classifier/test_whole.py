"""The whole model: parts and tensors in lists, dicts and objects are frozen, put back, hashed and told apart."""

from __future__ import annotations

import functools
import json
import re
from collections import deque
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import xlens
from xlens import Classifier
from xlens.classifier import kept, whole
from xlens.classifier.fingerprint import identity_of
from xlens.classifier.frozen import frozen
from xlens.classifier.kept import is_result
from xlens.classifier.whole import buffers_of, held_by, modules_of, parameters_of
from xlens.errors import StorageError
from xlens.storage.lens_files import checksum
from xlens.testing.state import differing, model_state
from xlens.testing.world import pictures

X = pictures(48, seed=1)[0]
SHORT = {"steps": 2, "mask": xlens.MaskOptions(steps=1, pool=64), "progress": False}


class Slotted:
    __slots__ = ("part",)

    def __init__(self, part):
        self.part = part


WAYS = {
    "list": lambda part: [part],
    "dict in a tuple": lambda part: ({"a": part},),
    "object": lambda part: SimpleNamespace(inner=Slotted(part)),
    "bound": lambda part: functools.partial(part.forward),
}


class Hiding(nn.Module):
    """Keeps its backbone where torch does not look for modules."""

    def __init__(self, way="list", seed=0):
        super().__init__()
        torch.manual_seed(seed)
        backbone = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout(0.5))
        self.reach = {
            "list": lambda: self.hidden[0],
            "dict in a tuple": lambda: self.hidden[0]["a"],
            "object": lambda: self.hidden.inner.part,
            "bound": lambda: self.hidden,
        }[way]
        self.hidden = WAYS[way](backbone)
        torch.manual_seed(0)
        self.head = nn.Linear(256, 3)

    def forward(self, x):
        return self.head(self.reach()(x).flatten(1))


@pytest.mark.parametrize("way", WAYS)
def test_hidden_parts_are_frozen_and_put_back(way):
    model = Hiding(way).train()
    (hidden,) = [module for _, module in modules_of(model) if isinstance(module, nn.BatchNorm2d)]
    before = model_state(model)
    with Classifier(model).frozen(seed=0) as classifier:
        assert not hidden.training
        assert not hidden.weight.requires_grad
        assert torch.equal(classifier(X[:4]), classifier(X[:4]))
        hidden.running_mean.add_(1)
        hidden.register_forward_hook(lambda *_: None)
    assert not differing(before, model_state(model))
    assert hidden.training


def test_a_fit_changes_nothing_of_a_hidden_part_and_a_lens_knows_it(tmp_path):
    model = Hiding()
    before = model_state(model)
    xlens.fit(model, X, "svae", **SHORT).save(tmp_path)
    assert not differing(before, model_state(model))
    xlens.load(tmp_path, Hiding())
    with pytest.raises(StorageError, match="another classifier"):
        xlens.load(tmp_path, Hiding(seed=1))
    # A lens that was saved before they were looked at loads as it did.
    facts = json.loads((tmp_path / "lens.json").read_text())
    del facts["identity"], facts["checksum"]
    facts["fingerprint"] = Classifier(model).identity().before
    facts["checksum"] = checksum(facts)
    (tmp_path / "lens.json").write_text(json.dumps(facts))
    xlens.load(tmp_path, Hiding())


@pytest.mark.parametrize("way", WAYS)
def test_hidden_parts_are_in_the_fingerprint(way):
    prints = [Classifier(Hiding(way, seed)).fingerprint() for seed in (0, 0, 1)]
    assert prints[0] == prints[1] != prints[2]


def test_cycles_and_parts_with_several_owners_are_seen_once():
    model = Hiding()
    model.hidden += [model.hidden, model, model.head]
    model.head.around = SimpleNamespace(model=model)
    model.head.around.itself = model.head.around
    modules = [module for _, module in modules_of(model)]
    assert len(modules) == len({id(module) for module in modules}) == 6
    assert len(list(parameters_of(model))) == 6
    assert len(list(buffers_of(model))) == 3
    assert Classifier(model).fingerprint()


@pytest.mark.parametrize("shown", ["", ", bias=True"], ids=["torch 2.6", "torch 2.14"])
def test_an_ordinary_model_has_one_fingerprint_whatever_torch_shows(monkeypatch, shown):
    settings = f"2, eps=1e-05, momentum=0.1, affine=True{shown}, track_running_stats=True"
    monkeypatch.setattr(nn.BatchNorm1d, "extra_repr", lambda self: settings)
    layer = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    with torch.no_grad():
        for value in layer.parameters():
            value.fill_(0.5)
    identity = Classifier(layer).identity()
    assert identity.digest == identity.before == "173e2929af4fa6a04001585d909892c096f47ff73991b2dceab181a12a5d9791"


@pytest.mark.usefixtures("toy_installed")
def test_a_lens_saved_with_what_newer_torch_shows_is_loaded(fitted, trained, tmp_path, monkeypatch):
    norm = nn.BatchNorm2d.extra_repr
    fitted.save(tmp_path)
    monkeypatch.setattr(
        nn.BatchNorm2d, "extra_repr", lambda self: re.sub(", bias=True", "", norm(self)) + ", bias=True"
    )
    shown = Classifier(trained).identity(as_shown=True).digest
    assert shown != Classifier(trained).fingerprint() == fitted.fitted.bound.fingerprint
    facts = json.loads((tmp_path / "lens.json").read_text())
    del facts["checksum"]
    facts["fingerprint"] = shown
    (tmp_path / "lens.json").write_text(json.dumps({**facts, "checksum": checksum(facts)}))
    assert xlens.load(tmp_path, trained).backend.name == "toy"


def test_trainers_and_optimizers_are_no_part_of_a_model():
    model = nn.Linear(2, 2)
    model.optimizer = torch.optim.Adam(model.parameters())
    model.loader = torch.utils.data.DataLoader(torch.zeros(3, 2))
    model.prior = torch.distributions.Normal(torch.zeros(2), torch.ones(2))
    assert {name for name, _ in held_by(model)} == {"prior.loc", "prior.scale"}


class Withheld(nn.Module):
    """Leaves its backbone out of its state."""

    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.backbone = nn.Linear(64, 8)
        torch.manual_seed(0)
        self.head = nn.Linear(8, 3)
        self.register_state_dict_post_hook(self.withhold)

    @staticmethod
    def withhold(module, state, prefix, _metadata):
        for key in [key for key in state if key.startswith(f"{prefix}backbone")]:
            del state[key]

    def forward(self, x):
        return self.head(self.backbone(x.flatten(1)))


def test_parameters_that_a_hook_takes_out_of_the_state_are_in_the_fingerprint():
    prints = [Classifier(Withheld(seed)).fingerprint() for seed in (0, 0, 1)]
    assert prints[0] == prints[1] != prints[2]


def test_tensors_of_objects_are_constants():
    def model(value):
        layer = nn.Linear(2, 2)
        layer.box = SimpleNamespace(inner=Slotted(torch.tensor(value)))
        return Classifier(layer).identity()

    assert model(1.0).other_constants(model(1.0).constants) == []
    assert model(2.0).other_constants(model(1.0).constants) == ["box.inner.part ()"]


class Recording(nn.Module):
    """Leaves results in containers and objects, beside a constant."""

    def __init__(self, scale=1.0):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Linear(64, 3)
        self.maps, self.last, self.state = [], {"scale": torch.tensor(scale)}, SimpleNamespace(seen=None)

    def forward(self, x):
        out = self.net(x.flatten(1)) * self.last["scale"]
        self.maps.append(out.detach()[:1])
        self.last["out"] = self.state.seen = out.detach()
        return out


def test_results_in_containers_are_no_constants(tmp_path):
    own, other = Recording(), Recording()
    for model, parts in ((own, X[:8].split(4)), (other, X.split(4))):
        with torch.no_grad():
            [model(part) for part in parts]
    xlens.fit(own, X, "svae", **SHORT).save(tmp_path)
    xlens.load(tmp_path, other)
    with pytest.raises(StorageError, match="last.*scale"):
        xlens.load(tmp_path, Recording(2.0))


class Partly(nn.Module):
    def __init__(self, *, compiled):
        super().__init__()
        torch.manual_seed(0)
        body = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU())
        self.body = torch.compile(body, backend="eager") if compiled else body
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.body(x))


@pytest.mark.parametrize("first", [True, False])
def test_a_lens_goes_from_a_model_with_a_compiled_part_to_the_same_without_and_back(first, tmp_path):
    name = "body._orig_mod.1" if first else "body.1"
    lens = xlens.fit(Classifier(Partly(compiled=first), layer=name), X, "svae", steps=2, progress=False)
    lens.save(tmp_path)
    model = Partly(compiled=not first)
    again = xlens.load(tmp_path, model)
    assert again.classifier.layer == ("body.1" if first else "body._orig_mod.1")
    assert torch.equal(again.explain(X[:2]).scores, lens.explain(X[:2]).scores)
    with again.classifier.frozen():
        assert again.classifier.activations(X[:2]).shape == (2, 8)


class Collects(nn.Module):
    """A layer that has nothing but an empty list and a pair of numbers, and puts maps into them."""

    def __init__(self):
        super().__init__()
        self.maps, self.size = [], (2, 2)

    def forward(self, inputs):
        self.maps = [*self.maps[:1], inputs.detach() + 1]
        self.size = (inputs.detach() + 2, 2)
        self.new = inputs.detach() + 3
        return inputs


def test_what_a_forward_pass_puts_where_no_tensor_was_is_put_back_and_no_constant():
    layer = Collects()
    before = dict(vars(layer))
    for _ in range(2):
        with frozen(None, layer, 0):
            layer(torch.ones(1, 2))
            layer.maps.append(torch.ones(1))
        assert vars(layer) == before
        assert layer.maps == []
    assert all(is_result(layer, name) for name in ("maps[0]", "size[0]", "new"))
    layer.maps = [torch.ones(1)]
    assert not identity_of(layer, None, "logits").constants


def test_a_changed_tree_of_modules_is_noticed_between_two_entries():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    with frozen(None, model, 0):
        pass
    model[0] = nn.Sequential(nn.Linear(2, 2))
    model[1].hidden = [nn.BatchNorm1d(2)]
    with frozen(None, model, 0):
        assert not any(p.requires_grad for p in model[0].parameters())
        assert not model[1].hidden[0].training
        model[1].hidden[0].running_mean.add_(1)
    assert all(p.requires_grad for p in model[0].parameters())
    assert model[1].hidden[0].training
    assert not model[1].hidden[0].running_mean.any()


def test_an_entry_looks_into_each_plain_module_once(monkeypatch):
    model, looked = nn.Sequential(*[nn.Conv2d(1, 1, 1) for _ in range(20)]), []
    for module in (whole, kept):
        look = module.kept_in
        monkeypatch.setattr(module, "kept_in", lambda one, look=look: looked.append(one) or look(one))
    with frozen(None, model, 0):
        pass
    assert len(looked) == 21


class Remembers(nn.Module):
    """A layer that writes into what it keeps, of every kind of container."""

    def __init__(self):
        super().__init__()
        self.seen, self.last, self.sizes, self.recent = [torch.ones(1)], {"a": 1}, {2}, deque([0, 0], maxlen=2)

    def forward(self, inputs):
        self.seen.append(inputs * 2)
        self.last["a"] = self.last["b"] = inputs * 3
        self.sizes |= {len(inputs)}
        self.recent.append(float(inputs.sum()))
        return inputs * self.seen[0]


def test_containers_that_a_forward_pass_writes_into_are_put_back():
    layer = Remembers()
    model = nn.Sequential(nn.Flatten(), layer, nn.Linear(64, 2))
    parts = {
        name: (value, value.copy()) for name, value in vars(layer).items() if name in ("last", "sizes", "recent")
    }
    first, seen = layer.seen[0], layer.seen
    lens = xlens.fit(model, X, "svae", **SHORT)
    with pytest.raises(RuntimeError), frozen(None, model, 0), frozen(None, model, 0):
        model(X[:2])
        raise RuntimeError
    lens.explain(X[:2], n_steps=2, tolerance=0.9)
    assert layer.seen is seen
    assert len(seen) == 1
    assert seen[0] is first
    for name, (container, content) in parts.items():
        assert getattr(layer, name) is container
        assert container == content
