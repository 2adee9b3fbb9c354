"""Nodes talking to nodes: identity, frames, gossip, requests and blobs over TLS."""
