"""What the figures of an explanation mean, in sentences; the same ones in pictures and reports."""

from __future__ import annotations

from torch import Tensor

from xlens.explanation import Explanation
from xlens.plot.verdicts import verdict_lines

__all__ = [
    "complete_methods",
    "end_of_path",
    "method_title",
    "other_case",
    "other_labels",
    "path_of",
    "probability_of",
    "question",
    "scores_of",
    "sentences",
    "unsigned_methods",
]

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


# These report a remainder too, but promise no sum, or promise that of another difference.
_OTHER_SUMS = {
    "lig_paper": ", which it does not promise",
    "ig_ensemble": ", the mean difference from its starting points",
}


def complete_methods(one: Explanation) -> tuple[str, ...]:
    """Return the attributions that add up to the same difference, that of the classifier's score on the path's two
    ends.

    With them the shares of named parts of the code, which do so together.
    """
    complete = set(one.convergence_delta) - set(_OTHER_SUMS)
    return tuple(name for name in one.attributions if name in complete or ": " in name)


def unsigned_methods(one: Explanation) -> tuple[str, ...]:
    """Return the attributions that are magnitudes: nowhere below zero, and not parts of a sum."""
    complete = complete_methods(one)
    return tuple(n for n, values in one.attributions.items() if n not in complete and bool((values >= 0).all()))


def end_of_path(one: Explanation) -> str:
    """Return what the path leads to: ``"input"``, or ``"reconstruction"`` where nothing was carried over."""
    if one.reconstruction is None or not len(one):
        return "input"
    last = one.path[:, -1]
    nearer = (last - one.reconstruction).abs().sum() < (last - one.inputs).abs().sum()
    return "reconstruction" if bool(nearer) else "input"


def scores_of(one: Explanation) -> list[tuple[str, Tensor]]:
    """Return (what the classifier looked at, scores ``(N,)``); ``scores`` are the reconstruction's if the path ends
    there."""
    found = [("input", one.scores)] if end_of_path(one) == "input" else []
    if one.reconstruction_scores is not None:
        found.append((_rebuilt(one), one.reconstruction_scores))
    # A lens on a hidden layer makes no inputs: the other one is real, or a decoder's.
    other = {"another real case": "other real case"}.get(other_case(one), other_case(one))
    return [*found, (other, one.counterfactual_scores)]


def other_case(one: Explanation) -> str:
    """Return what stands beside the input: its counterfactual, or what is shown for a point of a hidden layer.

    That is another real input, or what a decoder makes of the point; neither is the input with something changed.
    """
    if one.reconstruction is not None:
        return "counterfactual"
    return "decoded from the layer" if one.decoded_from_layer else "another real case"


def _rebuilt(one: Explanation) -> str:
    """Return what a code decodes to: the input's reconstruction, or a hidden layer's activations."""
    return "reconstruction" if one.reconstruction is not None else "rebuilt layer"


def path_of(one: Explanation) -> str:
    """Return what the frames of the path are, and what the classifier is asked about.

    A lens on a hidden layer decodes to no inputs: of the path, which is in the layer, real inputs near it are
    shown, or what a decoder makes of it.
    """
    if one.reconstruction is not None:
        return "The path"
    if one.decoded_from_layer:
        return "The path in the layer, decoded from there"
    return "The nearest real inputs to the path in the layer"


def probability_of(target: str, contrast: str, classes: int) -> str:
    """Return what the probability is called that a score, the margin of two logits, stands for.

    With two classes it is the classifier's own; with more it is that of one class if the classifier had only these
    two to choose from.

    >>> probability_of("ill", "healthy", 2), probability_of("cat", "dog", 10)
    ('p(ill)', 'p(cat against dog)')
    """
    return f"p({target})" if classes == 2 else f"p({target} against {contrast})"


def method_title(name: str) -> str:
    """Return what an attribution method, or its share of a named part of the code, is called in pictures."""
    method, colon, part = name.partition(": ")
    return _TITLES.get(method, method.replace("_", " ")) + colon + part


def question(one: Explanation, index: int = 0) -> str:
    """Return what is explained, e.g. ``Why 'shirt' and not 'coat'?``."""
    names = one.class_names
    return f"Why {names[int(one.target[index])]!r} and not {names[int(one.contrast[index])]!r}?"


def sentences(one: Explanation, index: int = 0) -> list[tuple[bool | None, str]]:
    """Say what the figures mean: ``(holds, sentence)``, with None where a sentence is neither good nor bad.

    The verdicts come first; what follows are figures, which no tick stands before.
    """
    figures, i = one.fidelity, index
    target = one.class_names[int(one.target[i])]
    said: list[tuple[bool | None, str]] = [(holds, line) for _, holds, line in verdict_lines(one, i)]
    same = "decides the same" if bool(figures.agrees[i]) else "decides OTHERWISE"
    gap = float(figures.score_gap[i])
    said.append((None, f"The classifier {same} on the lens's {_rebuilt(one)} (score off by {gap:.2f})."))
    if one.reconstruction is not None:
        said.append((None, f"Likeness of the reconstruction: SSIM {float(figures.ssim[i]):.2f}."))
    share = float(figures.monotone[i])
    rises = "never falls" if share == 1 else f"does not fall on {share:.0%} of the steps"
    said.append((None, f"Along the path the score for {target!r} {rises}."))
    for name, delta in one.convergence_delta.items():
        found = float(one.attributions[name][i].cpu().double().sum())
        total = f"{found - float(delta[i]):.2f}{_OTHER_SUMS.get(name, '')}"
        said.append((None, f"{method_title(name)} sums to {found:.2f} of {total}."))
    if one.mask is not None:
        said.append((None, f"{float(figures.coverage[i]):.0%} of the lens's change is carried over."))
    return said + [(None, line) for line in other_labels(one, i)]


def other_labels(one: Explanation, index: int = 0) -> list[str]:
    """Say how the classifier's other independent labels change with the edit; nothing where there are none.

    An edit that is about one label alone changes no decision on another. Labels that are decided otherwise come by
    name, and beside them the one whose probability moves most.
    """
    pairs = {name: pair[index].tolist() for name, pair in one.other_labels.items()}
    if not pairs:
        return []
    turned = [name for name, (before, after) in pairs.items() if (before > 0.5) != (after > 0.5)]
    most = max(pairs, key=lambda name: abs(pairs[name][1] - pairs[name][0]))
    shown = ", ".join(f"{name!r} (p = {pairs[name][0]:.2f} to {pairs[name][1]:.2f})" for name in turned or [most])
    if turned:
        return [f"NOT this label alone: the classifier decides otherwise on {shown} too."]
    return [f"This label alone: the classifier's other labels stay as decided; most moves {shown}."]
