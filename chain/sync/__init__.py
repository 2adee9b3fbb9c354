"""Catching up with the chain: blocks in ranges from many peers at once, each proven before it is executed."""
