"""A page as one HTML document: its own style and scripts, allowed by their hashes, and nothing else."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

__all__ = ["asset", "document", "environment"]


def document(template: str, styles: Sequence[str], scripts: Sequence[str], **facts: Any) -> str:
    """Return a page of one of the report's templates; what it is given is escaped.

    Args:
        template, styles, scripts: names of files beside the templates; the styles become one.
        **facts: what the template shows.
    """
    style = "".join(asset(name) for name in styles)
    code = [asset(name) for name in scripts]
    return (
        environment()
        .get_template(template)
        .render(
            policy=_policy(style, code),
            # Our own files, not input: everything else is escaped by the template.
            style=Markup(style),
            scripts=[Markup(script) for script in code],
            **facts,
        )
    )


@cache
def environment() -> jinja2.Environment:
    """Return where templates are found, which escape everything."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("xlens.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def asset(name: str) -> str:
    """Return the text of a style or a script."""
    return (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8")


def _policy(style: str, scripts: Sequence[str]) -> str:
    """Allow this page's own style and scripts, by their hashes, and images in the page; nothing else."""
    allowed = " ".join(_hash(script) for script in scripts)
    rules = ("default-src 'none'", "img-src data:", f"style-src {_hash(style)}", f"script-src {allowed}")
    return "; ".join((*rules, "base-uri 'none'", "form-action 'none'"))


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
