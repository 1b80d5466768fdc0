"""This machine and this process: files, signals, what a person sees of a run."""
