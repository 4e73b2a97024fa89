"""The figure says what it shows, and says loudly when it must not be trusted."""

import dataclasses
import subprocess
import sys

import pytest
import torch
from matplotlib.figure import Figure

from xlens import Explanation, Fidelity
from xlens.errors import UnsupportedError


def made(channels=1, trustworthy=True, n=2, size=8, mask=True):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, channels, size, size, generator=generator)
    counterfactual = x.clone()
    counterfactual[:, :, 2:4, 2:4] = 0
    ones, yes = torch.ones(n), torch.full((n,), True)
    fidelity = Fidelity(
        score_gap=0 * ones,
        mse=0 * ones,
        ssim=ones,
        agrees=yes,
        flips=torch.full((n,), trustworthy),
        decoding_flips=yes,
        monotone=ones,
        coverage=0.3 * ones,
    )
    return Explanation(
        inputs=x,
        reconstruction=x,
        edit=counterfactual - x,
        counterfactual=counterfactual,
        mask=torch.rand(n, 1, size, size, generator=generator) if mask else None,
        target=torch.ones(n, dtype=torch.long),
        contrast=torch.zeros(n, dtype=torch.long),
        scores=2 * ones,
        reconstruction_scores=2 * ones,
        counterfactual_scores=-ones,
        attributions={"lig": x, "ig_counterfactual": -x},
        convergence_delta={"lig": 0 * ones, "ig_counterfactual": 0 * ones},
        path=torch.stack([counterfactual, x], 1),
        path_scores=torch.tensor([[-1.0, 2.0]] * n),
        codes=x.flatten(1),
        counterfactual_codes=counterfactual.flatten(1),
        code_attributions=counterfactual.flatten(1),
        feature_names=("all",),
        feature_contributions=3 * ones[:, None],
        fidelity=fidelity,
        trustworthy=torch.full((n,), trustworthy),
        problems=((),) * n if trustworthy else (("the counterfactual does not change f's decision",),) * n,
        class_names=("healthy", "ill"),
        data_range=(-3.0, 3.0),
    )


def texts(figure: Figure) -> str:
    return "\n".join(artist.get_text() for artist in figure.findobj(lambda a: hasattr(a, "get_text")))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("mask", [True, False])
def test_images_of_one_to_four_channels(channels, mask, tmp_path):
    figure = made(channels, mask=mask).plot(1)
    assert isinstance(figure, Figure)
    figure.savefig(tmp_path / "a.png")
    words = texts(figure)
    for word in ("input", "reconstruction", "counterfactual", "latent IG", "Why 'ill' and not 'healthy'?", "+2.00"):
        assert word in words
    assert ("mask" in words) == mask
    assert "DO NOT TRUST" not in words


def test_the_warning_cannot_be_missed():
    words = texts(made(trustworthy=False).plot())
    assert "DO NOT TRUST THIS EXPLANATION: the counterfactual does not change f's decision" in words
    assert "flips on the counterfactual: NO" in words


def test_probabilities_stand_under_the_frames():
    words = texts(made().plot())
    for score in (-1.0, 2.0):
        assert f"{torch.tensor(score).sigmoid():.2f}" in words


def test_attributions_share_one_scale():
    one = made()
    louder = dataclasses.replace(one, attributions={"lig": one.inputs, "ig_counterfactual": 5 * one.inputs})
    limits = {
        image.get_clim()
        for axes in louder.plot().subfigs[0].axes
        if axes.get_title() in ("latent IG", "IG from counterfactual")
        for image in axes.get_images()
    }
    assert len(limits) == 1
    low, high = limits.pop()
    assert low == -high


def test_only_images_are_drawn():
    one = made()
    flat = {"inputs", "reconstruction", "edit", "counterfactual"}
    fields = {f.name: getattr(one, f.name) for f in dataclasses.fields(one)}
    fields |= {name: fields[name].flatten(1) for name in flat}
    fields |= {
        "mask": None,
        "path": one.path.flatten(2),
        "attributions": {k: v.flatten(1) for k, v in one.attributions.items()},
    }
    with pytest.raises(UnsupportedError, match="only images can be drawn"):
        Explanation(**fields).plot()


def test_drawing_leaves_pyplot_alone():
    code = "import sys, xlens.plot; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
