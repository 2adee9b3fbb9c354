"""A chain of its own around one module of its own: a registry of names."""
