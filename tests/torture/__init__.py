"""Cells under faults of every kind, hundreds of them: see __main__.py."""
