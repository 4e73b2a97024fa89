"""What the figures of an explanation mean, in sentences; the same ones in pictures and reports."""

from __future__ import annotations

from xlens._explain import not_local
from xlens.explanation import Explanation

__all__ = ["method_title", "question", "sentences"]

_TITLES = {
    "lig": "latent IG",
    "lig_paper": "latent IG (paper)",
    "ig_counterfactual": "IG from counterfactual",
    "idgi": "IDGI",
    "guided_ig": "guided IG",
    "ig_ensemble": "IG ensemble",
    "integrated_gradients": "integrated gradients",
    "gradient_shap": "gradient SHAP",
    "input_x_gradient": "input x gradient",
    "layer_grad_cam": "Grad-CAM",
    "deep_lift": "DeepLIFT",
}


def method_title(name: str) -> str:
    """Return what an attribution method is called in pictures."""
    return _TITLES.get(name, name.replace("_", " "))


def question(one: Explanation, index: int = 0) -> str:
    """Return what is explained, e.g. ``Why 'shirt' and not 'coat'?``."""
    names = one.class_names
    return f"Why {names[int(one.target[index])]!r} and not {names[int(one.contrast[index])]!r}?"


def sentences(one: Explanation, index: int = 0) -> list[tuple[bool | None, str]]:
    """Say what the figures mean: ``(holds, sentence)``, with None where a sentence is neither good nor bad."""
    figures, i = one.fidelity, index
    target, contrast = (one.class_names[int(values[i])] for values in (one.target, one.contrast))
    agrees, flips = bool(figures.agrees[i]), bool(figures.flips[i])
    said: list[tuple[bool | None, str]] = [
        (flips, f"Without the evidence f {'decides' if flips else 'does NOT decide'} for {contrast!r}."),
        (
            agrees,
            f"f {'decides the same' if agrees else 'decides OTHERWISE'} on the lens's reconstruction"
            f" (score off by {float(figures.score_gap[i]):.2f}).",
        ),
    ]
    if one.reconstruction is not None:
        said.append((None, f"Likeness of the reconstruction: SSIM {float(figures.ssim[i]):.2f}."))
    share = float(figures.monotone[i])
    rises = "all of" if share == 1 else f"{share:.0%} of"
    said.append((None, f"The score for {target!r} rises along {rises} the path."))
    for name, delta in one.convergence_delta.items():
        found = float(one.attributions[name][i].double().sum())
        said.append((None, f"{method_title(name)} sums to {found:.2f} of {found - float(delta[i]):.2f}."))
    if one.mask is not None:
        wide = bool(not_local(figures, one.mask)[i])
        share = float(figures.coverage[i])
        local = "The edit is NOT local" if wide else "The edit is local"
        said.append((not wide, f"{local}: {share:.0%} of the lens's change is carried over."))
    return said
