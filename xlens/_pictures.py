"""What an explainer draws, kept apart from how it explains."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from xlens.explanation import Explanation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Pictures"]


class Pictures:
    """The part of an explainer that makes figures and reports; matplotlib is loaded when one is drawn."""

    def plot_traversal(
        self, inputs: Any, feature: str | int, steps: Sequence[float] | Tensor, *, target: int | None = None
    ) -> Figure:
        """Draw :meth:`traverse`, with f's probability under each frame.

        Args:
            inputs, feature, steps: as for :meth:`traverse`.
            target: the class whose probability is written; None for f's prediction on the first input.

        >>> explainer.plot_traversal(images[:2], 1, [0.0, 0.5, 1.0])
        <Figure size ... with 8 Axes>
        """
        from xlens.plot.asked import traversal

        return traversal(self, inputs, feature, steps, target)

    def plot_invariances(self, inputs: Any, n: int, scale: float = 1.0, *, seed: int = 0) -> Figure:
        """Draw :meth:`invariances` of the nuisance part, and mark the variants on which f decides otherwise.

        >>> explainer.plot_invariances(images[:2], 3)
        <Figure size ... with 8 Axes>
        """
        from xlens.plot.asked import invariances

        return invariances(self, inputs, n, scale, seed)

    def report(
        self,
        explanation: Explanation,
        path: str | Path,
        *,
        features: Sequence[str | int] | None = None,
        steps: Sequence[float] | None = None,
        names: Sequence[str] | None = None,
        title: str = "Explanations",
    ) -> None:
        """Write ``explanation.save_html`` with a slider for each of the lens's features, rendered ahead.

        Args:
            explanation: what :meth:`explain` returned.
            path: the HTML file.
            features: names, also of directions, or positions; None takes up to six class and attribute features,
                by contribution, as far as the file stays small: the page names those left out.
            steps: values that each feature is set to, as for :meth:`traverse`; None chooses.
            names: N names of the inputs, such as file names.
            title: heading of the page.

        >>> import tempfile
        >>> explainer.report(explainer.explain(images[:2]), tempfile.mkdtemp() + "/why.html")
        """
        from xlens.report import check_writable, render_traversals, save_html

        check_writable(path)
        moved = render_traversals(self, explanation, features, steps)
        save_html(explanation, path, names=names, title=title, traversals=moved, optional=features is None)
