"""Every lens and every baseline against a known cause."""
