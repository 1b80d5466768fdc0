"""Scaling tables, figures and a page from the result files of a sweep; reads files only."""
