"""A hidden layer of the classifier, and what follows it."""

from __future__ import annotations

from collections import namedtuple

import pytest
import torch
import torch.nn.functional as F
from guard import unchanged
from torch import nn

from xlens import Classifier
from xlens.errors import ModelError

X = torch.randn(5, 1, 4, 4, generator=torch.Generator().manual_seed(0))


def seeded(make):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make()


class Residual(nn.Module):
    """Functional operations and a skip connection that ends before the hidden layer `second`."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.third = nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(4, 3)

    def forward(self, inputs):
        hidden = self.second(F.relu(self.first(inputs)))
        hidden = F.relu(hidden + self.third(F.relu(hidden)))
        return self.head(hidden.mean((2, 3)))

    def after(self, hidden, _inputs):
        hidden = torch.relu(hidden + self.third(torch.relu(hidden)))
        return self.head(hidden.mean((2, 3)))


class Around(Residual):
    """A skip connection leads around the hidden layer, from the input side."""

    def forward(self, inputs):
        early = F.relu(self.first(inputs))
        return self.head((self.second(early) + early).mean((2, 3)))

    def after(self, hidden, inputs):
        return self.head((hidden + torch.relu(self.first(inputs))).mean((2, 3)))


class Twice(Residual):
    """The hidden layer runs twice; its last run is meant."""

    def forward(self, inputs):
        hidden = self.second(F.relu(self.second(F.relu(self.first(inputs)))))
        return self.head(hidden.tanh().mean((2, 3)))

    def after(self, hidden, _inputs):
        return self.head(hidden.tanh().mean((2, 3)))


class TwiceAround(Residual):
    """The layer runs twice and both runs reach the output."""

    def forward(self, inputs):
        once = self.second(F.relu(self.first(inputs)))
        return self.head((self.second(once.tanh()) + once).mean((2, 3)))

    def after(self, hidden, inputs):
        return self.head((hidden + self.second(torch.relu(self.first(inputs)))).mean((2, 3)))


class Dynamic(Residual):
    """Control flow that depends on the values, which cannot be traced."""

    def forward(self, inputs):
        hidden = self.second(F.relu(self.first(inputs)))
        hidden = hidden.tanh() if hidden.sum() > 1e9 else hidden.sin()
        return self.head(hidden.mean((2, 3)))

    def after(self, hidden, _inputs):
        return self.head(hidden.sin().mean((2, 3)))


class InPlace(Residual):
    """What follows the hidden layer overwrites its output."""

    def forward(self, inputs):
        hidden = F.relu(self.second(F.relu(self.first(inputs), inplace=True)), inplace=True)
        return self.head(hidden.mean((2, 3)))

    def after(self, hidden, _inputs):
        return self.head(torch.relu(hidden).mean((2, 3)))


class Statement(Residual):
    """An in-place operation whose result nobody takes."""

    def forward(self, inputs):
        hidden = self.second(F.relu(self.first(inputs)))
        hidden.clamp_(min=-0.01)
        return self.head(hidden.mean((2, 3)))

    def after(self, hidden, _inputs):
        return self.head(hidden.clamp(min=-0.01).mean((2, 3)))


class Sizes(Residual):
    """The tail needs the size of the model's own input."""

    def forward(self, inputs):
        n = inputs.shape[0]
        hidden = self.second(F.relu(self.first(inputs)))
        return self.head(hidden.reshape(n, 4, -1).mean(2))

    def after(self, hidden, _inputs):
        return self.head(hidden.flatten(2).mean(2))


@pytest.mark.parametrize(
    ("architecture", "cut"),
    [(Residual, True), (Twice, True), (InPlace, True), (Statement, True), (Around, False), (TwiceAround, False),
     (Dynamic, False), (Sizes, False)],
)  # fmt: skip
def test_the_tail_is_right_and_cut_where_possible(architecture, cut):
    model = seeded(architecture).eval()
    classifier = Classifier(model, layer="second")
    hidden = classifier.activations(X).detach()
    assert torch.allclose(classifier.tail(hidden, X), classifier(X), atol=1e-6)
    edited = hidden + torch.randn(hidden.shape, generator=torch.Generator().manual_seed(1))
    kept = edited.clone().requires_grad_()
    runs = []
    handle = model.first.register_forward_hook(lambda *_: runs.append(1))
    found = classifier.tail(kept, X)
    handle.remove()
    assert bool(runs) != cut
    assert torch.allclose(found, model.after(edited.clone(), X), atol=1e-6)
    assert not torch.allclose(found, classifier(X), atol=1e-3)  # the edit has an effect at all
    assert torch.equal(kept, edited)
    assert torch.autograd.grad(found.sum(), kept)[0].abs().sum() > 0


def test_activations_are_those_before_an_in_place_operation():
    model = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, 6), nn.ReLU(inplace=True), nn.Linear(6, 2)))
    classifier = Classifier(model, layer="1")
    expected = X.flatten(1) @ model[1].weight.T + model[1].bias
    assert (expected < 0).any()
    assert torch.allclose(classifier.activations(X), expected, atol=1e-6)


