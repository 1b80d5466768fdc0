"""Adaptation (MNTP), the training loop, checkpoints."""
