"""The modules that runtime/potchain.py composes."""
