"""The backend under xlens's conformance kit, and what is particular to it."""

import types

import pytest
import torch
import xlens_latentshift
from torch import nn
from xlens_latentshift import LatentShift, register

import xlens
from xlens.errors import OptionError, StorageError, UnsupportedError
from xlens.testing import Candidate, parametrize_with_checks
from xlens.testing.world import World, pictures

#: A mask of three steps, where the mask does not matter.
QUICK = xlens.MaskOptions(steps=3, batch_size=16, pool=64)
SHAPE = (1, 8, 8)
EXPECTED = {
    "meaning.attributions_lie_on_the_cause": "the autoencoder knows nothing of the classifier, so a shift spills "
    "beyond the cause: 42% of the mass is on it, where half is asked",
}


class Distribution:
    def __init__(self, mean):
        self.mean = mean

    def mode(self):
        return self.mean

    def sample(self):
        return self.mean + torch.randn_like(self.mean)


class Convolutional(nn.Module):
    """An autoencoder of the form that diffusers' AutoencoderKL has."""

    def __init__(self, width=96):
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(1, width, 4, 2, 1), nn.SiLU(), nn.Conv2d(width, 12, 3, 1, 1))
        self.up = nn.Sequential(nn.Conv2d(12, width, 3, 1, 1), nn.SiLU(), nn.ConvTranspose2d(width, 1, 4, 2, 1))

    def encode(self, inputs):
        return types.SimpleNamespace(latent_dist=Distribution(self.down(inputs)))

    def decode(self, latents):
        return types.SimpleNamespace(sample=self.up(latents))


class Dense(nn.Module):
    """The plain form: tensors in, tensors out."""

    def __init__(self, shape=SHAPE):
        super().__init__()
        size = torch.Size(shape).numel()
        self.shape = shape
        self.inward = nn.Sequential(nn.Flatten(), nn.Linear(size, 128), nn.SiLU(), nn.Linear(128, 24))
        self.outward = nn.Sequential(nn.Linear(24, 128), nn.SiLU(), nn.Linear(128, size))

    def encode(self, inputs):
        return self.inward(inputs)

    def decode(self, latents):
        return self.outward(latents).view(-1, *self.shape)


def train(autoencoder, steps=400):
    inputs, _ = pictures(600, seed=5)
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(autoencoder.parameters(), 3e-3)
    for _ in range(steps):
        batch = inputs[torch.randint(0, len(inputs), (64,), generator=generator)]
        latents = xlens_latentshift.autoencoders.encoded(autoencoder, batch)
        again = xlens_latentshift.autoencoders.decoded(autoencoder, latents)
        loss = (again - batch).square().mean() + 1e-3 * latents.square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return autoencoder


def trained_convolutional():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return train(Convolutional())


@pytest.fixture(scope="module")
def _convolutional():
    # Registered when the first check runs: collecting tests trains nothing.
    register(trained_convolutional(), "convolutional")


@pytest.mark.usefixtures("_convolutional")
@parametrize_with_checks(
    [Candidate(LatentShift(autoencoder="convolutional"), shape=SHAPE, expected_failures=EXPECTED)]
)
def test_conformance(check):
    check()


@pytest.fixture
def world():
    return World.of(SHAPE)


@pytest.fixture
def known(monkeypatch):
    """No autoencoder is registered to begin with, and none stays."""
    known = {}
    monkeypatch.setattr("xlens_latentshift.autoencoders._known", known)
    return known


def values(module):
    return {key: value.clone() for key, value in module.state_dict().items()}


@pytest.mark.filterwarnings("ignore::xlens.errors.XlensWarning")
def test_it_is_found_by_name_and_loaded_in_a_program_that_registers_the_architecture(world, known, tmp_path):
    mine = train(Dense(), steps=300)
    before = values(mine)
    register(mine, "mine")
    model = world.model()
    explainer = xlens.fit(model, world.inputs, "latentshift", autoencoder="mine", mask=QUICK, progress=False)
    explanation = explainer.explain(world.held_out[:9])
    assert explanation.fidelity.decoding_flips.float().mean() >= 0.8
    assert all(torch.equal(before[key], value) for key, value in mine.state_dict().items())
    assert mine.training
    explainer.save(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}

    known.clear()
    with pytest.raises(OptionError, match="no autoencoder 'mine'.*before loading"):
        xlens.load(tmp_path, model)
    register(Dense(), "mine")  # the same architecture with other weights
    again = xlens.load(tmp_path, model).explain(world.held_out[:9])
    torch.testing.assert_close(again.counterfactual, explanation.counterfactual, rtol=0, atol=0)
    register(Convolutional(), "mine")
    with pytest.raises(StorageError, match="do not fit the lens"):
        xlens.load(tmp_path, model)


