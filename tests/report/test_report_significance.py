"""Intervals and tests in the report: values, letters, arrows, seeds, and what is left out."""

import csv
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_cells import grid

from lion_sweep.evaluation.significance import (
    align,
    benjamini_hochberg,
    bootstrap_intervals,
    effect_sizes,
    holm,
    paired_randomisation,
    randomisation_tests,
)
from lion_sweep.report.__main__ import main
from lion_sweep.report.axes import Cell
from lion_sweep.report.collect import collect
from lion_sweep.report.sections import Choices, Section, sections
from lion_sweep.report.significance import CORRECTIONS, PERMUTATIONS, SAMPLES, SEED
from lion_sweep.report.tables import scaling_table, significance_table
from lion_sweep.result import FORMAT

Write = Callable[..., Path]
ROW = grid(paradigm=["sparse"], loss=["cl"])
SMALL, MIDDLE, LARGE = ROW
WIDE, NARROW = 0.2, 0.002
QUERIES = 60


def around(mean: float, spread: float, seed: int = 0) -> dict[str, float]:
    """Values of as many queries, in an order of their own."""
    generator = np.random.default_rng(seed)
    values_Q = generator.normal(0, spread, QUERIES)
    values_Q += mean - values_Q.mean()
    names = generator.permutation([f"q{number:02}" for number in range(QUERIES)])
    return dict(zip(names.tolist(), values_Q.tolist(), strict=True))


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a cell; `values` by query (or any JSON) become its file, None writes none."""

    def write_cell(cell: Cell, values: Any, seed: int = 42, **changes: Any) -> Path:
        folder = tmp_path / "cells" / f"{cell.model}-{cell.paradigm}-{cell.loss}-{seed}"
        scores = {"nDCG@10": np.mean(list(values.values())) if isinstance(values, dict) else 0.4}
        content = {
            "format": FORMAT,
            "id": folder.name,
            "axes": {"model": cell.model, "paradigm": cell.paradigm, "loss": cell.loss},
            "config": {"loss": {"title": cell.loss.upper()}, "seed": seed},
            "ladder": "proxy",
            "seed": seed,
            "data": "pydoc",
            "scores": {"pydoc": scores},
            "bm25": {"pydoc": {"nDCG@10": 0.5}},
            "collections": {"pydoc": {"checksum": "abc"}},
        } | changes
        (folder / "per_query").mkdir(parents=True)
        (folder / "result.json").write_text(json.dumps(content))
        file = folder / "per_query" / "pydoc.json"
        if values is not None:
            file.write_text(json.dumps({"nDCG@10": values, "MRR@10": {}}))
        return file

    return write_cell


def write_bm25(root: Path, values: dict[str, float]) -> None:
    for folder in root.glob("cells/*/per_query"):
        (folder / "pydoc.bm25.json").write_text(json.dumps({"nDCG@10": values}))


def section(root: Path, **asked: list[str]) -> Section:
    grid = {"model": ["1b", "3b", "8b"], "paradigm": ["sparse"], "loss": ["cl"]} | asked
    [only] = sections(collect(root), grid=grid)
    return only


def named(cell: Cell) -> str:
    return f"{cell.paradigm} {cell.loss.upper()} {cell.model}"


def test_pairs_are_those_of_the_plain_test_on_the_same_queries(
    write: Write, tmp_path: Path
) -> None:
    values = [around(0.40 + 0.05 * step, WIDE, step) for step in range(3)]
    for cell, per_query in zip(ROW, values, strict=True):
        write(cell, per_query)
    write_bm25(tmp_path, bm25 := around(0.5, WIDE, 3))
    comparison = section(tmp_path).comparison
    assert comparison.queries == QUERIES
    assert [system.name for system in comparison.systems] == [*map(named, ROW), "BM25"]
    everything = [*values, bm25]
    expected_p = [
        paired_randomisation(everything[i], everything[j], PERMUTATIONS, SEED)
        for i, j in ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))
    ]
    assert [pair.p for pair in comparison.pairs] == expected_p
    assert [pair.p_holm for pair in comparison.pairs] == holm(np.array(expected_p)).tolist()
    first, last = comparison.pairs[0], comparison.pairs[-1]
    assert first.difference == pytest.approx(-0.05)
    assert (last.a.name, last.b.name, last.b.seeds) == ("sparse CL 8b", "BM25", ())
    [[low, high]] = bootstrap_intervals(align({"a": values[0], "b": values[1]}), SAMPLES, SEED)[1]
    assert (first.low, first.high) == pytest.approx((low, high))
    assert comparison.notes == []


def test_arrows_counts_and_steps(write: Write, tmp_path: Path) -> None:
    """1b to 3b rises, 3b to 8b falls as clearly; the dense row does not move."""
    for cell, mean in zip(ROW, (0.40, 0.50, 0.45), strict=True):
        write(cell, around(mean, NARROW, seed=int(mean * 100)))
    for seed, model in enumerate(("1b", "3b")):
        write(Cell(model, "dense", "cl"), around(0.45, WIDE, seed))
    part = section(tmp_path, paradigm=["sparse", "dense"])
    table = scaling_table(part, "nDCG@10")
    assert [words(text) for text in table.rows[0]] == [
        ["sparse", "CL"], ["0.4000"], ["0.5000", "↑"], ["0.4500", "↓"]
    ]  # fmt: skip
    assert [words(text) for text in table.rows[1]] == [
        ["dense", "CL"], ["0.4500", "≈"], ["0.4500", "≈"], ["—"]
    ]  # fmt: skip
    assert table.bold == {(0, 2)}
    assert table.below[1] == (
        "↑ significantly above the next smaller size; ↓ significantly below the next smaller size; "
        "≈ not significantly different from the best cell: paired randomisation over 60 queries "
        "(100,000 permutations), Holm's correction over 10 pairs, level 0.05."
    )
    assert table.below[-1] == "Not compared, without per-query values of the mean shown: BM25."
    assert "↑" not in str(scaling_table(part, "MRR@10"))

    found = significance_table(part)
    rows = [dict(zip(found.header, row, strict=True)) for row in found.rows]
    names = ["sparse CL 1b", "sparse CL 3b", "sparse CL 8b", "dense CL 1b", "dense CL 3b"]
    assert [row["System"] for row in rows] == names
    assert [(row["Above"], row["Below"]) for row in rows] == [
        ("0", "2"), ("2", "0"), ("1", "1"), ("0", "0"), ("0", "0")
    ]  # fmt: skip
    assert [row["Step"] for row in rows] == ["n/a", "+0.1000", "-0.0500", "n/a", "+0.0000"]
    assert rows[2]["Interval, step"].startswith("[-0.05")
    # Ten pairs: Holm tests the smallest p, 1 / 100,001, at a tenth of the level.
    assert (rows[1]["p, step"], rows[1]["p, step (Holm)"]) == ("1e-05", "0.0001")
    low, high = part.comparison.systems[0].low, part.comparison.systems[0].high
    assert table.rows[0][1] == f"0.4000 [{low:.3f}, {high:.3f}]"
    assert "Less BM25" not in found.header
    assert any(line.startswith("Not applicable: Less BM25") for line in found.below)


def words(text: str) -> list[str]:
    """Without the interval."""
    return re.sub(r" \[.*\]", "", text).split()


@pytest.mark.parametrize(
    ("means", "said"),
    [
        ((0.6, 0.7, 0.8), "Every cell is significantly above BM25."),
        ((0.2, 0.3, 0.4), "Every cell is significantly below BM25."),
        ((0.5, 0.5, 0.5), "No cell differs significantly from BM25."),
    ],
)
def test_what_every_cell_would_bear_is_a_sentence(
    write: Write, tmp_path: Path, means: tuple[float, ...], said: str
) -> None:
    spread = WIDE if len(set(means)) == 1 else NARROW
    for seed, (cell, mean) in enumerate(zip(ROW, means, strict=True)):
        write(cell, around(mean, spread, seed))
    write_bm25(tmp_path, around(0.5, spread, 9))
    table = scaling_table(section(tmp_path), "nDCG@10")
    assert [line for line in table.below if "significantly" in line and "BM25" in line] == [said]
    assert "†" not in str(table.rows) and "‡" not in str(table.rows)


def test_some_cells_are_marked_against_bm25(write: Write, tmp_path: Path) -> None:
    for seed, (cell, mean) in enumerate(zip(ROW, (0.4, 0.5, 0.6), strict=True)):
        write(cell, around(mean, NARROW, seed))
    write_bm25(tmp_path, around(0.5, NARROW, 9))
    [row] = scaling_table(section(tmp_path), "nDCG@10").rows[:1]
    assert [words(text)[1:] for text in row[1:]] == [["‡"], ["↑"], ["↑†"]]


@pytest.mark.parametrize("correction", ["holm", "maxt", "bh"])
def test_marks_use_the_correction_that_is_asked_for(
    write: Write, tmp_path: Path, correction: str
) -> None:
    for seed, (cell, mean) in enumerate(zip(ROW, (0.40, 0.47, 0.50), strict=True)):
        write(cell, around(mean, WIDE, seed))
    [part] = sections(collect(tmp_path), choices=Choices(correction=correction))
    assert [getattr(p, f"p_{correction}") for p in part.comparison.pairs] == [
        pair.p_adjusted for pair in part.comparison.pairs
    ]
    table = significance_table(part)
    assert table.header[-1] == {
        "holm": "p, step (Holm)", "maxt": "p, step (MaxT)", "bh": "p, step (BH)"
    }[correction]  # fmt: skip
    assert CORRECTIONS[correction] in str(table.below)
    values_SQ = part.comparison.scores_SQ
    assert values_SQ is not None
    p_R, maxt_R = randomisation_tests(values_SQ, PERMUTATIONS, SEED)
    adjusted = {"holm": holm(p_R), "maxt": maxt_R, "bh": benjamini_hochberg(p_R)}[correction]
    assert [pair.p_adjusted for pair in part.comparison.pairs] == adjusted.tolist()
    assert [p.effect for p in part.comparison.pairs] == effect_sizes(values_SQ).tolist()


def test_of_very_many_systems_steps_and_references_are_compared(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lion_sweep.report.significance.MOST_SYSTEMS", 6)
    cells = grid(loss=["cl", "kd"])
    for seed, cell in enumerate(cells):
        write(cell, around(0.4 + 0.01 * seed, WIDE, seed))
    write_bm25(tmp_path, around(0.5, WIDE, 99))
    [part] = sections(collect(tmp_path))
    comparison = part.comparison
    best = max(comparison.systems[:-1], key=lambda system: system.mean).cell
    pairs = {(p.a.cell, p.b.cell) for p in comparison.pairs}
    assert len(pairs) == len(comparison.pairs)
    for cell in cells:
        assert comparison.pair(cell, None) is not None
        assert cell == best or comparison.pair(cell, best) is not None
        assert not part.axes.smaller(cell) or part.step(cell) is not None
    # Twelve with BM25, eleven with the best, eight steps of which one or two are with the best.
    assert 12 + 11 + 6 <= len(pairs) <= 12 + 11 + 8
    assert comparison.notes[-1].startswith("Of 13 systems not all pairs were compared, but each")
    scores_SQ = comparison.scores_SQ
    assert scores_SQ is not None
    names = [system.cell for system in comparison.systems]
    for pair in comparison.pairs[:5]:
        a, b = (scores_SQ[names.index(s.cell)].tolist() for s in (pair.a, pair.b))
        told = [{f"q{n:02}": v for n, v in enumerate(values)} for values in (a, b)]
        assert pair.p == paired_randomisation(*told, PERMUTATIONS, SEED)


def test_a_step_passes_over_a_size_without_values(write: Write, tmp_path: Path) -> None:
    write(SMALL, around(0.40, NARROW, 1))
    write(MIDDLE, None)
    write(LARGE, around(0.50, NARROW, 2))
    part = section(tmp_path)
    step = part.step(LARGE)
    assert step is not None
    assert step.b.cell == SMALL
    assert part.step(SMALL) is None
    assert part.step(MIDDLE) is None
    [row] = scaling_table(part, "nDCG@10").rows[:1]
    assert [words(text) for text in row[1:]] == [["0.4000"], ["0.4000"], ["0.5000", "↑"]]


def test_without_a_significant_step_the_table_says_so(write: Write, tmp_path: Path) -> None:
    for seed, cell in enumerate(ROW):
        write(cell, around(0.4, WIDE, seed))
    below = scaling_table(section(tmp_path), "nDCG@10").below
    assert "No cell differs significantly from its next smaller size." in below


def test_seeds_are_averaged_per_query_before_the_test(write: Write, tmp_path: Path) -> None:
    runs = [around(0.40 + 0.02 * seed, WIDE, seed) for seed in range(3)]
    for seed, values in enumerate(runs):
        write(SMALL, values, seed)
    write(MIDDLE, other := around(0.55, WIDE, 9), 0)
    part = section(tmp_path)
    averaged = {query: sum(run[query] for run in runs) / 3 for query in other}
    [pair] = part.comparison.pairs
    assert pair.p == paired_randomisation(averaged, other, PERMUTATIONS, SEED)
    assert (pair.a.seeds, pair.b.seeds) == ((0, 1, 2), (0,))
    assert pair.a.mean == pytest.approx(0.42)
    table = scaling_table(part, "nDCG@10")
    assert table.rows[0][1] == "0.4200 ± 0.0200 (n=3)"
    assert words(table.rows[0][2]) == ["0.5500", "↑"]
    assert "Seeds per cell: 3, except for sparse CL 3b (1)." in table.below
    for seed in (1, 2):
        write(MIDDLE, other, seed)
    assert "Seeds per cell: 3." in scaling_table(section(tmp_path), "nDCG@10").below


@pytest.mark.parametrize(
    "text",
    [
        '{"nDCG@10": {"q1": ',
        '{"nDCG@10": {"q1": NaN, "q2": 0.5}}',
        '{"nDCG@10": {"q1": "high", "q2": 0.5}}',
        '{"nDCG@10": [0.5]}',
        '{"nDCG@10": {}}',
        '{"nDCG@10": {"q1": 0.3, "q2": 0.4}}',
        '{"MRR@10": {"q1": 0.5}}',
        "[]",
    ],
)
def test_unreadable_values_leave_their_cell_out(write: Write, tmp_path: Path, text: str) -> None:
    write(SMALL, around(0.4, WIDE))
    write(MIDDLE, None)
    write(LARGE, None).write_text(text)
    write_bm25(tmp_path, around(0.5, WIDE, 1))
    assert main(["--root", str(tmp_path), "--grid", "paradigm=sparse", "loss=cl"]) == 0
    comparison = section(tmp_path).comparison
    assert [system.name for system in comparison.systems] == ["sparse CL 1b", "BM25"]
    assert comparison.notes == [
        "Not compared, without per-query values of the mean shown: "
        "sparse CL 3b, seed 42; sparse CL 8b, seed 42."
    ]


def test_other_queries_are_not_compared(write: Write, tmp_path: Path) -> None:
    values = around(0.4, WIDE)
    write(SMALL, values)
    write(SMALL, values, 43)
    write(LARGE, {**values, "q99": 0.1})
    write_bm25(tmp_path, {"q00": 0.5, "q01": 0.5})
    comparison = section(tmp_path).comparison
    assert [(system.name, system.seeds) for system in comparison.systems] == [
        ("sparse CL 1b", (42, 43))
    ]
    assert comparison.notes == [
        "Not compared, without per-query values of the mean shown: BM25.",
        "Not compared, scored on other queries or another collection: sparse CL 8b, seed 42.",
    ]


def test_cells_of_other_contents_are_in_tables_of_their_own(write: Write, tmp_path: Path) -> None:
    write(SMALL, around(0.4, WIDE))
    write(MIDDLE, around(0.5, WIDE), collections={"pydoc": {"checksum": "0123456789"}})
    one, other = sections(collect(tmp_path))
    assert (one.name, list(one.results)) == ("pydoc (01234567)", [MIDDLE])
    assert (other.name, list(other.results)) == ("pydoc (abc)", [SMALL])
    assert scaling_table(one, "nDCG@10").title == "nDCG@10 on pydoc (01234567)"


def test_of_two_equally_large_groups_the_newest_is_compared(write: Write, tmp_path: Path) -> None:
    for age, cell in enumerate((SMALL, LARGE, MIDDLE)):
        file = write(cell, around(0.4, WIDE) | {f"q of {cell.model}": 0.4})
        times = (age % 2, age % 2)
        os.utime(file.parents[1] / "result.json", times)
    assert [system.cell for system in section(tmp_path).comparison.systems] == [LARGE]


def test_one_query_is_not_enough(write: Write, tmp_path: Path) -> None:
    write(SMALL, {"q1": 0.4})
    part = section(tmp_path)
    assert part.comparison.systems == []
    assert part.comparison.notes[-1] == "Intervals and tests need more than one query."
    assert main(["--root", str(tmp_path)]) == 0


def test_without_any_values_one_note_says_so(write: Write, tmp_path: Path) -> None:
    write(SMALL, None)
    below = scaling_table(section(tmp_path), "nDCG@10").below
    assert below[-1] == "No cell has per-query values of nDCG@10: no intervals and no tests."
    assert section(tmp_path, model=["8b"]).comparison.notes == []


def test_every_form_of_the_report_tells_it(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(SMALL, around(0.40, NARROW, 1), 0)
    write(SMALL, around(0.40, NARROW, 2), 1)
    write(MIDDLE, around(0.50, NARROW, 3), 0)
    write_bm25(tmp_path, around(0.5, WIDE, 4))
    main(["--root", str(tmp_path)])
    folder = tmp_path / "reports" / "scaling"
    title = "Significance of nDCG@10 on pydoc"
    texts = {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}
    arrow = re.compile(r"0\.5000 \[[\d., ]+\] ↑")
    assert arrow.search(capsys.readouterr().out)
    assert f"### {title}" in texts["scaling.md"]
    assert f"<summary>{title}</summary>" in texts["index.html"]
    assert title in texts["scaling.tex"]
    assert r"] $\uparrow$" in texts["scaling.tex"]
    assert "↑" not in texts["scaling.tex"]

    rows = list(csv.DictReader(texts["significance.csv"].splitlines()))
    assert list(rows[0]) == [
        "ladder", "collection", "measure", "system_a", "system_b", "difference", "ci_low",
        "ci_high", "cohens_d", "p", "p_holm", "p_maxt", "p_bh", "correction", "queries", "seeds_a",
        "seeds_b", "permutations",
    ]  # fmt: skip
    assert [(row["system_a"], row["system_b"]) for row in rows] == [
        ("sparse CL 1b", "sparse CL 3b"), ("sparse CL 1b", "BM25"), ("sparse CL 3b", "BM25")
    ]  # fmt: skip
    assert float(rows[0]["difference"]) == pytest.approx(-0.1)
    assert float(rows[0]["ci_low"]) < -0.1 < float(rows[0]["ci_high"]) < 0
    assert (rows[1]["seeds_a"], rows[1]["seeds_b"]) == ("0 1", "")
    [stored] = json.loads(texts["scaling.json"])
    pairs = stored["significance"]["pairs"]
    assert [pair["p_holm"] for pair in pairs] == [float(row["p_holm"]) for row in rows]
    assert stored["significance"]["systems"][0]["seeds"] == [0, 1]


def test_losses_of_one_title_are_called_by_their_names(write: Write, tmp_path: Path) -> None:
    for loss in ("mine", "other"):
        config = {"loss": {"title": "Mine"}, "seed": 42}
        write(Cell("1b", "sparse", loss), around(0.4, WIDE), config=config)
    systems = section(tmp_path, model=["1b"], loss=["mine", "other"]).comparison.systems
    assert [system.name for system in systems] == ["sparse mine 1b", "sparse other 1b"]
