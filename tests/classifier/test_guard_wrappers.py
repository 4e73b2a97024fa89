"""Wrappers are taken off in one place; copies and fingerprints of what people hand over."""

from __future__ import annotations

import copy
import threading
import warnings

import numpy as np
import pytest
import torch
from ours import OPTIONS
from torch import nn
from torch.nn.utils import parametrize
from torch.optim import swa_utils

import xlens
from xlens import Classifier
from xlens.classifier import copied
from xlens.classifier.wrappers import unwrapped
from xlens.errors import ModelError, StorageError
from xlens.metrics import shuffled_weights
from xlens.testing.state import differing, model_state
from xlens.testing.world import pictures, trained_cnn

X = torch.linspace(-1, 1, 2 * 64).view(2, 1, 8, 8)


@pytest.fixture(scope="module")
def model():
    return trained_cnn().eval()


@pytest.fixture(scope="module")
def ddp(model, tmp_path_factory):
    made = not torch.distributed.is_initialized()
    if made:
        where = tmp_path_factory.mktemp("group") / "file"
        torch.distributed.init_process_group("gloo", init_method=f"file://{where}", rank=0, world_size=1)
    yield nn.parallel.DistributedDataParallel(copy.deepcopy(model))
    if made:
        torch.distributed.destroy_process_group()


def eager(model):
    return torch.compile(model, backend="eager")


