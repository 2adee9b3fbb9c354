"""The state transition: pure, deterministic, and composed of modules."""
