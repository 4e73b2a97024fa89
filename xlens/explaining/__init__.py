"""From a question to an explanation: what is asked, attributions, and the verdict."""
