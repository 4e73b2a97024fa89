"""Sharing: a lens as a repository on the Hugging Face hub, what it takes along of the data, and reading it back."""
