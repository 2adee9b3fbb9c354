"""What a wallet needs of any chain of this framework: calls, storage and transactions by the metadata of its node."""
