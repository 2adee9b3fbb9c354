"""A node's metrics for Prometheus: what the parts count, under Substrate's names where it has them."""
