"""Opening a page for whoever sits in front of a screen."""

from __future__ import annotations

import os
import sys
import webbrowser
from pathlib import Path

__all__ = ["open_page"]


def open_page(page: Path) -> bool:
    """Open a page in the browser where there is a screen; return whether it was.

    Without a screen a browser for terminals would take the terminal away from whoever types there.
    """
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return False
    try:
        return webbrowser.open(page.resolve().as_uri())
    except (OSError, webbrowser.Error):
        # The page is written, and its path printed: no reason to end with an error.
        return False
