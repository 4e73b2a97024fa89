"""One benchmark for each lens, and what belongs to it."""
