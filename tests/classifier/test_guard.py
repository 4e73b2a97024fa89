"""The guard around somebody else's model: shared, counted, restored in full, and whose hooks are whose."""

from __future__ import annotations

import copy
import io
import os
import pickle
import signal
import threading
from collections import OrderedDict

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from xlens import Classifier
from xlens.classifier import kept, values
from xlens.classifier.frozen import _guards, frozen
from xlens.classifier.hooks import _handed_over, of_this_thread
from xlens.classifier.interrupts import uninterrupted, watch
from xlens.classifier.turns import Turn, give_way, seeded
from xlens.errors import ModelError
from xlens.testing.state import differing, model_state, process_state
from xlens.testing.world import Cnn

X = torch.linspace(-1, 1, 3 * 64).view(3, 1, 8, 8)


def in_thread(function):
    """Run a function in a thread, and return what it returned."""
    found = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join(20)
    assert found, "the thread did not finish"
    return found[0]


def network() -> nn.Module:
    with seeded(0):
        model = Cnn()
    model.head.bias.grad = torch.tensor([1.0, torch.nan, 0.0])
    return model.train()


class Straight(nn.Module):
    """Can be traced, and has no structure that could be read off."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(64, 8), nn.Linear(8, 3)

    def forward(self, inputs):
        return self.second(self.first(inputs.flatten(1)).relu())


# --- one guard for all ----------------------------------------------------------------------------


def test_the_last_to_leave_restores():
    model = network()
    before = model_state(model)
    first, second = frozen(None, model, None), frozen(None, model, None)
    first.__enter__()
    in_thread(lambda: (second.__enter__(), 1)[1])
    first.__exit__(None, None, None)
    assert not model.training
    assert not model.head.weight.requires_grad
    in_thread(lambda: (second.__exit__(None, None, None), 1)[1])
    assert not differing(before, model_state(model))


def test_a_model_and_its_part_share_one_guard():
    model = network()
    before = model_state(model)
    whole, part = frozen(None, model, None), frozen(None, model.body, None)
    whole.__enter__()
    in_thread(lambda: (part.__enter__(), 1)[1])
    whole.__exit__(None, None, None)
    assert model.training
    assert not model.body[1].training
    assert model.head.weight.requires_grad
    assert not model.body[0].weight.requires_grad
    in_thread(lambda: (part.__exit__(None, None, None), 1)[1])
    assert not differing(before, model_state(model))


def test_an_outer_context_ends_inner_ones_that_were_never_left():
    model = network()
    before = {**model_state(model), **process_state()}
    with frozen(None, model, 0):
        kept_alive = frozen(None, model, 1)
        kept_alive.__enter__()
    assert not differing(before, {**model_state(model), **process_state()})
    assert in_thread(lambda: Turn().__enter__().over() or True)  # nobody has the turn
    kept_alive.__exit__(None, None, None)
    assert not differing(before, {**model_state(model), **process_state()})


def test_threads_take_turns_in_their_order_and_a_call_within_a_call_goes_on():
    order, inside, go = [], threading.Event(), threading.Event()

    def ask(name):
        with Turn(), Turn():
            order.append(name)
            if name == 0:
                inside.set()
                go.wait(10)

    threads = [threading.Thread(target=ask, args=(name,)) for name in range(4)]
    threads[0].start()
    inside.wait(10)
    for thread in threads[1:]:
        thread.start()
        threading.Event().wait(0.05)
    assert order == [0]
    go.set()
    for thread in threads:
        thread.join(10)
    assert order == [0, 1, 2, 3]


def test_a_thread_that_ended_without_leaving_its_turn_stops_nobody():
    forgotten = []

    def begin():
        turn = Turn()
        turn.__enter__()
        forgotten.append(turn)
        return True

    assert in_thread(begin)
    assert in_thread(lambda: Turn().__enter__().over() or True)


def test_something_long_gives_way_and_goes_on_with_its_own_random_numbers():
    with seeded(3):
        expected = [torch.rand(1).item() for _ in range(2)]
    asked, model = [], network()

    def ask():
        with frozen(None, model, 5):
            asked.append(torch.rand(1).item())

    before = process_state()
    with seeded(3):
        drawn = [torch.rand(1).item()]
        thread = threading.Thread(target=ask)
        thread.start()
        while not asked:
            give_way()
        thread.join(10)
        drawn.append(torch.rand(1).item())
    assert drawn == expected
    with seeded(5):
        assert asked == [torch.rand(1).item()]
    assert not differing(before, process_state())


# --- hooks ----------------------------------------------------------------------------------------


def test_hooks_placed_inside_act_for_their_thread_alone():
    model = network().eval()
    plain = model(X)
    with frozen(None, model, None):
        model.head.register_forward_hook(lambda *_: torch.zeros(3, 3))
        model.body.register_forward_pre_hook(lambda _module, args: (args[0] * 0,))
        assert not model(X).any()
        assert torch.equal(in_thread(lambda: model(X)), plain)
    assert torch.equal(model(X), plain)


@pytest.mark.parametrize("nested", [False, True])
def test_hooks_that_a_thread_which_asks_nothing_places_act_for_every_thread_and_stay(nested):
    model = network().eval()
    before, whole = model_state(model), model(X)
    with frozen(None, model, None):
        with frozen(None, model, None):
            handles = in_thread(
                lambda: [
                    model.head.register_forward_hook(doubled),
                    model.head.register_full_backward_hook(lambda *_: None),
                ]
            )
            assert torch.equal(model(X), 2 * whole)
        if nested:
            handles.append(in_thread(lambda: model.head.register_forward_hook(doubled)))
            in_thread(lambda: handles.pop().remove() or 1)
        assert torch.equal(in_thread(lambda: model(X)), 2 * whole)
    assert list(model.head._forward_hooks.values()) == [doubled]
    assert len(model.head._backward_hooks) == 1
    assert model.head._is_full_backward_hook
    assert type(model.head._forward_hooks) is OrderedDict
    for handle in handles:
        handle.remove()
    assert not _handed_over
    assert not [key for key in differing(before, model_state(model)) if "backward" not in key]
    assert torch.equal(model(X), whole)


def doubled(_module, _args, output):
    return 2 * output


@pytest.mark.parametrize("by", ["deepcopy", "copy", "pickle", "save"])
def test_a_copy_that_is_made_meanwhile_is_an_ordinary_model_with_the_users_hooks(by):
    model = network()
    model.head.register_forward_hook(doubled)
    whole = model.eval()(X)
    with frozen(None, model, None):
        model.head.register_forward_hook(lambda *_: None)
        other = in_thread(
            {"deepcopy": lambda: copy.deepcopy(model), "copy": lambda: copy.copy(model)}.get(
                by, lambda: again(model, by)
            )
        )
    assert torch.equal(other(X), whole)
    if by != "copy":
        assert type(other.head._forward_hooks) is OrderedDict
        assert list(other.head._forward_hooks.values()) == [doubled]


def again(model, by):
    file = io.BytesIO()
    pickle.dump(model, file) if by == "pickle" else torch.save(model, file)
    file.seek(0)
    return pickle.load(file) if by == "pickle" else torch.load(file, weights_only=False)


def test_the_users_own_hooks_act_for_every_thread():
    model = network().eval()
    model.head.register_forward_hook(lambda _module, _args, output: output + 1)
    expected = model(X)
    with frozen(None, model, None):
        assert torch.equal(model(X), expected)
        assert torch.equal(in_thread(lambda: model(X)), expected)


@pytest.mark.parametrize("layer", ["body.0", "body.3"])
def test_recorded_and_replaced_layers_belong_to_the_call_that_asked(layer):
    model = network().eval()
    classifier = Classifier(model, layer=layer)
    plain, other = model(X), X.flip(0) * 3
    with classifier.record([layer]) as seen:
        classifier(X)
        in_thread(lambda: classifier.model(other))
        own = seen[layer].clone()
        classifier(X)
        assert torch.equal(own, seen[layer])
    handle = model.get_submodule(layer).register_forward_hook(of_this_thread(lambda *_: torch.zeros(1)))
    assert torch.equal(in_thread(lambda: model(X)), plain)
    handle.remove()


def test_cutting_a_model_does_not_trace_another_threads_predictions():
    with seeded(0):
        model = Straight().eval()
    plain, stop, wrong = model(X), threading.Event(), []

    def predict():
        while not stop.is_set():
            found = model(X)
            if not isinstance(found, torch.Tensor) or not torch.equal(found, plain):
                wrong.append(found)

    thread = threading.Thread(target=predict)
    thread.start()
    try:
        with torch.no_grad():
            for _ in range(40):
                assert Classifier(model, layer="first").cut(X) is not None
    finally:
        stop.set()
        thread.join(10)
    assert not wrong


def test_compiled_code_runs_for_others_and_the_module_itself_for_who_asks():
    model = network().eval()
    model.compile(backend=lambda graph, _inputs: lambda *args: tuple(a + 1 for a in graph(*args)))
    compiled = model(X)
    with frozen(None, model, None):
        assert torch.equal(in_thread(lambda: model(X)), compiled)
        model(X)
        assert torch.equal(model(X), network().eval()(X))
    assert torch.equal(model(X), compiled)


def test_a_compiled_part_that_ran_before_runs_as_it_is_for_who_asks():
    model, ran, seen = network().eval(), [], []
    plain = model(X)
    model.body = torch.compile(model.body, backend=lambda graph, _: lambda *args: (ran.append(1), graph(*args))[1])
    before = dict(vars(model.body))
    assert torch.allclose(model(X), plain)
    assert ran
    with frozen(None, model, None):
        model.body._orig_mod[0].register_forward_hook(lambda *_: seen.append(1))
        ran.clear()
        assert torch.equal(model(X), plain)
        assert seen
        assert not ran
        assert torch.allclose(in_thread(lambda: model(X)), plain)
        assert ran
    assert dict(vars(model.body)) == before


# --- restoring ------------------------------------------------------------------------------------


class Failing(TorchDispatchMode):
    """Every operation of the kinds named fails."""

    def __init__(self, *names):
        super().__init__()
        self.names = names

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if not self.names or any(name in str(func) for name in self.names):
            raise torch.OutOfMemoryError("no memory left")
        return func(*args, **(kwargs or {}))


def spoil(model):
    model.train()
    for parameter in model.parameters():
        parameter.requires_grad_(True)
        parameter.grad = torch.ones_like(parameter)
        parameter.data.add_(1)
    model.head.weight.data = torch.zeros(3, 32)
    model.body[1].running_mean.add_(1)
    model.extra = 1
    model.head.register_forward_hook(lambda *_: None)


def test_a_failing_torch_stops_no_part_of_it():
    model = network()
    before = model_state(model)
    mode = Failing()
    with frozen(None, model, 0):
        spoil(model)
        mode.__enter__()
    mode.__exit__(None, None, None)
    assert not differing(before, model_state(model))


@pytest.mark.parametrize("broken", ["same", "bits"])
def test_what_cannot_be_compared_is_written(monkeypatch, broken):
    model = network()
    before = model_state(model)
    with monkeypatch.context() as patched:
        with frozen(None, model, 0):
            spoil(model)

            def fail(*_):
                raise torch.OutOfMemoryError("no memory left")

            patched.setattr(values, broken, fail)
    assert not differing(before, model_state(model))


def test_one_step_that_fails_stops_no_other_and_is_said(monkeypatch):
    model = network()
    before = model_state(model)
    whole = kept.KeptTensor.put_back_values

    def fail_once(self):
        if self.tensor is model.body[0].weight:
            raise RuntimeError("the disk of memory is full")
        whole(self)

    monkeypatch.setattr(kept.KeptTensor, "put_back_values", fail_once)
    with pytest.raises(ModelError, match="could not be put back in full.*the disk of memory"):
        with frozen(None, model, 0):
            spoil(model)
    assert differing(before, model_state(model)) == ["body.0.weight: value"]
    assert model.training


def test_what_fails_on_the_way_in_changes_nothing(monkeypatch):
    model = network()
    before = {**model_state(model), **process_state()}

    def fail(*_):
        raise torch.OutOfMemoryError("no memory left")

    for place in ("xlens.classifier.values.copy_of", "xlens.classifier.frozen.stand_ins"):
        with monkeypatch.context() as patched:
            patched.setattr(place, fail)
            with pytest.raises(torch.OutOfMemoryError), frozen(None, model, 0):
                pass
        assert not differing(before, {**model_state(model), **process_state()})
    monkeypatch.setattr(model.body, "train", fail)
    before = {**model_state(model), **process_state()}
    with pytest.raises(torch.OutOfMemoryError), frozen(None, model, 0):
        pass
    assert not differing(before, {**model_state(model), **process_state()})


def test_parameters_of_inference_mode_take_part_and_stay():
    model = network()
    model.head.bias.grad = None
    with torch.inference_mode():
        model = copy.deepcopy(model)
    tensors = {id(p) for p in model.parameters()}
    before = model_state(model)
    classifier = Classifier(model)
    with classifier.frozen(seed=0):
        asked = X.clone().requires_grad_()
        assert torch.autograd.grad(classifier(asked).sum(), asked)[0].any()
    assert {id(p) for p in model.parameters()} == tensors
    assert all(p.is_inference() and p.requires_grad for p in model.parameters())
    assert not differing(before, model_state(model))


# --- Ctrl-C ---------------------------------------------------------------------------------------


@pytest.mark.skipif(
    threading.current_thread() is not threading.main_thread(), reason="signals are the main thread's"
)
def test_ctrl_c_waits_for_what_has_to_be_whole():
    done = []

    @uninterrupted
    def whole():
        signal.raise_signal(signal.SIGINT)
        for _ in range(1000):
            done.append(len(done))

    before = signal.getsignal(signal.SIGINT)
    begun = watch.begin()
    assert begun is not None
    try:
        with pytest.raises(KeyboardInterrupt):
            whole()
            for _ in range(10**7):
                done.append(0)
        assert done[:1000] == list(range(1000))
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
            list(map(str, range(1000)))
    finally:
        watch.end(begun)
    assert signal.getsignal(signal.SIGINT) == before


def test_handlers_are_left_alone_off_the_main_thread():
    before = signal.getsignal(signal.SIGINT)

    def ask():
        with Classifier(network()).frozen(seed=0):
            return signal.getsignal(signal.SIGINT)

    assert in_thread(ask) == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_forked_process_does_not_wait_for_threads_that_it_lacks():
    model, inside, go = network(), threading.Event(), threading.Event()
    before = model_state(model)

    def hold():
        # Both what a question holds, and the lock of what is set up or put back at the moment.
        with frozen(None, model, 0), _guards._lock:
            inside.set()
            go.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait(10)
    child = os.fork()
    if not child:
        signal.alarm(10)
        found = differing(before, model_state(model))
        with frozen(None, model, 0):
            found += [] if not model.training else ["train mode"]
        os._exit(len(found + differing(before, model_state(model))))
    go.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not differing(before, model_state(model))
