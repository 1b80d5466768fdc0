"""Effectiveness measures per query and the paired significance test between systems."""
