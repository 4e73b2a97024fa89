"""Each paper's claims on real digits: ``paper()`` and the defaults beside each other, by seed."""
