"""What the teachers of a section's cells had to say, as their losses read it."""

from lion_sweep.report.collect import CellResult, number
from lion_sweep.report.costs import by_result
from lion_sweep.report.layout import HOLE, NOT_APPLICABLE, Table, folded, show
from lion_sweep.report.sections import Section

HEADER = ["Cell", "Seed", "Teacher", "Pairs", "Scored %", "Scale", "Scores 5/50/95 %"]
HEADER += ["Margins 5/50/95 %", "Inverted %", "Target entropy %", "Target margin"]


def teacher_tables(section: Section) -> list[Table]:
    """A row per cell and seed, where any cell's teacher was looked at."""
    if not any(result.teacher_audit for result in section.shown):
        return []
    table = Table(
        title=f"Teachers on {section.name}",
        header=HEADER,
        rows=by_result(section, _row, len(HEADER)),
        below=[
            "Of the pairs that training draws: scores times paradigm.teacher_scale; margins are "
            "those of the positive less those of each negative, inverted where that is below 0. "
            "The target's entropy is that of the softmax that a loss follows, a share of the "
            "largest that so many passages have; its margin the median size of those that a loss "
            "copies.",
            section.seeds,
        ],
    )
    return [folded(table)]


def _row(result: CellResult) -> list[str]:
    audit, name = result.teacher_audit, (result.teacher or {}).get("name")
    if not audit:
        return [str(name or "none"), *[HOLE if name else NOT_APPLICABLE] * (len(HEADER) - 3)]
    targets = [told for told in audit.get("targets", {}).values() if isinstance(told, dict)]
    shares = (number(audit, key) for key in ("coverage", "inverted"))
    covered, inverted = (None if share is None else 100 * share for share in shares)
    entropies = [100 * one["entropy"] for one in targets if "entropy" in one]
    margins = [one["margin"] for one in targets if "margin" in one]
    return [
        str(name),
        show(number(audit, "pairs"), ",.0f"),
        show(covered, ".4g"),
        show(number(audit, "scale"), ".3g"),
        *(_three(audit, key) for key in ("scores", "margins")),
        show(inverted, ".1f"),
        ", ".join(f"{value:.1f}" for value in entropies) or NOT_APPLICABLE,
        ", ".join(f"{value:.3g}" for value in margins) or NOT_APPLICABLE,
    ]


def _three(audit: dict[str, object], key: str) -> str:
    return " / ".join(show(number(audit, key, at), ".3g") for at in ("5%", "50%", "95%"))
