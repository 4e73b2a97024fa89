"""The papers' own tables, remade on data that can be installed here."""
