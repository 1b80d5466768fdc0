"""A finished cell as a model that others can load: `python -m lion_sweep.export`."""
