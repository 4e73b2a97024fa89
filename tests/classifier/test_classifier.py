"""The classifier: logits whatever the model returns, hidden layers, freezing, fingerprint."""

from __future__ import annotations

import copy
import random
import warnings
from collections import OrderedDict
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from guard import state, unchanged
from torch import nn

from xlens import Classifier
from xlens.errors import ModelError

X = torch.randn(5, 1, 4, 4, generator=torch.Generator().manual_seed(0))


def seeded(make):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make()


class Wrapped(nn.Module):
    """A linear model whose output is put into some form."""

    def __init__(self, form, outputs=3):
        super().__init__()
        self.linear = nn.Linear(16, outputs)
        self.form = form

    def forward(self, inputs):
        return self.form(self.linear(inputs.flatten(1)))


class HuggingFaceLike(OrderedDict):
    """A dict with attributes, as transformers returns."""

    @property
    def logits(self):
        return self["logits"]


# --- what models return ---------------------------------------------------------------------------

FORMS = {
    "tensor": lambda out: out,
    "tuple": lambda out: (out, "state"),
    "dict with logits": lambda out: {"hidden": out + 9, "logits": out},
    "dict with one tensor": lambda out: {"scores": out, "name": "x"},
    "object": lambda out: SimpleNamespace(logits=out, loss=None),
    "hugging face": lambda out: HuggingFaceLike(loss=out.sum(), logits=out),
}


@pytest.mark.parametrize("form", FORMS)
def test_logits_are_unwrapped(form):
    model = seeded(lambda: Wrapped(FORMS[form]))
    expected = X.flatten(1) @ model.linear.weight.T + model.linear.bias
    assert torch.allclose(Classifier(model)(X), expected, atol=1e-6)


@pytest.mark.parametrize("form", [lambda out: out, lambda out: out.squeeze(1), lambda out: {"logits": out}])
@pytest.mark.parametrize("n", [5, 1])
def test_a_single_logit_becomes_two_classes(form, n):
    model = seeded(lambda: Wrapped(form, 1))
    positive = torch.sigmoid(X[:n].flatten(1) @ model.linear.weight.T + model.linear.bias)
    classifier = Classifier(model)
    assert classifier(X[:n]).shape == (n, 2)
    assert torch.allclose(classifier.probabilities(X[:n]), torch.cat([1 - positive, positive], 1), atol=1e-6)


@pytest.mark.parametrize("outputs", [1, 3])
def test_a_model_that_squeezes_a_batch_of_one(outputs):
    plain = seeded(lambda: Wrapped(lambda out: out, outputs))
    squeezing = seeded(lambda: Wrapped(lambda out: out.squeeze(), outputs))
    assert torch.equal(Classifier(squeezing)(X[:1]), Classifier(plain)(X[:1]))


def test_probabilities_come_back_as_they_were():
    model = seeded(lambda: Wrapped(lambda out: out.softmax(1)))
    found = Classifier(model, outputs="probabilities").probabilities(X)
    assert torch.allclose(found, model(X), atol=1e-6)


@pytest.mark.parametrize("form", [torch.sigmoid, lambda out: torch.sigmoid(out).squeeze(1)])
def test_one_probability_is_that_of_class_one(form):
    model = seeded(lambda: Wrapped(form, 1))
    found = Classifier(model, outputs="probabilities").probabilities(X)
    assert torch.allclose(found[:, 1], model(X).view(-1), atol=1e-6)
    assert torch.allclose(found.sum(1), torch.ones(5))


def test_certain_probabilities_give_finite_logits():
    model = Wrapped(lambda out: F.one_hot(out.argmax(1), 3).float())
    assert Classifier(model, outputs="probabilities")(X).isfinite().all()


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (lambda out: [out], "cannot find the logits in what the model returns. Given: list"),
        (lambda out: None, "Given: NoneType"),
        (lambda out: {"a": out, "b": out}, r"dict with keys \['a', 'b'\]"),
        (lambda out: out[:3], r"shape \(3, 3\) for 5 inputs"),
        (lambda out: out[..., None], r"shape \(5, 3, 1\)"),
        (lambda out: out[:, :0], r"shape \(5, 0\)"),
    ],
)
def test_unusable_outputs_are_refused(form, message):
    with pytest.raises(ModelError, match=message):
        Classifier(Wrapped(form))(X)


@pytest.mark.parametrize("model", [lambda x: x, "resnet", None, nn.Linear])
def test_only_modules_are_accepted(model):
    with pytest.raises(ModelError, match="not a torch.nn.Module"):
        Classifier(model)


def test_outputs_is_checked():
    with pytest.raises(ModelError, match="'logits' or 'probabilities'"):
        Classifier(nn.Linear(2, 2), outputs="probs")


@pytest.mark.parametrize(
    ("dtype", "result", "slack"),
    [(torch.float64, torch.float64, 1e-6), (torch.bfloat16, torch.float32, 0.1)],
)
def test_other_precisions(dtype, result, slack):
    model = seeded(lambda: Wrapped(lambda out: out))
    expected = model(X)
    inputs = X.clone().requires_grad_()
    found = Classifier(model.to(dtype))(inputs)
    assert found.dtype == result
    assert torch.allclose(found.float(), expected, atol=slack)
    (gradient,) = torch.autograd.grad(found.sum(), inputs)
    assert gradient.dtype == torch.float32
    assert gradient.isfinite().all()


@pytest.mark.parametrize("inplace", [True, False])
def test_a_leading_in_place_operation_leaves_the_inputs_alone(inplace):
    model = nn.Sequential(nn.ReLU(inplace=inplace), nn.Flatten(), nn.Linear(16, 2))
    inputs = X.clone().requires_grad_()
    Classifier(model)(inputs).sum().backward()
    assert torch.equal(inputs, X)
    assert (inputs.grad[X < 0] == 0).all()