def nested():
    inner = nn.Sequential(nn.Linear(16, 6), nn.ReLU(inplace=True), nn.Linear(6, 5))
    return nn.Sequential(nn.Flatten(), inner, nn.Tanh(), nn.Linear(5, 2)).eval()


@pytest.mark.parametrize("layer", ["1", "1.0", "1.1", "2", "3"])
def test_the_tail_of_a_nested_sequential(layer):
    model = seeded(nested)
    classifier = Classifier(model, layer=layer)
    hidden = classifier.activations(X).detach()
    chain = [("0", model[0]), ("1.0", model[1][0]), ("1.1", model[1][1]), ("1.2", model[1][2]),
             ("2", model[2]), ("3", model[3])]  # fmt: skip
    after = max(i for i, (name, _) in enumerate(chain) if name == layer or name.startswith(layer + "."))
    expected = edited = hidden + 0.5
    for _, module in chain[after + 1 :]:
        expected = module(expected.clone())
    assert torch.allclose(classifier.tail(edited, X), expected, atol=1e-6)


def test_a_module_that_stands_twice_in_a_sequential():
    shared = nn.Linear(16, 16)
    model = seeded(lambda: nn.Sequential(nn.Flatten(), shared, nn.Tanh(), shared, nn.Linear(16, 2)).eval())
    classifier = Classifier(model, layer="1")
    hidden = classifier.activations(X).detach()
    assert torch.allclose(hidden, shared(torch.tanh(shared(X.flatten(1)))), atol=1e-6)
    assert torch.allclose(classifier.tail(hidden + 1, X), model[4](hidden + 1), atol=1e-6)


def test_a_layer_can_be_named_by_itself():
    model = seeded(Residual)
    assert Classifier(model, layer=model.third).layer == "third"


def test_a_layer_that_does_not_exist_gets_a_suggestion():
    with pytest.raises(ModelError, match=r"no layer 'secnd'. Did you mean 'second'\?.*first, second, third, head"):
        Classifier(Residual(), layer="secnd")
    with pytest.raises(ModelError, match="not a module of this model"):
        Classifier(Residual(), layer=nn.Linear(2, 2))


def test_a_layer_that_does_not_run():
    model = Residual()
    model.unused = nn.Linear(2, 2)
    with pytest.raises(ModelError, match="'unused' did not run"):
        Classifier(model, layer="unused").activations(X)


class Packing(nn.Module):
    """Puts its map into something else, and something beside it."""

    def __init__(self, pack):
        super().__init__()
        self.linear, self.pack = nn.Linear(16, 6), pack

    def forward(self, inputs):
        return self.pack(self.linear(inputs))


class Unpacking(nn.Module):
    def __init__(self, pack, unpack):
        super().__init__()
        self.block, self.head, self.unpack = Packing(pack), nn.Linear(6, 2), unpack

    def forward(self, inputs):
        return self.head(self.unpack(self.block(inputs.flatten(1))).tanh())


Pair = namedtuple("Pair", "hidden weights")
PACKED = {
    "of one": (lambda h: (h,), lambda out: out[0]),
    "beside another": (lambda h: (h, h.mean(1)), lambda out: out[0]),
    "named": (lambda h: Pair(h, None), lambda out: out.hidden),
    "list": (lambda h: [h, None], lambda out: out[0]),
    "dict": (lambda h: {"found": h, "depth": 1}, lambda out: out["found"]),
    "words for it": (lambda h: {"a": h[:, :1], "last_hidden_state": h}, lambda out: out["last_hidden_state"]),
}


@pytest.mark.parametrize("packed", PACKED)
def test_a_layer_that_puts_out_a_tuple_or_a_dict(packed):
    model = seeded(lambda: Unpacking(*PACKED[packed]).eval())
    classifier = Classifier(model, layer="block")
    hidden = classifier.activations(X).detach()
    assert torch.equal(hidden, model.block.linear(X.flatten(1)))
    assert torch.allclose(classifier.tail(hidden + 1, X), model.head((hidden + 1).tanh()), atol=1e-6)
    assert classifier.decided_by_layer(X)
    assert torch.allclose(classifier.following(X[:1])(hidden - 1), model.head((hidden - 1).tanh()), atol=1e-6)


def test_what_a_layer_puts_out_beside_its_activations_is_a_path_around_them():
    model = seeded(lambda: Unpacking(lambda h: (h, h + 1), lambda out: out[0] * out[1]).eval())
    assert not Classifier(model, layer="block").decided_by_layer(X)


def test_a_layer_that_puts_out_no_tensor():
    model = seeded(lambda: Unpacking(lambda h: {"a": h, "b": h}, lambda out: out["a"]).eval())
    with pytest.raises(ModelError, match="did not run in the forward pass, or puts out no tensor"):
        Classifier(model, layer="block").activations(X)


def test_activations_without_a_layer():
    with pytest.raises(ModelError, match="no hidden layer was named"):
        Classifier(Residual()).activations(X)


def test_the_tail_leaves_no_hooks(trained):
    model = seeded(Around)
    classifier = Classifier(model, layer="second")
    with unchanged(model), classifier.frozen():
        classifier.tail(classifier.activations(X), X)
