"""Claims over cells: what they compare, the test, and verdicts in every case."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_cells import grid
from report_results import OWN, Sweep

from lion_sweep.errors import UserError
from lion_sweep.evaluation.significance import holm, paired_randomisation
from lion_sweep.report.__main__ import main
from lion_sweep.report.axes import STUDY, Cell
from lion_sweep.report.collect import collect, unfinished
from lion_sweep.report.findings import Finding, as_record, findings, findings_table
from lion_sweep.report.sections import Choices, sections
from lion_sweep.report.statements import read_statements, study

PERMUTATIONS, QUERIES = 2000, 60
Level = Callable[[Cell], float]


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lion_sweep.report.significance.PERMUTATIONS", PERMUTATIONS)
    monkeypatch.setattr("lion_sweep.report.significance.SAMPLES", 500)


def write(root: Path, level: Level, cells: list[Cell] | None = None, **more: Any) -> None:
    """Cells with these means over queries, around which all vary alike and each a little."""
    sweep, ladder = Sweep(root, more.get("ladder", "proxy")), more.get("ladder", "proxy")
    common_Q = np.random.default_rng(0).normal(0, 0.1, QUERIES)
    for number, cell in enumerate(cells or grid()):
        folder = sweep.write(cell)
        own_Q = np.random.default_rng(number + 1).normal(0, 0.02, QUERIES)
        values_Q = level(cell) + common_Q - common_Q.mean() + own_Q - own_Q.mean()
        values = {f"q{q:02}": float(value) for q, value in enumerate(values_Q)}
        (folder / "per_query" / f"{OWN}.json").write_text(json.dumps({"nDCG@10": values}))
        result = json.loads((folder / "result.json").read_text())
        result["scores"] = {OWN: {"nDCG@10": float(np.mean(list(values.values())))}}
        (folder / "result.json").write_text(json.dumps(result | {"ladder": ladder}))


def found_of(root: Path, text: str | None = None) -> dict[str, Finding]:
    file = study()
    if text is not None:
        file = root / "claims.yaml"
        file.write_text(text)
    choices = Choices(statements=read_statements(file))
    [section] = sections(collect(root), unfinished(root), choices=choices)
    return {one.statement.name: one for one in findings(section)}


def size(cell: Cell) -> int:
    return STUDY["model"].index(cell.model)


def as_the_study_says(cell: Cell) -> float:
    """CL grows by .05 a size and CL+KD by .06, KD not at all; sparse is .03 above dense."""
    rise = {"cl": 0.05, "kd": 0.0, "clkd": 0.06}[cell.loss]
    return 0.4 + rise * size(cell) + (0.03 if cell.paradigm == "sparse" else 0.0)


def turned(cell: Cell) -> float:
    """The larger the worse with CL, the better with KD; dense is best."""
    rise = {"cl": -0.05, "kd": 0.05, "clkd": 0.0}[cell.loss]
    return 0.5 + rise * size(cell) + (0.0 if cell.paradigm == "sparse" else 0.05)


def level(_: Cell) -> float:
    return 0.4


@pytest.mark.parametrize(
    ("made", "verdicts"),
    [
        (as_the_study_says, ["supported"] * 3),
        (turned, ["not supported"] * 3),
        (level, ["undecided"] * 2 + ["undecided"]),
    ],
)
def test_verdicts_of_the_study_s_claims(made: Level, verdicts: list[str], tmp_path: Path) -> None:
    write(tmp_path, made)
    found = found_of(tmp_path)
    assert [one.told for one in found.values()] == verdicts
    assert [one.verdict for one in found.values()] == [f"{v} (of stand-ins)" for v in verdicts]


def test_a_claim_s_numbers_are_those_of_the_plain_test_on_means_over_pairs(tmp_path: Path) -> None:
    write(tmp_path, as_the_study_says)
    found = found_of(tmp_path)
    per_query = {
        cell: json.loads(
            (tmp_path / f"cells/{'-'.join((cell.model, cell.paradigm, cell.loss))}-42-proxy"
             / "per_query" / f"{OWN}.json").read_text()
        )["nDCG@10"]
        for cell in grid()
    }  # fmt: skip

    def mean(*cells: Cell) -> dict[str, float]:
        return {q: float(np.mean([per_query[c][q] for c in cells])) for q in per_query[cells[0]]}

    sparse, dense = mean(*grid(paradigm=["sparse"])), mean(*grid(paradigm=["dense"]))
    one = found["sparse-beats-dense"]
    assert one.shown and one.shown.mean == pytest.approx(0.03)
    assert one.p == paired_randomisation(sparse, dense, PERMUTATIONS, 0)
    assert one.shown.low < 0.03 < one.shown.high
    assert one.shown.effect == pytest.approx(
        0.03 / np.std(np.array(list(sparse.values())) - list(dense.values()), ddof=1)
    )
    assert len(one.cells) == 18

    grows = found["scaling-only-with-cl"]
    rise, flat, more = grows.contrasts
    large, small = mean(*grid(model=["8b"], loss=["cl"])), mean(*grid(model=["1b"], loss=["cl"]))
    assert rise.mean == pytest.approx(0.1) and rise.p == paired_randomisation(
        large, small, PERMUTATIONS, 0
    )
    assert flat.mean == pytest.approx(0.0, abs=1e-9) and not flat.needed
    assert more.mean == pytest.approx(0.1) and grows.shown == more
    assert grows.p == max(rise.p, more.p)
    assert {cell.loss for cell in grows.cells} == {"cl", "kd"}

    best = found["clkd-at-the-largest-is-best"]
    assert len(best.contrasts) == 17 and best.shown
    assert best.shown.said == "less sparse CL 8b" and best.shown.mean == pytest.approx(0.02)
    assert best.p == max(part.p for part in best.contrasts)
    assert [one.p_adjusted for one in found.values()] == pytest.approx(
        holm(np.array([one.p for one in found.values()]))
    )


def test_what_grows_elsewhere_too_is_not_the_only_one(tmp_path: Path) -> None:
    write(tmp_path, lambda cell: 0.4 + 0.05 * size(cell) + (0.02 if cell.loss == "cl" else 0))
    one = found_of(tmp_path)["scaling-only-with-cl"]
    assert one.told == "not supported"
    assert "significant against it: loss=kd, rise along model, mean over 2 rows +0.1000" in one.why


def test_growth_takes_all_sizes_of_a_row_into_account(tmp_path: Path) -> None:
    """Four ranks: the rise of the straight line through them, and not of the ends alone."""
    levels = {"2": 0.40, "4": 0.46, "8": 0.50, "16": 0.46}
    cells = [Cell("1b", "dense", "cl", (("recipe.lora.rank", rank),)) for rank in levels]
    write(tmp_path, lambda cell: levels[dict(cell.more)["recipe.lora.rank"]], cells)
    one = found_of(tmp_path, "up: {title: Rank helps, grows: {along: rank, where: {loss: cl}}}")[
        "up"
    ]
    slope = np.polyfit(range(4), list(levels.values()), 1)[0]
    assert one.shown and one.shown.mean == pytest.approx(3 * slope)
    assert one.told == "supported"


@pytest.mark.parametrize("claims", [study().read_text(), None])
def test_holes_leave_it_undecided_and_are_named(claims: str | None, tmp_path: Path) -> None:
    cells = [c for c in grid() if c not in (Cell("8b", "dense", "kd"), Cell("1b", "sparse", "kd"))]
    write(tmp_path, as_the_study_says, cells)
    Sweep(tmp_path).fail(Cell("8b", "dense", "kd"))
    folder = tmp_path / "cells" / "3b-sparse-clkd-42-proxy" / "per_query" / f"{OWN}.json"
    folder.write_text("{")
    found = found_of(tmp_path, claims)
    names = ["dense KD 8b"]  # 1b-sparse-kd was never asked for, so it is no hole
    assert found["scaling-only-with-cl"].why == "without a result: dense KD 8b."
    assert found["sparse-beats-dense"].why == (
        "without values that can be compared: sparse CL+KD 3b; without a result: dense KD 8b."
    )
    for one in found.values():
        assert one.told == "undecided" and one.p is None and one.shown is None
        assert one.section.axes.name(one.missing[-1]) in names


@pytest.mark.parametrize(
    ("claim", "why"),
    [
        (
            "best: {model: 8b}",
            "model=8b has to be one cell, and here is sparse CL 8b, sparse KD 8b",
        ),
        ("best: {model: 70b}", "model=70b has to be one cell, and here is none"),
        ("best: {teacher.name: x}", "cells here do not differ in one key 'teacher.name'"),
        ("best: {loss: largest}", "loss has no order here, so none is the largest"),
        ("grows: {along: loss}", "loss has no order here"),
        ("grows: {along: model, where: {loss: x}}", "no cells of loss=x differ in model alone"),
        (
            "compare: {better: {loss: x}, than: {loss: cl}}",
            "no cell of loss=x has one of loss=cl that equals it in all else",
        ),
    ],
)
def test_what_cannot_be_tested_is_undecided(claim: str, why: str, tmp_path: Path) -> None:
    write(tmp_path, level, grid(loss=["cl", "kd"]))
    one = found_of(tmp_path, f"c: {{title: T, {claim}}}")["c"]
    assert one.told == "undecided"
    assert one.why.startswith(why)


def test_values_may_be_lists_and_only_pairs_equal_in_all_else_count(tmp_path: Path) -> None:
    write(tmp_path, as_the_study_says)
    claim = "compare: {better: {loss: [cl, clkd], model: 8b}, than: {loss: kd, model: smallest}}"
    one = found_of(tmp_path, f"c: {{title: T, {claim}}}")["c"]
    # Two paradigms times two losses.
    assert one.shown and one.shown.mean == pytest.approx((0.10 + 0.12) / 2)
    assert "mean over 4 pairs of cells" in one.shown.said
    weights = as_record(one)["parts"][0]["weights"]  # type: ignore[index]
    assert weights["sparse KD 1b"] == pytest.approx(-0.5)
    assert sum(weights.values()) == pytest.approx(0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "holds no statements by name"),
        ("a: {grows: {along: model}}", "'a': 'title' is missing"),
        ("a: {title: T}", "'a': it has nothing beside its title"),
        ("a: {title: T, best: {loss: cl}, grows: {}}", "it has best and grows beside its title"),
        ("a: {title: T, shrinks: {}}", "'shrinks' is no form of a statement"),
        ("a: {title: T, grows: {where: {}}}", "'a': 'along' is missing"),
        ("a: {title: T, grows: {along: m, when: x}}", "'when' is no part of grows"),
        (
            "a: {title: T, compare: {better: {loss: cl}, than: {model: 1b}}}",
            "better and than name different keys",
        ),
        ("a: {title: T, best: 3}", "'a': 'int' object has no attribute 'items'"),
        ("a: [", "while parsing"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "claims.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as error:
        read_statements(file)
    assert str(file) in str(error.value) and said in str(error.value)
    with pytest.raises(UserError, match="cannot be read"):
        read_statements(tmp_path / "nowhere.yaml")


def test_the_command_tests_claims_of_a_file_and_none_where_none_are_wanted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lion_sweep.report.drawing.render", None)  # not looked at here
    write(tmp_path, as_the_study_says, grid(model=["1b", "8b"], loss=["cl"]))
    file = tmp_path / "claims.yaml"
    file.write_text("a: {title: Larger is better, grows: {along: model}}")
    assert main(["--root", str(tmp_path), "--findings", str(file)]) == 0
    printed = capsys.readouterr().out
    assert "### Findings, proxy ladder" in printed
    assert "| Larger is better |      pydoc | supported (of stand-ins) | +0.1" in printed
    assert main(["--root", str(tmp_path), "--findings", "none"]) == 0
    assert "Findings" not in capsys.readouterr().out
    report = (tmp_path / "reports" / "scaling" / "scaling.md").read_text()
    assert "Findings" not in report


def test_only_stand_ins_are_called_so(tmp_path: Path) -> None:
    write(tmp_path, as_the_study_says, ladder="full")
    choices = Choices(statements=read_statements(study()))
    results = collect(tmp_path)
    parts = sections(results, choices=choices)
    table = findings_table("full", parts)
    assert table and "stand-ins" not in str(table)
    assert [row[2] for row in table.rows] == ["supported"] * 3


TAUGHT_BY = "teacher.scorers.cell.cell"
TAUGHT = """
larger-teacher:
  title: The large cell teaches better
  compare:
    better: {teacher.scorers.cell.cell: 8b-dense-cl}
    than: {teacher.scorers.cell.cell: 1b-dense-cl}
