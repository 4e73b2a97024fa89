"""A flow on the latents of an autoencoder: it explains images, and says beforehand what it will cost."""

import logging

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import xlens
from xlens.codec import CodecOptions
from xlens.datasets import leaves

QUICK = CodecOptions(steps=2, width=8, channels=4, crop=16, growths=0, agreement=0.0, psnr=0.0)
SMALL = {"steps": 2, "width": 4, "ode_steps": 4, "corrections": 0, "batch_size": 4}


class Tone(nn.Module):
    """Says whether an image is greener than most of the photographs."""

    def __init__(self, usual):
        super().__init__()
        self.usual = usual

    def forward(self, inputs):
        score = 40 * ((inputs[:, 1] - inputs[:, 0]).mean((1, 2)) - self.usual)
        return torch.stack([-score, score], 1)


@pytest.fixture(scope="module")
def images():
    return F.interpolate(leaves().train[::28], (32, 32), mode="bilinear", antialias=True)


@pytest.mark.filterwarnings("ignore::xlens.errors.XlensWarning")
def test_a_flow_behind_an_autoencoder_explains_images_by_its_own_waypoints(images, caplog):
    caplog.set_level(logging.INFO, "xlens")
    usual = float((images[:, 1] - images[:, 0]).mean((1, 2)).median())
    explainer = xlens.fit(Tone(usual).eval(), images, "flow", codec=QUICK, **SMALL)
    said = [record.getMessage() for record in caplog.records if "fit: about" in record.getMessage()]
    assert any("codec 2 steps of" in one for one in said)
    assert any("flow 2 steps of" in one for one in said)
    assert explainer.lens.stage.spec.shape == (4, 8, 8)
    passes = []
    handle = explainer.lens.lens.flow.register_forward_pre_hook(lambda _flow, given: passes.append(len(given[0])))
    found = explainer.explain(images[:2], tolerance=1.0)
    handle.remove()
    assert found.counterfactual.shape == found.attributions["lig"].shape == images[:2].shape
    # Decodings of points along the path, and gradients through them, would be thousands.
    assert sum(passes) / 2 < 400
    delta = found.attributions["lig"].flatten(1).sum(1) - (found.scores - found.counterfactual_scores)
    torch.testing.assert_close(delta, found.convergence_delta["lig"], atol=1e-3, rtol=1e-3)
    with xlens.asking(explainer) as lens:
        codes = lens.encode(images[:2])
        moved = lens.counterfactual(codes, found.target, found.contrast)
        points = lens.waypoints(codes, moved)
        torch.testing.assert_close(points.decoded[:, -1], lens.decode(codes), atol=1e-4, rtol=0)
        torch.testing.assert_close(points.decoded[:, 0], lens.decode(moved), atol=1e-4, rtol=0)
