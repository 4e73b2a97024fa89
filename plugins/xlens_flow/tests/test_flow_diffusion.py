"""A diffusion model of the user's own as the flow: its velocities in closed form, and diffusers' UNet2DModel."""

from types import SimpleNamespace

import pytest
import torch
from guard import unchanged
from torch import nn
from toys import spec
from xlens_flow.diffusion import Diffusion
from xlens_flow.ode import backward, forward

import xlens
from xlens.errors import ModelError, OptionError, UnsupportedError, XlensWarning

WIDTH, SPREAD = 4, 0.4
MEANS = torch.tensor([[0.5, -0.2, 0.0, 0.3], [-0.5, 0.2, 0.4, 0.0]])
ALPHAS = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0).float()


class OfGaussians(nn.Module):
    """What a perfect diffusion model of one Gaussian for each class predicts of noisy states."""

    def __init__(self, prediction):
        super().__init__()
        self.prediction = prediction

    def forward(self, noisy, timesteps, classes):
        below = timesteps.floor().long().clamp(max=998)
        ratio = ALPHAS.double().sqrt() / (ALPHAS.double().sqrt() + (1 - ALPHAS.double()).sqrt())
        t = torch.lerp(ratio[below], ratio[below + 1], (timesteps - below).double()).float()[:, None]
        alpha, sigma = (part / (t.square() + (1 - t).square()).sqrt() for part in (t, 1 - t))
        apart = noisy - alpha * (classes @ MEANS)
        variance = (alpha * SPREAD).square() + sigma.square()
        noise, clean = sigma * apart / variance, classes @ MEANS + alpha * SPREAD**2 * apart / variance
        return SimpleNamespace(sample=noise if self.prediction == "epsilon" else alpha * noise - sigma * clean)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_a_perfect_diffusion_model_is_the_exact_rectified_flow(prediction):
    flow = Diffusion(spec((WIDTH,)), OfGaussians(prediction), ALPHAS, prediction)
    x, times = torch.randn(50, WIDTH), torch.linspace(0.02, 0.98, 50)
    classes = torch.eye(2)[torch.arange(50) % 2]
    t, mean = times[:, None], classes @ MEANS
    exact = mean + (t * SPREAD**2 - (1 - t)) / ((1 - t) ** 2 + (t * SPREAD) ** 2) * (x - t * mean)
    torch.testing.assert_close(flow(x, times, classes), exact, atol=2e-3, rtol=1e-3)


def test_from_noise_to_data_and_back_is_the_gaussians_transport():
    flow = Diffusion(spec((WIDTH,)), OfGaussians("v_prediction"), ALPHAS, "v_prediction")
    classes = torch.eye(2)[[0, 1, 1]]

    def velocity(states, time, step, rows):
        return flow(states, states.new_full((len(states),), time), classes[rows])

    noise = torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(0))
    data = forward(velocity, noise, 40)[-1]
    # Beyond its first timestep and its last, a model has to be taken for what it is there.
    torch.testing.assert_close(data, classes @ MEANS + SPREAD * noise, atol=0.03, rtol=0)
    torch.testing.assert_close(backward(velocity, data, 40), noise, atol=0.01, rtol=0)


def test_timesteps_are_those_of_the_scheduler():
    flow = Diffusion(spec((WIDTH,)), OfGaussians("epsilon"), ALPHAS, "epsilon")
    whole = torch.tensor([0, 1, 400, 998, 999])
    torch.testing.assert_close(flow.timesteps(flow.times[whole]), whole.float(), atol=2e-2, rtol=0)
    assert (flow.timesteps(torch.linspace(flow.times[-1], flow.times[0], 100)).diff() < 0).all()