"""


def taught(*teachers: str) -> list[Cell]:
    return [Cell("1b", "dense", "kd", ((TAUGHT_BY, teacher),)) for teacher in teachers]


def test_a_cell_that_is_named_is_the_one_whose_id_begins_so(tmp_path: Path) -> None:
    large, small = "8b-dense-cl-30a0f2e2fe4a", "1b-dense-cl-754d0d22acc5"
    students = taught(large, small, "1b-dense-clkd-754d0d22acc5")
    write(tmp_path, lambda cell: 0.5 if cell[TAUGHT_BY] == large else 0.4, students)
    one = found_of(tmp_path, TAUGHT)["larger-teacher"]
    assert one.told == "supported" and one.shown
    assert one.shown.mean == pytest.approx(0.1)
    assert [cell[TAUGHT_BY] for cell in one.cells] == [small, large]


def test_a_name_of_two_cells_names_none(tmp_path: Path) -> None:
    write(
        tmp_path,
        level,
        taught(*(f"8b-dense-cl-{n:012x}" for n in (1, 2)), "1b-dense-cl-" + 12 * "a"),
    )
    one = found_of(tmp_path, TAUGHT)["larger-teacher"]
    assert one.told == "undecided"
    assert "=8b-dense-cl may be 8b-dense-cl-000000000001 or 8b-dense-cl-000000000002" in one.why
