"""Effectiveness measures per query; tests and intervals of differences between systems."""