def test_images_are_clipped_where_the_scheduler_does():
    flow = Diffusion(spec((WIDTH,)), OfGaussians("epsilon"), ALPHAS, "epsilon", clip=0.1)
    x, times, classes = torch.randn(9, WIDTH), torch.full((9,), 0.7), torch.eye(2)[torch.zeros(9, dtype=int)]
    free = Diffusion(spec((WIDTH,)), OfGaussians("epsilon"), ALPHAS, "epsilon")
    # State and velocity at t make the image: x + (1 - t) v.
    shown, whole = (x + 0.3 * one(x, times, classes) for one in (flow, free))
    assert float(whole.abs().max()) > 0.2
    # What is noise stays as it is predicted.
    torch.testing.assert_close((shown - whole) / 0.3, whole.clamp(-0.1, 0.1) - whole, atol=2e-3, rtol=0)


def saved(folder, classes=3, prediction="v_prediction", channels=1):
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    unet = diffusers.UNet2DModel(
        sample_size=8,
        in_channels=channels,
        out_channels=channels,
        layers_per_block=1,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        num_class_embeds=classes,
    )
    scheduler = diffusers.DDPMScheduler(prediction_type=prediction)
    diffusers.DDPMPipeline(unet, scheduler).save_pretrained(folder)
    return str(folder)


def test_a_unet_of_diffusers_is_taken_as_it_is_and_saved_with_the_lens(digits, tmp_path):
    model, images = digits
    folder = saved(tmp_path / "own")
    steps = []
    with unchanged(model), pytest.warns(XlensWarning, match="not sound"):
        explainer = xlens.fit(
            model, images.train, "flow", diffusion=folder, ode_steps=3, on_step=steps.append, progress=False
        )
    assert not steps
    x = images.test[:3]
    explainer.save(tmp_path / "lens")
    again = xlens.load(tmp_path / "lens", model)
    torch.testing.assert_close(again.counterfactual(x), explainer.counterfactual(x))
    # Its classes' embeddings are conditions, and that of no class is the last.
    flow, states = explainer.lens.flow, torch.randn(4, 1, 8, 8)
    conditions = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5], [0.0, 0.0]])
    mixed = flow.unet.class_embedding(conditions)
    weight = flow.unet.class_embedding.weight
    torch.testing.assert_close(mixed, torch.stack([weight[0], weight[1], weight[:2].mean(0), weight[2]]))
    with torch.no_grad():
        assert flow(states, torch.full((4,), 0.5), conditions).shape == states.shape


def test_without_an_embedding_of_no_class_their_mean_stands_for_it(digits, tmp_path):
    model, images = digits
    with pytest.warns(XlensWarning, match="not sound"):
        explainer = xlens.fit(
            model, images.train, "flow", diffusion=saved(tmp_path, 2), ode_steps=2, progress=False
        )
    embedding = explainer.lens.flow.unet.class_embedding
    torch.testing.assert_close(embedding(torch.zeros(1, 2))[0], embedding.weight.mean(0))
    assert explainer.sample(2, 0).shape == (2, 1, 8, 8)


def test_what_cannot_be_conditional_or_is_no_such_model_is_refused(digits, tmp_path):
    model, images = digits

    def fitted(folder, **options):
        return xlens.fit(model, images.train, "flow", diffusion=folder, progress=False, **options)

    with pytest.raises(UnsupportedError, match="num_class_embeds=None for 2 classes.*classifier's gradient"):
        fitted(saved(tmp_path / "blind", None))
    with pytest.raises(UnsupportedError, match="num_class_embeds=10 for 2 classes"):
        fitted(saved(tmp_path / "ten", 10))
    with pytest.raises(ModelError, match="prediction_type='sample'.*'epsilon' or 'v_prediction'"):
        fitted(saved(tmp_path / "sample", prediction="sample"))
    with pytest.raises(ModelError, match="3 channels"):
        fitted(saved(tmp_path / "colour", channels=3))
    with pytest.raises(ModelError, match="no diffusion model.*save_pretrained"):
        fitted(str(tmp_path / "nowhere"))
    with pytest.raises(OptionError, match="side_info is learned"):
        fitted(saved(tmp_path / "taught"), side_info=torch.arange(len(images.train)).float()[:, None])
