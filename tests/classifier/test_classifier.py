"""The classifier: logits whatever the model returns."""

from __future__ import annotations

from collections import OrderedDict
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
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
    with pytest.raises(ModelError, match="'logits', 'probabilities', 'multilabel'"):
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


def test_classes_of_the_same_name_are_told_apart_by_their_index() -> None:
    named = Classifier(nn.Linear(2, 3), class_names=("cat", "dog", "cat"))
    assert named.names(3) == ("cat (class 0)", "dog", "cat (class 2)")
    assert named.class_names == ("cat", "dog", "cat")
    assert Classifier(nn.Linear(2, 2)).names(2) == ("class 0", "class 1")
