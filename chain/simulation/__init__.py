"""Whole chains in one process, on virtual time and from one seed: what `potchain simulate` runs."""
