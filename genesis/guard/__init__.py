"""The determinism guard: names what two validators could execute differently, from the source alone."""
