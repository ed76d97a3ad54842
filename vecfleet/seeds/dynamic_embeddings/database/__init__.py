"""The database of seed 004: `connection`, `schema` and `migration`."""
