"""The site's own code, and the site as it is built."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "docs"))


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The built site where it is newer than all of its pages, or else the pages without the reference."""
    built, index = ROOT / "site", ROOT / "site" / "searchindex.js"
    pages = [
        path for path in (ROOT / "docs").rglob("*.md") if path.relative_to(ROOT).parts[1] not in ("api", "run")
    ]
    if index.is_file() and index.stat().st_mtime > max(page.stat().st_mtime for page in pages):
        return built
    from sphinx.cmd.build import build_main

    place = tmp_path_factory.mktemp("site")
    assert build_main(["-Q", "-t", "quick", "-D", "execute_pages=0", str(ROOT / "docs"), str(place)]) == 0
    return place
