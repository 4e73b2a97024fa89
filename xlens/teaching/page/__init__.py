"""A local web page on which a person teaches a lens: it asks, learns, and shows what the answers bring."""

from xlens.teaching.page.page import make_app, serve
from xlens.teaching.page.session import Session

__all__ = ["Session", "make_app", "serve"]
