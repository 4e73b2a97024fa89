"""An explanation made by hand, and what a figure of it says."""

import dataclasses

import torch
from matplotlib.figure import Figure

from xlens import Explanation, Fidelity


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
        verdicts={
            "flips": torch.full((n,), trustworthy),
            "likeness": torch.ones(n, dtype=torch.bool),
            "specific": torch.ones(n, dtype=torch.bool) if mask else None,
            "local": torch.ones(n, dtype=torch.bool) if mask else None,
            "complete": torch.ones(n, dtype=torch.bool),
        },
        trustworthy=torch.full((n,), trustworthy),
        problems=((),) * n
        if trustworthy
        else (("the counterfactual does not change the classifier's decision",),) * n,
        class_names=("healthy", "ill"),
        data_range=(-3.0, 3.0),
    )


def texts(figure: Figure) -> str:
    return "\n".join(artist.get_text() for artist in figure.findobj(lambda a: hasattr(a, "get_text")))


def reshaped(one: Explanation, shape: tuple[int, ...]) -> Explanation:
    """Return the same numbers as inputs of another shape, without a mask."""
    n, frames = len(one), one.path.shape[1]
    names = ("inputs", "reconstruction", "edit", "counterfactual")
    return dataclasses.replace(
        one,
        **{name: getattr(one, name).reshape(n, *shape) for name in names},
        mask=None,
        path=one.path.reshape(n, frames, *shape),
        attributions={k: v.reshape(n, *shape) for k, v in one.attributions.items()},
    )
