"""HTML that says to a screen reader what it shows to the eye, where Sphinx's does not."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

__all__ = ["mended", "setup"]

#: The arguments of a signature on several lines: a list of definitions in which nothing is defined.
_ARGUMENTS = re.compile(r"<dl>\n((?:<dd>.*?</dd>\n)+)</dl>", re.S)
_EMPTY_HEAD = re.compile(r'<th class="(head(?: stub)?)"><p></p></th>')


def mended(body: str) -> str:
    """Return a page with the arguments of signatures as a list, and without heads of tables that say nothing.

    >>> mended('<dl>\\n<dd>a,</dd>\\n</dl>')
    '<ul class="arguments">\\n<li>a,</li>\\n</ul>'
    """

    def listed(match: re.Match[str]) -> str:
        items = match[1].replace("<dd>", "<li>").replace("</dd>", "</li>")
        return f'<ul class="arguments">\n{items}</ul>'

    return _EMPTY_HEAD.sub(r'<td class="\1"></td>', _ARGUMENTS.sub(listed, body))


def _mend(app: Sphinx, page: str, template: str, context: dict[str, Any], tree: object) -> None:
    if "body" in context:
        context["body"] = mended(context["body"])


def setup(app: Sphinx) -> dict[str, bool]:
    """Mend each page before it is written."""
    app.connect("html-page-context", _mend)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
