"""Chain specifications: what a network starts from."""