WRAPPERS = {
    "compiled": (eager, "_orig_mod."),
    "parallel": (nn.DataParallel, "module."),
    "both": (lambda model: eager(nn.DataParallel(model)), "_orig_mod.module."),
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_the_network_itself_is_asked(model, name):
    wrap, prefix = WRAPPERS[name]
    wrapped = wrap(model)
    assert unwrapped(wrapped) == (model, prefix)
    classifier = Classifier(wrapped, layer=f"{prefix}body.3")
    assert classifier.model is model
    assert classifier.layer == Classifier(wrapped, layer="body.3").layer == "body.3"
    assert Classifier(wrapped, layer=model.body[3]).layer == "body.3"
    assert classifier.fingerprint() == Classifier(model, layer="body.3").fingerprint()
    with torch.no_grad():
        wrapped(X)
        assert torch.equal(classifier.activations(X), Classifier(model, layer="body.3").activations(X))


def test_ddp_is_taken_off(ddp):
    classifier = Classifier(ddp)
    assert classifier.model is ddp.module
    assert torch.equal(copied(ddp, "test")(X), ddp.module(X))


def test_a_lens_goes_from_the_wrapper_to_the_bare_model_and_back(model, tmp_path):
    inputs, short = pictures(48, seed=1)[0], xlens.MaskOptions(steps=1, pool=64)
    for first, second in ((nn.DataParallel(model), model), (model, eager(model))):
        explainer = xlens.fit(first, inputs, "svae", steps=2, mask=short, progress=False)
        explainer.save(tmp_path)
        xlens.load(tmp_path, second)


@pytest.mark.parametrize("name", ["svae", "medxgan"])
def test_a_fit_around_a_wrapper_is_that_around_the_network(model, ddp, name):
    inputs, short = pictures(48, seed=1)[0], xlens.MaskOptions(steps=1, pool=64)
    small = {**OPTIONS[name][0], "steps": 2, "mask": short, "progress": False}
    expected = xlens.fit(model, inputs, name, **small).lens.state_dict()
    for wrapper in (eager(model), nn.DataParallel(model), ddp):
        found = xlens.fit(wrapper, inputs, name, **small).lens.state_dict()
        assert all(map(torch.equal, found.values(), expected.values()))


@pytest.mark.filterwarnings("ignore::xlens.errors.UntrustworthyWarning")
def test_a_critic_that_begins_as_a_model_which_keeps_results(model):
    kept = Keeps(copy.deepcopy(model)).train()
    kept(X)
    inputs = pictures(48, seed=1)[0]
    small = {**OPTIONS["medxgan"][0], "steps": 2, "mask": xlens.MaskOptions(steps=1, pool=64), "progress": False}
    explainer = xlens.fit(kept, inputs, "medxgan", **small)
    assert explainer.explain(inputs[:1], n_steps=2, tolerance=0.9).counterfactual.shape == (1, 1, 8, 8)
    assert kept.kept["aux"][0].requires_grad


def test_a_lightning_module_that_only_calls_the_network(model):
    lightning = pytest.importorskip("lightning")

    class Plain(lightning.LightningModule):
        def __init__(self, net):
            super().__init__()
            self.net, self.loss = net, nn.CrossEntropyLoss(torch.ones(3))

        def forward(self, x):
            """Return logits."""
            return self.net(x)

    class More(Plain):
        def forward(self, x):
            return self.net(x) * 2

    class Without(Plain):
        def forward(self, x):
            with torch.no_grad():
                return self.net(x)

    assert unwrapped(Plain(model)) == (model, "net.")
    assert Classifier(Plain(model), layer="net.body.3").layer == "body.3"
    for other in (More(model), Without(model)):
        assert Classifier(other).model is other
    hooked = Plain(model)
    hooked.register_forward_hook(lambda _module, _args, output: output + 1)
    assert Classifier(hooked).model is hooked


def lightning_modules(model):
    """Return LightningModules that only call the network, and others, by what their forward pass does."""
    base = pytest.importorskip("lightning").LightningModule

    class Holds(base):
        def __init__(self):
            super().__init__()
            self.net, self.loss, self.notes, self.head = model, nn.CrossEntropyLoss(torch.ones(3)), [], None

    class InTwoSteps(Holds):
        def forward(self, x):
            logits = self.net(x)
            if self.training:
                self.notes.append(logits)
            return logits

    class ByAHelper(Holds):
        def run(self, *args, **options):
            return self.net.forward(*args, **options)

        def forward(self, *args, **options):
            return self.run(*args, **options)

    class Noting(Holds):
        def forward(self, x):
            self.seen = x
            self.notes.append(torch.rand(1))
            return self.net(x) if self.head is None else self.head(self.net(x))

    class Scaled(Holds):
        def forward(self, x):
            return 2 * self.net(x)

    class Prepared(Holds):
        def forward(self, x):
            return self.net(x / 255)

    class WithoutGradients(Holds):
        @torch.no_grad()
        def forward(self, x):
            return self.net(x)

    class Casting(Holds):
        def forward(self, x):
            with torch.autocast("cpu"):
                return self.net(x)

    class Twice(Holds):
        def forward(self, x):
            self.net(x)
            return self.net(x)

    class Normalised(Holds):
        def forward(self, x, size=None):
            return self.net(nn.functional.interpolate(x, size) if size else x)

    class Tempered(Holds):
        def __init__(self):
            super().__init__()
            self.heat = nn.Parameter(torch.ones(()))

        def forward(self, x):
            logits = self.net(x)
            return logits

    class Both(Holds):
        def __init__(self):
            super().__init__()
            self.other = copy.deepcopy(model)

        def forward(self, x):
            return self.net(x) + self.other(x)

    certain = (InTwoSteps, ByAHelper, Noting, Normalised)
    return certain, (Scaled, Prepared, WithoutGradients, Casting, Twice, Tempered, Both)


def test_a_lightning_module_is_taken_off_where_it_is_certain_that_it_only_calls_the_network(model):
    certain, others = lightning_modules(model)
    state = torch.get_rng_state()
    for kind in certain:
        wrapped = kind()
        assert unwrapped(wrapped) == (model, "net."), kind
        assert not wrapped.notes
        assert "seen" not in vars(wrapped)
        assert torch.equal(Classifier(wrapped)(X), Classifier(model)(X))
    assert torch.equal(torch.get_rng_state(), state)
    for kind in others:
        wrapped = kind().eval()
        assert unwrapped(wrapped) == (wrapped, ""), kind
    given = certain[0]()
    given.forward = lambda x: model(x) + 1
    assert unwrapped(given) == (given, "")


@pytest.mark.parametrize("number", range(7))
def test_a_wrapper_that_is_kept_is_a_model_like_others(model, number):
    wrapped = lightning_modules(model)[1][number]()
    classifier = Classifier(wrapped, layer="net.body.3")
    assert classifier.model is wrapped
    before = model_state(wrapped)
    with classifier.frozen(), classifier.record(["net.body.3"]) as seen:
        assert torch.equal(classifier(X), wrapped(X))
    assert list(seen) == ["net.body.3"]
    assert not differing(before, model_state(wrapped))
    assert classifier.fingerprint() != Classifier(model, layer="body.3").fingerprint()
    with torch.no_grad():
        model.body[0].weight[0, 0, 0, 0] += 1
        changed = Classifier(wrapped, layer="net.body.3").fingerprint()
        model.body[0].weight[0, 0, 0, 0] -= 1
    assert changed != classifier.fingerprint()


def test_an_averaged_model_is_taken_off(model, tmp_path):
    averaged = swa_utils.AveragedModel(model)
    averaged.update_parameters(model)
    assert unwrapped(averaged) == (averaged.module, "module.")
    assert unwrapped(eager(swa_utils.AveragedModel(nn.DataParallel(model))))[1] == "_orig_mod.module.module."
    assert Classifier(averaged, layer="module.body.3").layer == "body.3"
    inputs = pictures(48, seed=1)[0]
    fitted = xlens.fit(averaged, inputs, "svae", steps=2, mask=xlens.MaskOptions(steps=1, pool=64), progress=False)
    fitted.save(tmp_path / "lens")
    xlens.load(tmp_path / "lens", averaged.module)
    averaged.register_forward_hook(lambda _module, _args, output: output + 1)
    assert unwrapped(averaged) == (averaged, "")


# --- copies ---------------------------------------------------------------------------------------


class Keeps(nn.Module):
    """Keeps what copying stumbles over: results of its training step, a lock, a hook into the program."""

    def __init__(self, net):
        super().__init__()
        self.net, self.kept, self.lock = net, {}, threading.Lock()
        self.register_forward_hook(self._look)

    def _look(self, *_):
        self.seen = True

    def forward(self, inputs):
        out = self.net(inputs)
        self.kept = {"aux": [out.square().mean()]}
        return out


def test_a_copy_shares_no_tensor_and_has_no_hooks(model):
    kept = Keeps(copy.deepcopy(model))
    kept(X)
    with pytest.raises((RuntimeError, TypeError)):
        copy.deepcopy(kept)
    other = copied(kept, "test")
    assert torch.equal(other(X), kept(X))
    assert not other._forward_hooks
    assert not shuffled_weights(kept)._forward_hooks
    own = {p.data_ptr() for p in kept.parameters()}
    assert not own & {p.data_ptr() for p in other.parameters()}
    with Classifier(kept).frozen():
        inside = copied(kept, "test")
    assert type(inside._forward_hooks) is type(kept._forward_hooks)


def test_what_cannot_be_copied_is_said(model):
    class Never(nn.Module):
        def __deepcopy__(self, memo):
            raise TypeError("there is one of me")

        def forward(self, x):
            return x

    with pytest.raises(ModelError, match="critic: the classifier cannot be copied.*there is one of me.*Try this"):
        copied(nn.Sequential(model, Never()), "critic", "Try this")


# --- identity -------------------------------------------------------------------------------------


def quantised(seed):
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.ReLU(), nn.Linear(5, 3))
        return torch.ao.quantization.quantize_dynamic(net, {nn.Linear}, torch.qint8)


