"""Scaling tables, figures and a page from the result files of a sweep; reads files only."""

from lion_sweep.report.collect import Cell, CellResult, collect, grid
from lion_sweep.report.sections import Section, sections

__all__ = ["Cell", "CellResult", "Section", "collect", "grid", "sections"]
