"""The page of a report: one file with tables, charts and a view of every cell.

Python gathers what it shows (content, cells, story), `build` puts that into the template once, as
JSON, and the scripts beside it draw. Nothing is loaded from elsewhere.
"""