class Extra(nn.Module):
    """Has a state beyond tensors, which decides its outputs."""

    def __init__(self, state):
        super().__init__()
        self.linear, self.state = nn.Linear(2, 2), state
        nn.init.ones_(self.linear.weight), nn.init.ones_(self.linear.bias)

    def get_extra_state(self):
        return self.state

    def set_extra_state(self, state):
        self.state = state


class Scaled(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, weight):
        return weight * self.factor


def scaled(factor):
    torch.manual_seed(0)
    layer = nn.Linear(2, 2)
    parametrize.register_parametrization(layer, "weight", Scaled(factor))
    return layer


def scripted(seed):
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.freeze(torch.jit.script(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).eval()))


def of(model):
    return Classifier(model).fingerprint()


@pytest.mark.parametrize(
    "make",
    [quantised, scaled, scripted, lambda n: Extra({"scale": [n, torch.tensor(n)]}), lambda n: Extra(bytes([n]))],
    ids=["packed weights", "parametrisation", "frozen script", "extra state", "extra bytes"],
)
def test_all_that_decides_outputs_is_in_the_fingerprint(make):
    assert of(make(1)) == of(make(1))
    assert of(make(1)) != of(make(2))
    assert not Classifier(make(1)).identity().unread


def test_state_that_cannot_be_read_is_not_taken_for_the_same(model, tmp_path):
    class Opaque(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = model

        def forward(self, x):
            return self.net(x)

        def get_extra_state(self):
            return object()

        def set_extra_state(self, state):
            pass

    own = Opaque()
    assert Classifier(own).identity().unread == ("_extra_state",)
    inputs, short = pictures(48, seed=1)[0], xlens.MaskOptions(steps=1, pool=64)
    xlens.fit(own, inputs, "svae", steps=2, mask=short, progress=False).save(tmp_path)
    with pytest.raises(StorageError, match="cannot be told.*_extra_state.*strict=False"):
        xlens.load(tmp_path, own)
    xlens.load(tmp_path, own, strict=False)


def test_a_frozen_script_can_be_asked():
    model = scripted(0)
    with Classifier(model).frozen(seed=0) as classifier:
        assert classifier(X).shape == (2, 3)


class Shifted(nn.Module):
    """Keeps tensors that decide outputs, and a result, where no state dict sees them."""

    def __init__(self, shift):
        super().__init__()
        self.net = trained_cnn().eval()
        self.shift, self.more, self.scale = torch.tensor(shift), [{"by": torch.ones(1)}], np.ones(1)
        self.last = None

    def forward(self, x):
        self.more[0]["by"].add_(1)
        out = self.net(x + self.shift)
        self.last = out.detach()
        return out


def test_tensors_that_are_plain_attributes_are_put_back():
    model = Shifted(0.5)
    before = [model.shift, model.more[0]["by"], model.last]
    with Classifier(model).frozen():
        model(pictures(2, seed=1)[0])
        model.shift.mul_(3)
        with Classifier(model).frozen():
            model(pictures(2, seed=1)[0])
            model.shift.mul_(3)
        assert float(model.shift) == 1.5
    assert all(
        now is then for now, then in zip([model.shift, model.more[0]["by"], model.last], before, strict=True)
    )
    assert (float(model.shift), float(model.more[0]["by"])) == (0.5, 1.0)


def test_a_lens_knows_the_constants_of_its_classifier(tmp_path):
    inputs, short = pictures(48, seed=1)[0], xlens.MaskOptions(steps=1, pool=64)
    model = Shifted(0.5)
    model(inputs[:3])
    model.last = model.last.detach()
    xlens.fit(model, inputs, "svae", steps=2, mask=short, progress=False).save(tmp_path)
    assert of(model) == of(Shifted(0.6))
    with pytest.raises(StorageError, match=r"other constants.*other values of shift \(\)"):
        xlens.load(tmp_path, Shifted(0.6))
    xlens.load(tmp_path, Shifted(0.6), strict=False)
    # What a forward pass has left is no constant, also where it is of the same shape.
    same = Shifted(0.5)
    same.more = model.more
    xlens.load(tmp_path, same)
    same.last = torch.zeros(3, model.last.shape[1])
    xlens.load(tmp_path, same)
    # Versions before wrote nothing of them.
    assert Classifier(model).identity().other_constants({}) == []
