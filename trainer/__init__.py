"""Training: programs run in a sandbox, exact updates, and the worker, auditor and aggregator around them."""
