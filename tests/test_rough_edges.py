"""What users bring that nobody planned for: each of these failed once."""

import threading

import pytest
import torch
from accelerate.state import PartialState
from guard import unchanged
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset
from toys import Toy, pictures, trained_cnn
from xlens_medxgan import MedXGAN
from xlens_medxgan.critics import ClassifierCritic, ProjectionDiscriminator

import xlens
from xlens.contracts.backend import Spec
from xlens.data import as_data
from xlens.errors import DataError, NotFittedError, OptionError, StorageError
from xlens.nn import ImageEncoder, Penultimate
from xlens.training import survey


@pytest.fixture(scope="module")
def images():
    return pictures(96, 0)[0]


def quick(model, data, **changes):
    changes = {"steps": 3, "width": 4, "nuisance": 4, "progress": False, **changes}
    return xlens.fit(model, data, "medxgan", **changes)


def spec_of(shape, low=0.0, high=1.0):
    c = shape[0]
    low, high = (low,) * c, (high,) * c
    return Spec(
        shape=shape,
        num_classes=2,
        minimum=low,
        maximum=high,
        mean=low,
        std=high,
        class_margins=((0.0, 1.0), (1.0, 0.0)),
    )


def test_a_backend_explains_nothing_before_it_is_fitted(images):
    with pytest.raises(NotFittedError, match=r"medxgan: nothing is fitted yet.*xlens.fit\(model, data, backend\)"):
        MedXGAN().explain(images)


def test_a_constant_channel_has_a_span_of_one():
    spec = Spec(
        shape=(2, 8, 8),
        num_classes=2,
        minimum=(0.0, 1.0),
        maximum=(4.0, 1.0),
        mean=(2.0, 1.0),
        std=(1.0, 0.0),
        class_margins=((0.0, 1.0), (1.0, 0.0)),
    )
    assert spec.span().flatten().tolist() == [4.0, 1.0]
    opaque = torch.cat([torch.rand(3, 1, 8, 8), torch.ones(3, 1, 8, 8)], 1)
    nearly = opaque.clone()
    nearly[:, 1] += 1e-4
    judge = ProjectionDiscriminator(spec, width=8)
    assert (judge(opaque) - judge(nearly)).abs().max() < 1e-2
    encoder = ImageEncoder(spec, 3, 4)
    assert (encoder(opaque) - encoder(nearly)).abs().max() < 1e-2


@pytest.mark.parametrize("shape", [(1, 9, 100), (1, 100, 9), (2, 15, 127), (1, 13, 8)])
def test_discriminators_take_every_aspect(shape):
    judge = ProjectionDiscriminator(spec_of(shape), width=4)
    assert judge(torch.rand(2, *shape)).shape[0] == 2


def test_accelerate_is_left_as_it_was_found(images):
    if PartialState._shared_state:
        pytest.skip("another test's program uses accelerate")
    quick(trained_cnn(), images)
    assert not PartialState._shared_state


def test_the_float64_default_of_a_program_stays_and_does_no_harm(images):
    torch.set_default_dtype(torch.float64)
    try:
        explainer = quick(trained_cnn(), images)
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert explainer.explain(images[:2]).codes.dtype == torch.float32


def test_a_new_run_forgets_the_checkpoints_of_an_old_one(images, tmp_path):
    model = trained_cnn()
    quick(model, images, output_dir=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"medxgan.checkpoint", "mask.checkpoint"}

    def interrupt(event):
        if event.step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), unchanged(model):
        quick(model, images, steps=6, output_dir=tmp_path, on_step=interrupt)
    resumed = quick(model, images, steps=6, output_dir=tmp_path, resume=True)
    whole = quick(model, images, steps=6)
    with whole.classifier.frozen(), torch.no_grad():
        assert torch.equal(resumed.lens.encode(images[:4]), whole.lens.encode(images[:4]))


def test_a_loader_with_its_own_generator_can_be_resumed(images, tmp_path):
    model = trained_cnn()

    def loader():
        generator = torch.Generator().manual_seed(5)
        return DataLoader(TensorDataset(images), 20, shuffle=True, generator=generator, drop_last=True)

    def interrupt(event):
        if event.step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quick(model, loader(), output_dir=tmp_path, on_step=interrupt)
    assert len(quick(model, loader(), output_dir=tmp_path, resume=True).explain(images[:2])) == 2


class Jittered(Dataset):
    """Another view of an input each time, as training data sets have it."""

    def __init__(self, inputs):
        self.inputs = inputs

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, index):
        return self.inputs[index] + 0.01 * torch.randn(self.inputs.shape[1:])


