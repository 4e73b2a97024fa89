"""The command line: ``xlens``, or ``python -m xlens.cli``."""

from xlens.cli.main import main

__all__ = ["main"]
