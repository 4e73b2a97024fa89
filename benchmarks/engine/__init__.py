"""Benchmarks of the machinery: attribution, imports, warm starts, training loops, the conformance kit."""
