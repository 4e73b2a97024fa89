"""Moving codes: features and directions, edits by name, variants, and figures about them."""
