"""A report with sliders: an explanation together with what its lens can move."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from xlens.contracts.explainer import Explainer
from xlens.deprecated import renamed
from xlens.explanation import Explanation
from xlens.fitted import Fitted
from xlens.report.page import check_writable, save_html
from xlens.report.traversals import render_traversals

__all__ = ["save_report"]


@renamed(steps="values")
def save_report(
    explainer: Explainer | Fitted,
    explanation: Explanation,
    path: str | Path,
    *,
    features: Sequence[str | int] | None = None,
    values: Sequence[float] | None = None,
    names: Sequence[str] | None = None,
    title: str = "Explanations",
    max_bytes: int | None = None,
) -> None:
    """HTML report of an explanation with a slider for each of the lens's features, rendered ahead.

    Args:
        explainer: the one that made the explanation.
        explanation: what ``explainer.explain`` returned.
        path: the HTML file.
        features: names, also of directions, or positions; None takes up to six class and attribute features,
            by contribution, as far as the file stays small: the page names those left out.
        values: values that each feature is set to, as for ``explainer.traverse``; None chooses.
        names: N names of the inputs, such as file names.
        title: heading of the page.
        max_bytes: what the file should stay below; None for 2 MB for sixteen images of 64x64, and in proportion.

    Raises:
        UnsupportedError: the inputs are neither images nor signals, or features were named and the lens does not
            decode to inputs.
        OptionError: there is no such feature, or `max_bytes` is no whole number above 0.
        StorageError: the file cannot be written.

    >>> import tempfile
    >>> from xlens.report import save_report
    >>> save_report(explainer, explainer.explain(images[:2]), tempfile.mkdtemp() + "/why.html")
    """
    check_writable(path)
    moved = render_traversals(explainer, explanation, features, values)
    save_html(
        explanation,
        path,
        names=names,
        title=title,
        traversals=moved,
        optional=features is None,
        max_bytes=max_bytes,
    )
