"""Moving codes: features and directions, edits by name, and variants."""
