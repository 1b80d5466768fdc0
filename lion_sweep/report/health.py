"""How healthy cells were at the end of their training, as its record tells; who was stopped."""

from collections.abc import Mapping
from typing import Any

from lion_sweep.report.collect import CellResult, number
from lion_sweep.report.costs import by_result
from lion_sweep.report.failures import ending
from lion_sweep.report.layout import HOLE, NOT_APPLICABLE, Table, folded, show
from lion_sweep.report.noise import points_of
from lion_sweep.report.sections import Section

# Headings, keys of a line of the record, and how a number is shown; OF_TERMS: of sparse vectors.
ALL = {
    "Cosine, queries": ("cosine_queries", ".4f"),
    "Cosine, passages": ("cosine_passages", ".4f"),
    "Spread of scores": ("spread", ",.3g"),
    "Lookahead": ("lookahead", ".2g"),
    "Gradient norm": ("gradient_norm", ".3g"),
}
OF_TERMS = {
    "L0, queries": ("L0_queries", ",.1f"),
    "L0, passages": ("L0_passages", ",.1f"),
    "Empty, queries": ("empty_queries", ".0%"),
    "Empty, passages": ("empty_passages", ".0%"),
    "Always on, queries": ("always_on_queries", ",.0f"),
    "Always on, passages": ("always_on_passages", ",.0f"),
    "First token": ("first_token", ".0%"),
    "Sink": ("sink", ".0%"),
    "Regulariser": ("regulariser", ".3g"),
}
HEALTHY, UNWATCHED = "healthy", "not watched"


def health_table(section: Section) -> Table | None:
    """A row per cell and seed; None where none that was trained here has such a record."""
    here = [result for result in section.shown if result.data == section.collection]
    last = {result.id: last_look(result) for result in here}
    if not any(last.values()):
        return None
    header = ["Cell", "Seed", "Alarms", *ALL, *OF_TERMS]
    rows = by_result(section, lambda result: _health(result, last.get(result.id, {})), len(header))
    stopped = {section.axes.name(cell): ending(asked.folder).state for cell, asked in section.begun}
    for row in rows:
        if row[1] == HOLE:
            row[2] = stopped.get(row[0], HOLE)
    return folded(
        Table(
            title=f"Health at the end of training on {section.name}",
            header=header,
            rows=rows,
            below=[
                "Measured after the last step on a few training texts, without dropout. Cosine is "
                "the mean of all pairs of texts; the spread is the standard deviation of a query's "
                "scores, divided by the temperature, over passages; lookahead is how far a state "
                "of a text's first half moves with its second half, relative to its length; always "
                "on are the terms of 95 % of the texts; first token and sink are the shares of a "
                "passage's terms that its first token brings, and that it brings to every passage; "
                "regulariser is what it adds to the last step's loss over the rest of that.",
                f"{HEALTHY.capitalize()}: no alarm went off, of those that were on. A cell that "
                "an alarm has stopped has no result; what it said stands among the failures.",
                section.seeds,
            ],
        )
    )


def last_look(result: CellResult) -> Mapping[str, Any]:
    """The last line of the record of points that says how healthy the model was; else nothing."""
    looks = [row for row in points_of(result) if "cosine_queries" in row]
    return looks[-1] if looks else {}


def _health(result: CellResult, look: Mapping[str, Any]) -> list[str]:
    of_all = [show(number(look, key), form) for key, form in ALL.values()]
    dense = look and "L0_queries" not in look
    of_terms = [
        NOT_APPLICABLE if dense else show(number(look, key), form)
        for key, form in OF_TERMS.values()
    ]
    return [_alarms(result.alarms) if look else HOLE, *of_all, *of_terms]


def _alarms(limits: Mapping[str, Any]) -> str:
    off = [key for key, limit in limits.items() if limit is None]
    if not limits or len(off) == len(limits):
        return UNWATCHED
    return f"{HEALTHY}; off: {', '.join(off)}" if off else HEALTHY
