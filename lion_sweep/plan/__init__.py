"""What a grid will take, before anything runs: `python -m lion_sweep.plan`."""
