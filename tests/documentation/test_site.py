"""The documentation: every public name is described, what people search for is found, links lead somewhere."""

import importlib
import importlib.metadata
import inspect
import os
import sys
from pathlib import Path

import pytest
from building import accessible, copies, links, words
from building.execution import agrees, blocks_of, remembered, run_page, with_outputs
from building.reference import ROOMS, documented, pages
from building.semantics import mended

ROOT = Path(__file__).parents[2]
#: Rooms that are no library: what they export is for the command line and for old paths.
APART = {"xlens.cli", "xlens.moved"}


@pytest.fixture(scope="module")
def reference():
    return pages()


def test_every_room_with_public_names_is_in_the_reference():
    rooms = {"xlens"} | {f"xlens.{path.parent.name}" for path in (ROOT / "xlens").glob("*/__init__.py")}
    rooms = {room for room in rooms - APART if hasattr(importlib.import_module(room), "__all__")}
    assert rooms - set(ROOMS) == set()
    shipped = importlib.metadata.entry_points(group="xlens")
    assert {entry.value for entry in shipped if entry.dist and entry.dist.name == "xlens"} - set(ROOMS) == set()


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_is_described_once(room, reference):
    module, own = importlib.import_module(room), documented()
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.ismodule(value):
            assert value.__name__ in ROOMS or any(key.startswith(f"{value.__name__}.") for key in ROOMS)
            continue
        homes = [(key, other) for key, names in own.items() for other in names if _same(key, other, room, name)]
        assert name == "xlens_backend" or len(homes) == 1, f"{room}.{name}: {homes}"
        for key, other in homes:
            written = (f":: {key}.{other}\n", f":: {other}\n   :module: {key}\n")
            assert any(directive in reference[key.replace(".", "-")] for directive in written)


def _same(key: str, other: str, room: str, name: str) -> bool:
    found, value = getattr(importlib.import_module(key), other), getattr(importlib.import_module(room), name)
    code = inspect.isclass(value) or inspect.isroutine(value)
    return found is value if code else (key, other) == (room, name)


def test_a_name_that_is_added_is_noticed(monkeypatch):
    import xlens.metrics

    def gloss():
        """Gloss of a map."""

    monkeypatch.setattr(xlens.metrics, "gloss", gloss, raising=False)
    monkeypatch.setattr(xlens.metrics, "__all__", [*xlens.metrics.__all__, "gloss"])
    assert "autofunction:: xlens.metrics.gloss\n" in pages()["xlens-metrics"]


def test_first_lines_are_sentences_on_one_line():
    bad = []
    for room, names in documented().items():
        for name in names:
            value = getattr(importlib.import_module(room), name)
            if inspect.isclass(value) or inspect.isroutine(value):
                first, *rest = (inspect.getdoc(value) or "").splitlines() or [""]
                if not first.endswith(".") or (rest and rest[0]):
                    bad.append(f"{room}.{name}: {first}")
    assert not bad


@pytest.fixture(scope="module")
def browser():
    if (found := words.chromium()) is None:
        if os.environ.get("XLENS_REQUIRE_BROWSER") == "1":
            pytest.fail("XLENS_REQUIRE_BROWSER=1, and no Chromium is installed")
        pytest.skip("no Chromium is installed: apt-get install chromium")
    return found


def test_words_that_people_search_for_are_found(site, browser):
    assert len(words.WORDS) >= 50
    known = {path.relative_to(site).with_suffix("").as_posix() for path in site.rglob("*.html")}
    wanted = {page for pages in words.WORDS.values() for page in pages if not page.startswith("api/xlens")}
    assert wanted - known == set()
    assert words.missed(site, browser) == []


def test_pages_have_no_accessibility_fault_and_fit_on_a_phone(site, browser):
    looked_at = [site / "index.html", site / "search.html", site / "benchmarks" / "mutations.html"]
    assert [
        view for view in accessible.views(site, looked_at, browser, (390,), ("light", "dark")) if view[-1]
    ] == []


