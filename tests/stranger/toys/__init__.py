"""A package outside lion_sweep: one file for each thing that can be added."""
