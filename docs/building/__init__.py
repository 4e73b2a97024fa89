"""What Sphinx is taught beside the pages: the reference from docstrings, code that is run, words to search."""
