"""The table of a grid while it runs: what it says, in terminals of any size."""

import io

import pytest
from rich.cells import cell_len
from rich.console import Console

from lion_sweep.machine import board
from lion_sweep.machine.board import Row

LONG = "1b-sparse-kd recipe.lora.rank=4 recipe.embedding_rate=0.003 日本語"
WHERE = {
    "stage": "train",
    "done": 120,
    "total": 513,
    "rate": 12.3,
    "seconds_left": 32,
    "loss": 1.25,
}


def rows(number: int = 18) -> list[Row]:
    """One has finished, one runs, one has failed, the others wait."""
    first = [
        Row("done", board.FINISHED, said="nDCG@10 0.4073", seconds=30.0),
        Row.running(LONG, WHERE, 10.0),
        Row("broken", board.FAILED, said="out of memory", seconds=3.0),
    ]
    return [*first, *(Row(f"cell {n}", board.QUEUED) for n in range(number - 3))]


def shown(told: list[Row], columns: int, lines: int, said: str = "") -> list[str]:
    """Lines of a terminal of that size."""
    console = Console(width=columns - 1, file=io.StringIO(), record=True, legacy_windows=False)
    console.print(board.drawn(told, columns, lines, said))
    return console.export_text().rstrip("\n").split("\n")


def test_a_wide_terminal_has_all_there_is_to_say() -> None:
    head, done, runs, broken, *others, below = shown(rows(6), 140, 24)
    assert head.split() == ["cell", "state", "stage", "done", "rate", "left", "loss"]
    assert done.split("  ")[0] == "done" and "finished" in done and "nDCG@10 0.4073" in done
    assert LONG in runs
    for text in ("running", "train", "━━", "120/513", "12.3/s", "32.0 s", "1.250"):
        assert text in runs
    assert "failed" in broken and "out of memory" in broken
    assert [line.split() for line in others] == [["cell", str(n), "queued"] for n in range(3)]
    # Three cells like the finished one, and the rest of the running one, one after the other.
    assert below == "1 of 6 finished, about 2 min left, 43 s spent, 1 running, 1 failed, 3 queued"


@pytest.mark.parametrize("columns", [200, 120, 80, 60, 40, 20, 8, 2, 1])
@pytest.mark.parametrize("lines", [60, 24, 8, 3, 2, 1])
def test_no_line_is_broken_and_no_table_is_higher_than_the_terminal(
    columns: int, lines: int
) -> None:
    found = shown(rows(), columns, lines, said="SLURM does not answer, which is said at length")
    assert len(found) <= max(2, lines - 1)  # what stands below the table is cut by the screen
    assert max(map(cell_len, found)) <= max(1, columns - 1)


def test_long_names_are_cut() -> None:
    (line,) = (line for line in shown(rows(), 60, 30) if "running" in line and "of" not in line)
    assert line.startswith("1b-sparse-kd") and "…" in line


def test_of_a_thousand_cells_those_that_run_are_shown_and_all_are_counted() -> None:
    many = [Row(f"old {n}", board.FINISHED, seconds=60.0) for n in range(600)]
    many += [Row.running(f"now {n}", WHERE, 30.0) for n in range(4)]
    many += [Row(f"next {n}", board.QUEUED) for n in range(395)] + [Row("lost", board.FAILED)]
    _, *found, more, below = shown(many, 100, 12)
    assert [line.split("  ")[0] for line in found] == [
        *(f"now {n}" for n in range(4)), "next 0", "next 1", "next 2", "lost",
    ]  # fmt: skip
    assert more == "... and 600 finished, 392 queued"
    # 4 x 30 s and 395 x 60 s, four at once.
    assert below.startswith("600 of 1,000 finished, about 99 min left, 10.0 h spent, 4 running, ")


def test_nobody_knows_how_long_what_has_never_finished_takes() -> None:
    training = Row.running("train", {}, 5.0, kind="train")
    cell = Row("cell", board.QUEUED)
    finished = Row("old", board.FINISHED, kind="train", seconds=20.0)
    assert board.seconds_left([training, cell]) is None
    assert board.seconds_left([finished, training, cell]) is None
    assert board.seconds_left([finished, training]) == 15.0
    assert "time left not known yet" in board.footer([training, cell])
    # What was done before this command took nothing of it.
    assert board.seconds_left([Row("old", board.FINISHED), cell]) is None
    assert board.footer([Row("old", board.FINISHED)]) == "1 of 1 finished"


def test_seconds_of_attempts_leave_out_what_nobody_knows() -> None:
    killed, ended = {"started": 0.0, "ended": None}, {"started": 5.0, "ended": 9.0}
    assert board.spent([killed, ended], running=False) == 4.0
    assert board.spent([killed], running=False) is None
    assert board.spent([{}], running=True) is None
    assert (board.spent([killed], running=True) or 0) > 1e9


def test_it_can_be_kept_as_a_picture() -> None:
    console = Console(width=99, file=io.StringIO(), record=True, force_terminal=True)
    console.print(board.drawn(rows(), 100, 24))
    picture = console.export_svg(title="lion_sweep")
    assert picture.startswith("<svg") and "12.3/s" in picture and "out" in picture