def test_which_autoencoder(known):
    with pytest.raises(OptionError, match="which autoencoder.*none is registered"):
        xlens_latentshift.registered("")
    dense = Dense()
    assert LatentShift.of(dense) == LatentShift(autoencoder="Dense")
    assert isinstance(xlens_latentshift.registered(""), Dense)
    assert xlens_latentshift.registered("Dense") is not dense
    register(Convolutional(), "other")
    with pytest.raises(OptionError, match="which autoencoder.*Dense, other"):
        xlens_latentshift.registered("")
    with pytest.raises(OptionError, match="Did you mean 'other'"):
        xlens_latentshift.registered("othr")


def test_a_second_autoencoder_of_one_class_does_not_replace_the_first_unasked(known):
    first, second = Dense(), Dense()
    assert LatentShift.of(first) == LatentShift.of(first)
    with pytest.raises(OptionError, match="another autoencoder is called 'Dense' already"):
        LatentShift.of(second)
    assert known["Dense"] is first
    assert LatentShift.of(second, name="second").autoencoder == "second"
    assert known == {"Dense": first, "second": second}
    register(second, "Dense")  # asked for
    assert known["Dense"] is second


@pytest.mark.parametrize("given", [nn.Linear(2, 2), "vae", None])
def test_what_is_no_autoencoder_is_refused(given):
    with pytest.raises(OptionError, match="this is no autoencoder"):
        register(given)


def test_shapes_that_the_autoencoder_does_not_take_are_refused(known):
    backend = LatentShift.of(Dense((1, 10, 10)))
    with pytest.raises(UnsupportedError, match="does not take these inputs"):
        xlens.fit(World.of(SHAPE).model(), pictures(30, 0)[0], backend, mask=QUICK, progress=False)


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: (x, None), lambda x: types.SimpleNamespace(latents=x)])
def test_what_encode_may_return(wrap):
    class Autoencoder(nn.Module):
        def encode(self, inputs):
            return wrap(inputs + 1)

    found = xlens_latentshift.autoencoders.encoded(Autoencoder(), torch.zeros(2, 3))
    assert torch.equal(found, torch.ones(2, 3))


def test_a_distribution_gives_its_mode_and_not_a_sample():
    autoencoder, inputs = Convolutional(8), torch.rand(2, 1, 8, 8)
    latents = xlens_latentshift.autoencoders.encoded(autoencoder, inputs)
    assert torch.equal(latents, autoencoder.down(inputs))


def test_the_straight_shift_is_the_equation_of_the_paper(known):
    """z + lambda * df/dz at z: against a closed form, with the classifier and decoder linear."""

    class Identity(nn.Module):
        def encode(self, inputs):
            return inputs

        def decode(self, latents):
            return latents

    model = nn.Linear(3, 2)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[0.0, 0, 0], [3.0, 4.0, 0.0]]))
        model.bias.zero_()
    spec = xlens.Spec(
        shape=(3,),
        num_classes=2,
        minimum=(-9.0,) * 3,
        maximum=(9.0,) * 3,
        mean=(0.0,) * 3,
        std=(1.0,) * 3,
        class_margins=((0.0, 5.0), (5.0, 0.0)),
    )
    lens = LatentShift.paper(autoencoder=register(Identity()), longest=4.0, steps=40).build(
        xlens.Classifier(model), spec
    )
    codes = torch.tensor([[0.6, 0.8, 1.0]])
    moved = lens.counterfactual(codes, torch.tensor([1]), torch.tensor([0]))
    # The margin is -5 |shift| + 5 at the start, so 5 is reached after 2 along -(0.6, 0.8, 0), in steps of 0.1.
    torch.testing.assert_close(moved, torch.tensor([[-0.6, -0.8, 1.0]]), atol=0.11, rtol=0)
    torch.testing.assert_close(moved[0, 0] / moved[0, 1], torch.tensor(0.75))


def test_the_attribution_conforms():
    from xlens_latentshift import LargestChange

    from xlens.testing import check_addition

    assert {result.status for result in check_addition(LargestChange)} == {"passed"}