# --- hidden layers --------------------------------------------------------------------------------


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


def test_activations_without_a_layer():
    with pytest.raises(ModelError, match="no hidden layer was named"):
        Classifier(Residual()).activations(X)


def test_the_tail_leaves_no_hooks(trained):
    model = seeded(Around)
    classifier = Classifier(model, layer="second")
    with unchanged(model), classifier.frozen():
        classifier.tail(classifier.activations(X), X)


# --- freezing -------------------------------------------------------------------------------------


@pytest.fixture
def messy(trained):
    """A copy to be spoilt, with gradients in place (copying drops them)."""
    model = copy.deepcopy(trained)
    model.head.bias.grad = torch.tensor([1.0, torch.nan, 0.0])
    return model


def spoil(model: nn.Module) -> None:
    """Do everything to a model that a fit might."""
    for module in model.modules():
        module.train()
    model.head.bias.grad.add_(1)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
        parameter.grad = torch.ones_like(parameter)
        with torch.no_grad():
            parameter.add_(1)
    model.body[1].running_mean.add_(1)
    model.body[1].running_var = torch.zeros(8)
    model.head.register_forward_hook(lambda *_: None)
    model.register_forward_pre_hook(lambda *_: None)
    model.head.weight.register_hook(lambda grad: grad)
    model.head._forward_hooks.popitem(last=False)
    random.random()
    np.random.rand()
    torch.rand(1)


def test_the_guard_sees_every_change(messy):
    before = state(messy)
    spoil(messy)
    after = state(messy)
    kinds = {key.rsplit(": ", 1)[-1] for key in before if before[key] != after[key]}
    assert {"value", "training", "requires_grad", "grad", "buffer", "_forward_hooks"} <= kinds
    assert {"rng.torch", "rng.numpy", "rng.python"} <= kinds


@pytest.mark.parametrize("fault", [None, RuntimeError, KeyboardInterrupt, SystemExit])
def test_everything_is_restored(messy, fault):
    with unchanged(messy):
        with pytest.raises(fault) if fault else nullcontext(), Classifier(messy).frozen(seed=3):
            spoil(messy)
            if fault:
                raise fault


def test_inside_the_model_is_in_eval_mode_without_gradients(messy):
    with Classifier(messy).frozen() as classifier:
        assert not any(module.training for module in messy.modules())
        assert not any(parameter.requires_grad for parameter in messy.parameters())
        assert torch.equal(classifier(X), classifier(X))


def test_contexts_nest(messy):
    classifier = Classifier(messy)
    with unchanged(messy):
        with classifier.frozen(seed=1):
            with unchanged(messy), pytest.raises(ZeroDivisionError), classifier.frozen(seed=2):
                spoil(messy)
                raise ZeroDivisionError
            assert not any(module.training for module in messy.modules())


def test_the_seed_decides_inside(trained):
    def draw(seed):
        with Classifier(trained).frozen(seed=seed):
            return torch.rand(1).item(), np.random.rand(), random.random()

    assert draw(1) == draw(1)
    assert all(a != b for a, b in zip(draw(1), draw(2), strict=True))


class Hostile(nn.Module):
    """Counts in a buffer and draws from the global generators, also in eval mode."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(16, 2)
        self.register_buffer("count", torch.zeros(()))
        self.register_buffer("replaced", torch.zeros(3))

    def forward(self, inputs):
        self.count += 1
        self.replaced = self.replaced + torch.rand(3)
        random.random(), np.random.rand()
        return self.linear(inputs.flatten(1))


def test_a_model_that_writes_its_buffers_in_eval_mode():
    model = Hostile()
    with unchanged(model), Classifier(model).frozen() as classifier:
        classifier(X)
        assert model.count == 1


def test_a_torchscript_model_can_be_frozen():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, but models are still handed over in it
        model = torch.jit.script(Around())
    with unchanged(model), Classifier(model).frozen() as classifier:
        assert not model.training
        assert torch.equal(classifier(X), classifier(X))
    assert model.training


# --- fingerprint ----------------------------------------------------------------------------------


def test_equal_models_have_one_fingerprint(trained):
    model = copy.deepcopy(trained).eval()
    assert Classifier(model).fingerprint() == Classifier(trained).fingerprint()


def flip_a_bit(model):
    with torch.no_grad():
        model.head.weight.view(torch.int32)[0, 0] ^= 1


@pytest.mark.parametrize(
    "change",
    [flip_a_bit, lambda m: m.body[1].running_var.add_(1e-3), lambda m: m.double(),
     lambda m: m.body.__setitem__(4, nn.Sigmoid())],
)  # fmt: skip
def test_the_fingerprint_sees_a_changed_model(trained, change):
    model = copy.deepcopy(trained)
    change(model)
    assert Classifier(model).fingerprint() != Classifier(trained).fingerprint()


def test_the_fingerprint_sees_layer_and_outputs(trained):
    kinds = [
        Classifier(trained),
        Classifier(trained, layer="head"),
        Classifier(trained, layer="body.3"),
        Classifier(trained, outputs="probabilities"),
    ]
    assert len({kind.fingerprint() for kind in kinds}) == 4


def test_classes_of_the_same_name_are_told_apart_by_their_index() -> None:
    named = Classifier(nn.Linear(2, 3), class_names=("cat", "dog", "cat"))
    assert named.names(3) == ("cat (class 0)", "dog", "cat (class 2)")
    assert named.class_names == ("cat", "dog", "cat")
    assert Classifier(nn.Linear(2, 2)).names(2) == ("class 0", "class 1")
