"""A plugin as somebody else would write it."""

from __future__ import annotations

GOOD = '''
    """Ridge: a lens that is a ridge."""
    import xlens

    @xlens.options
    class Ridge(xlens.Backend):
        name = "{name}"
        capabilities = ("sample",)
        rank: int = xlens.param(3, ge=1, help="rank")

        def fit(self, classifier, data, run):
            raise NotImplementedError

        def build(self, classifier, spec):
            raise NotImplementedError

    @xlens.hookimpl
    def xlens_backend():
        return Ridge
'''
