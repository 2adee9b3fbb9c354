"""The light client: follows validator sets and seals, and believes of a node's answers only what it can prove."""
