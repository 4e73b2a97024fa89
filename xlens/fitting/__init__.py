"""What ``fit`` does before and after the backend: checks, the identity of a run, agreement between processes."""
