"""Checkpoints of other origin: adapters, whole models, sentence-transformers."""
