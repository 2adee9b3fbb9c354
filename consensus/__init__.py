"""PBFT: a pure core that decides one height at a time, and the gadget that carries its decisions out (SPEC.md)."""
