"""Benchmarks: figures of lenses, of the attribution engine, of the papers' tables; run each with ``python -m``."""
