"""Scaling tables, figures and a page from the result files of a sweep; reads files only."""

from lion_sweep.report.axes import Cell
from lion_sweep.report.collect import CellResult, collect
from lion_sweep.report.sections import Section, Wanted, sections

__all__ = ["Cell", "CellResult", "Section", "Wanted", "collect", "sections"]