def test_outputs_are_kept_only_of_inputs_that_come_back_the_same(images):
    classifier = xlens.Classifier(trained_cnn())
    with classifier.frozen():
        assert survey(classifier, as_data(images), progress=False).logits is not None
        assert survey(classifier, as_data(Jittered(images)), progress=False).logits is None


def test_the_survey_looks_at_all_of_sorted_data():
    inputs = torch.linspace(0, 1, 4000).view(-1, 1, 1, 1).expand(-1, 1, 4, 4).contiguous()
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    with torch.no_grad():
        model[1].weight[:] = torch.tensor([[-1.0], [1.0]])
        model[1].bias[:] = torch.tensor([8.0, -8.0])
    classifier = xlens.Classifier(model)
    with classifier.frozen():
        sample = survey(classifier, as_data(inputs), progress=False).sample
    assert sample.min() < 0.05
    assert sample.max() > 0.8


def test_hooks_of_the_user_stay_out_of_the_critic(images):
    model = trained_cnn()
    lock, calls = threading.Lock(), []

    class Logger:
        def __init__(self):
            self.lock = lock  # cannot be copied

        def __call__(self, *_):
            calls.append(1)

    handle = next(m for m in model.modules() if isinstance(m, nn.Conv2d)).register_forward_hook(Logger())
    try:
        critic = ClassifierCritic(xlens.Classifier(model), images[:2], 4.0)
        calls.clear()
        critic(images[:2])
        assert not calls
        model(images[:2])
        assert calls
    finally:
        handle.remove()


def test_data_with_history_and_columns_of_labels(images):
    model = trained_cnn()
    with torch.no_grad():
        labels = model(images).argmax(1)
    with_history = images.clone().requires_grad_() * 1
    assert not quick(model, with_history).explain(images[:2]).edit.requires_grad
    assert torch.equal(as_data((images, labels[:, None])).take(torch.arange(5)).labels, labels[:5])
    with pytest.raises(DataError, match=r"not class indices. Given: shape \(96, 3\)"):
        as_data((images, torch.eye(3)[labels]))

    class Once:
        def __init__(self):
            self.batches = iter([images[:48], images[48:]])

        def __iter__(self):
            return self.batches

    with pytest.raises(DataError, match="0 batches on this pass.*starts anew each time"):
        quick(model, Once())


def test_class_names_come_back_with_a_bare_model(images, tmp_path):
    model = trained_cnn()
    named = xlens.Classifier(model, class_names=["a", "b", "c"])
    quick(named, images).save(tmp_path)
    assert xlens.load(tmp_path, model).class_names == ("a", "b", "c")


def test_nothing_to_take_away_is_said(images):
    explainer = xlens.fit(trained_cnn(), images, Toy(), progress=False)
    with explainer.classifier.frozen(), torch.no_grad():
        predicted = explainer.classifier(images[:4]).argmax(1)
    with pytest.warns(xlens.errors.UntrustworthyWarning, match="no evidence to take away"):
        explanation = explainer.explain(images[:4], target=(predicted + 1) % 3, contrast=predicted)
    assert not explanation.trustworthy.any()


def test_files_that_cannot_be_written(images, tmp_path):
    explanation = xlens.fit(trained_cnn(), images, Toy(), progress=False).explain(images[:1])
    with pytest.raises(StorageError, match="save: cannot write"):
        explanation.save(tmp_path)
    assert not list(tmp_path.parent.glob("*.partial"))


def test_mps_is_refused_with_a_reason(images):
    with pytest.raises(OptionError, match="'mps' has no float64"):
        xlens.fit(trained_cnn(), images, Toy(), device="mps")


def test_the_head_is_found_behind_a_gate():
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.gate = nn.Linear(8, 3), nn.Linear(3, 5)

        def forward(self, x):
            logits = self.head(x.flatten(1))
            return logits * self.gate(logits).mean(1, keepdim=True).sigmoid()

    model = Gated()
    assert Penultimate(model, model, torch.rand(2, 1, 2, 4)).width == 8


def test_only_classes_that_f_gives_are_drawn():
    torch.manual_seed(0)
    wide = nn.Sequential(nn.Flatten(), nn.Linear(64, 40))
    with torch.no_grad():
        wide[1].bias[3:] = -100
    inputs = torch.randn(60, 1, 8, 8)
    explainer = quick(wide, inputs, block=2)
    assert set(explainer.lens.evidence.drawable.tolist()) <= {1, 2}