def test_an_accessibility_fault_and_a_wide_page_are_seen(tmp_path, browser):
    (tmp_path / "a.html").write_text("<html><body><img src='data:,'><p style='width: 900px'>x</p></body></html>")
    ((*view, found),) = accessible.views(tmp_path, [tmp_path / "a.html"], browser, (390,), ("light",))
    assert view == ["a.html", 390, "light"]
    assert {"image-alt", "wider-than-the-screen:"} <= {line.split(" ")[0] for line in found}


def test_signatures_and_heads_of_tables_are_what_they_look_like():
    signature = "<dt>f(\n<dl>\n<dd><em>a</em>,</dd>\n<dd>b</dd>\n</dl>\n)</dt>"
    assert mended(signature) == '<dt>f(\n<ul class="arguments">\n<li><em>a</em>,</li>\n<li>b</li>\n</ul>\n)</dt>'
    assert mended('<tr><th class="head"><p></p></th></tr>') == '<tr><td class="head"></td></tr>'
    defined = "<dl>\n<dt>a</dt>\n<dd>b</dd>\n</dl>"
    assert mended(defined) == defined


def test_a_dead_link_and_what_is_fetched_are_seen(tmp_path):
    (tmp_path / "b.html").write_text("<p id='here'>x</p>")
    (tmp_path / "a.html").write_text(
        "<a href='b.html#here'>good</a><a href='b.html#gone'>a</a><a href='c.html'>b</a>"
        "<a href='https://example.org'>good</a><script src='https://example.org/x.js'></script>"
    )
    assert links.faults(tmp_path) == [
        "a.html: b.html#gone has no such place",
        "a.html: c.html is not there",
        "a.html: loads https://example.org/x.js",
    ]


def test_links_out_of_the_documents_lead_to_pages_of_the_site():
    home = ROOT / "docs" / "guide"
    text = "[a](../../examples/gradio_app.py) [b](../../CHANGELOG.md#x) [c](trust.md)"
    mended = "[a](../api/example-gradio_app.md) [b](../api/changelog.md#x) [c](trust.md)"
    assert copies.relinked(text, home, home) == mended
    folder = "[d](../../examples/xlens_latentshift)"
    assert copies.relinked(folder, home, home) == "[d](../api/example-latentshift.md)"
    assert copies.relinked("[e](../../tests/README.md)", home, home) == "e"


def test_what_a_block_prints_draws_and_writes_stands_under_it(tmp_path):
    page = (
        "# P\n\n```python\nprint(1 + 1)\nopen('why.html', 'w').write('x') and None\n```\n\n"
        "```python\nfrom matplotlib.figure import Figure\nFigure()\n```\n"
    )
    (tmp_path / "pages").mkdir()
    before = Path.cwd()
    outputs = run_page("a/b", page, tmp_path)
    assert Path.cwd() == before
    assert len(blocks_of(page)) == 2
    shown = with_outputs(page, outputs, "../")
    assert "\n2\n```" in shown
    assert '<a href="../a-b-0-why.html">' in shown
    assert "](../run/a-b-1-0.png)" in shown
    assert (tmp_path / "a-b-1-0.png").stat().st_size > 500
    assert sys.modules.pop("page").__name__ == "page"


def test_the_output_in_the_readme_is_compared_but_for_numbers():
    page = "# A\n\n```text\nscore 0.5\n```\n"
    assert agrees(page, "UntrustworthyWarning: 1 of 2\nscore 0.25")
    assert not agrees(page, "margin 0.5")


def test_a_page_is_run_again_where_its_code_is_another(tmp_path):
    (tmp_path / "pages").mkdir()
    page = f"```python\nfrom pathlib import Path\nprint(len(list(Path({str(tmp_path)!r}).glob('*.json'))))\n```\n"
    assert [remembered(name, page, tmp_path)[0].text for name in ("a", "a", "b")] == ["0", "0", "1"]
    assert remembered("a", page.replace("print", "print(2)\nprint"), tmp_path)[0].text == "2\n2"
    sys.modules.pop("page")


def test_a_page_that_fails_says_where(tmp_path):
    (tmp_path / "pages").mkdir()
    with pytest.raises(RuntimeError, match=r"p: block 2: (?s:.*)ZeroDivisionError"):
        run_page("p", "```python\nx = 1\n```\n\n```python\nx / 0\n```\n", tmp_path)
