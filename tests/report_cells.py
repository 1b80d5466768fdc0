"""Cells of a report."""

import itertools
from collections.abc import Sequence

from lion_sweep.config.schema import AXES
from lion_sweep.report.axes import STUDY, Cell


def grid(**values: Sequence[str]) -> list[Cell]:
    """All combinations of values of the axes; of one that is left out, the study's."""
    return [Cell(*one) for one in itertools.product(*(values.get(a, STUDY[a]) for a in AXES))]
