"""Exact dense, sparse, impact and BM25 retrieval, and the runs they produce."""
