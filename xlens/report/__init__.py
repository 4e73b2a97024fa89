"""One self-contained HTML file that people open: no network, no server, nothing to install."""

from xlens.report.comparison import save_comparison
from xlens.report.lens import save_report
from xlens.report.notes import read_notes
from xlens.report.page import check_writable, notebook_html, save_html, to_html
from xlens.report.traversals import Traversal, render_traversals

__all__ = [
    "Traversal",
    "check_writable",
    "notebook_html",
    "read_notes",
    "render_traversals",
    "save_comparison",
    "save_html",
    "save_report",
    "to_html",
]
