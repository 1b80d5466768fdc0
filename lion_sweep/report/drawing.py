"""Figures drawn while the rest of a report is made; what cannot be drawn is named, and left out."""

import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context

from lion_sweep.errors import sentence, trace
from lion_sweep.report.figures import Spec, render

ROWS_OF_A_PROCESS = 2000


@contextmanager
def drawing_of(specifications: Mapping[str, Spec]) -> Iterator[Future[dict[str, dict[str, bytes]]]]:
    """What will be drawn, while everything else is made.

    The library holds Python up while it draws, so that of many rows is done by another process,
    which takes a second to begin.
    """
    rows = sum(len(data) for one in specifications.values() for data in one["datasets"].values())
    many = rows > ROWS_OF_A_PROCESS
    with ProcessPoolExecutor(1, get_context("spawn")) if many else ThreadPoolExecutor(1) as beside:
        yield beside.submit(draw, specifications)


def draw(specifications: Mapping[str, Spec]) -> dict[str, dict[str, bytes]]:
    """Those figures that can be drawn, in each form of a file."""
    drawn = {}
    for stem, specification in specifications.items():
        with left_out(f"figure {stem}"):
            drawn[stem] = render(specification)
    return drawn


@contextmanager
def left_out(what: str) -> Iterator[None]:
    """Name what cannot be drawn on stderr, and go on: tables do not need it."""
    try:
        yield
    except Exception as error:  # of fonts, a platform, the library
        trace(error)
        print(f"without {what}: {sentence(error)}", file=sys.stderr, flush=True)
