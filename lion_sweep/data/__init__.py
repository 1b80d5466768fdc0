"""Collections, token cache, training groups and batches."""
