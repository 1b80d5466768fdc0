"""A cell: its identity, what has to be done for it, what was tried, what came out."""
