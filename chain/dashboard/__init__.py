"""The dashboard: pages that a node serves at its RPC port, and nothing that runs in the node besides serving them."""
