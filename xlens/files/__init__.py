"""Files as they reach the disk and come back: whole or not at all, of a known size, and of the kinds expected."""
