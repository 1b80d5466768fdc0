"""Failed cells, published numbers, noise, and results that are doubled, clash or lack things."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from report_cells import grid
from report_results import MEASURES, OWN, SETS, Sweep

from lion_sweep.config.composing import config_folder
from lion_sweep.errors import UserError
from lion_sweep.report import wide
from lion_sweep.report.__main__ import main
from lion_sweep.report.axes import Cell
from lion_sweep.report.collect import collect, unfinished
from lion_sweep.report.exports import _chapters, json_text, markdown, markdown_table
from lion_sweep.report.failures import ending
from lion_sweep.report.layout import HOLE, Table, folded
from lion_sweep.report.noise import noise
from lion_sweep.report.overview import group_tables
from lion_sweep.report.references import read_references
from lion_sweep.report.sections import Choices, Section, sections
from lion_sweep.report.tables import overviews, scaling_table

SPARSE, DENSE, LARGE = (
    Cell("1b", "sparse", "cl"),
    Cell("1b", "dense", "cl"),
    Cell("3b", "sparse", "cl"),
)


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lion_sweep.report.significance.PERMUTATIONS", 99)
    monkeypatch.setattr("lion_sweep.report.significance.SAMPLES", 99)
    monkeypatch.setattr("lion_sweep.report.drawing.render", None)  # slow, not looked at


def changed(folder: Path, **changes: Any) -> None:
    path = folder / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def only(root: Path, **choices: Any) -> Section:
    [section] = sections(collect(root), unfinished(root), choices=Choices(**choices))
    return section


def chapter(root: Path, title: str) -> Table:
    parts = sections(collect(root), unfinished(root))
    tables = [table for _, _, found in _chapters(parts, overviews(parts)) for table in found]
    return next(table for table in tables if table.title.startswith(title))


# Cells without a result


@pytest.mark.parametrize(
    ("records", "state", "attempts", "said"),
    [
        ([], "not begun", 0, ""),
        (
            [{"outcome": "failed", "failure": {"class": "NaN", "message": "m"}}],
            "failed: NaN",
            1,
            "m",
        ),
        ([{"outcome": "failed"}, {"outcome": "interrupted"}], "interrupted", 2, ""),
        ([{"outcome": "superseded"}], "superseded", 1, ""),
        (["{half"], "attempt cannot be read", 1, ""),
        (["[]"], "attempt cannot be read", 1, ""),
        ([{"outcome": "failed", "failure": "x"}], "failed: of unknown cause", 1, ""),
    ],
)
def test_how_attempts_ended(
    records: list[Any], state: str, attempts: int, said: str, tmp_path: Path
) -> None:
    (tmp_path / "attempts").mkdir()
    for number, record in enumerate(records, start=1):
        text = record if isinstance(record, str) else json.dumps(record)
        (tmp_path / "attempts" / f"{number:04}.json").write_text(text)
    found = ending(tmp_path)
    assert (found.state, found.attempts, found.said) == (state, attempts, said)


def test_a_cell_that_waits_for_what_failed_says_so(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path)
    sweep.write(SPARSE)
    folder = sweep.fail(DENSE)
    (folder / "task.json").write_text(json.dumps({"needs": ["prepare-1", "adapt-2"]}))
    shared = tmp_path / "shared" / "adapt-2" / "attempts"
    shared.mkdir(parents=True)
    failed = {"outcome": "failed", "failure": {"class": "disk full", "message": "no room"}}
    (shared / "0001.json").write_text(json.dumps(failed))
    [row] = chapter(tmp_path, "Cells without").rows
    assert row[3] == "waits for adapt-2, which failed"
    assert row[6] == "disk full: no room"


def test_a_half_written_result_is_a_hole_with_a_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = Sweep(tmp_path)
    sweep.write(SPARSE)
    half = sweep.write(DENSE) / "result.json"
    half.write_text(half.read_text()[:200])
    assert main(["--root", str(tmp_path)]) == 3
    assert f"{half}, line 1: " in capsys.readouterr().err
    [row] = chapter(tmp_path, "Cells without").rows
    assert row[:5] == ["dense CL 1b", "42", half.parent.name, "result cannot be read", "0"]


def test_a_missing_seed_is_a_failure_though_its_cell_has_a_result(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path)
    sweep.write(SPARSE)
    sweep.fail(SPARSE, 43, outcome="failed", failure={"class": "killed", "message": "9"})
    section = only(tmp_path)
    assert not section.holes(section.main)
    [row] = chapter(tmp_path, "Cells without").rows
    assert row[:2] == ["sparse CL 1b", "43"] and row[3] == "failed: killed"


def test_a_cell_of_the_grid_alone_was_not_asked_to_run(tmp_path: Path) -> None:
    Sweep(tmp_path).write(SPARSE)
    parts = sections(collect(tmp_path), grid={"paradigm": ["sparse", "dense"]})
    tables = [table for _, _, found in _chapters(parts, {}) for table in found]
    [table] = [table for table in tables if table.title.startswith("Cells without")]
    assert table.rows == [["dense CL 1b", HOLE, HOLE, "not asked to run", "0", HOLE, HOLE]]


def test_where_all_failed_the_command_says_how(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = Sweep(tmp_path)
    for cell in (SPARSE, LARGE):
        sweep.fail(cell, outcome="failed", failure={"class": "NaN", "message": "m"})
    sweep.fail(DENSE)
    assert main(["--root", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "of 3 cells asked for: 2 failed: NaN, 1 not begun; `python -m lion_sweep.status`" in said
    sweep = Sweep(tmp_path, "full")
    sweep.write(SPARSE)
    assert main(["--root", str(tmp_path)]) == 3
    said = capsys.readouterr().out
    assert "The proxy ladder was started, but has no result yet" in said
    assert "(2 failed: NaN, 1 not begun)." in said


# Published numbers


def test_published_numbers_stand_beside_a_full_ladder_alone(tmp_path: Path) -> None:
    for ladder in ("full", "proxy"):
        Sweep(tmp_path, ladder, ("msmarco", "trec-dl-2019")).write(SPARSE)
    choices = Choices(references=read_references("all"))
    parts = sections(collect(tmp_path), choices=choices)
    tables = {(s.ladder, s.name, m): scaling_table(s, m) for s in parts for m in s.measures}
    rows = {where: [row[0] for row in table.rows][2:] for where, table in tables.items()}
    both = ["SPLADE-Llama 8B (published)", "SPLARE-7B (published)"]
    second_hand = ["ColBERTv2 (cited second-hand)", "RepLLaMA 7B (cited second-hand)"]
    assert rows == {
        ("full", "msmarco", "nDCG@10"): [],
        ("full", "msmarco", "MRR@10"): [*second_hand, *both],
        ("full", "trec-dl-2019", "nDCG@10"): both,
        ("full", "trec-dl-2019", "MRR@10"): [],
    } | {("proxy", c, m): [] for c in ("msmarco", "trec-dl-2019") for m in MEASURES}
    table = tables["full", "trec-dl-2019", "nDCG@10"]
    assert [row[1] for row in table.rows[2:]] == ["0.7630", "0.7740"]
    assert not {row for row, _ in table.bold} & {1, 2, 3}
    sources = [line for line in table.below if "arxiv.org/abs/2603.13277" in line]
    assert len(sources) == 2 and all("not measured here, not tested" in s for s in sources)
    [stored] = [s for s in json.loads(json_text(parts)) if s["collection"] == "trec-dl-2019"][:1]
    assert [one["value"] for one in stored["published"]] == [0.763, 0.774]
    for section in parts:
        assert all(pair.a.cell for pair in section.comparison.pairs)


def test_a_published_mean_stands_beside_as_many_sets(tmp_path: Path) -> None:
    def means(sets: tuple[str, ...], root: Path) -> list[list[str]]:
        Sweep(root, "full", (OWN, *sets)).write(SPARSE)
        parts = sections(collect(root), choices=Choices(references=read_references("all")))
        [table] = group_tables(parts)
        return [row for row in table.rows if "published" in row[0] or "cited" in row[0]]

    assert means(SETS, tmp_path / "three") == []
    thirteen = tuple(f"set{number:02}" for number in range(13))
    rows = means(thirteen, tmp_path / "all")
    assert [(row[0], row[-1]) for row in rows] == [
        ("Echo-Mistral-SPLADE (cited second-hand)", "0.5507"),
        ("RepLLaMA 7B (cited second-hand)", "0.5510"),
        ("SPLADE-Llama 8B (published)", "0.5000"),
        ("SPLARE-7B (published)", "0.5020"),
    ]
    assert all(text == "" for row in rows for text in row[1:-1])


def test_references_by_name_and_from_files_of_ones_own(tmp_path: Path) -> None:
    assert read_references("none") == ()
    assert [one.name for one in read_references("splare-7b,laconic-8b")] == [
        "splare-7b", "laconic-8b"
    ]  # fmt: skip
    with pytest.raises(UserError, match="there is no 'lion'; say none, all, or of colbertv2, "):
        read_references("splare-7b,lion")
    told = {"name": "a", "title": "A", "source": "notes", "url": "u", "second_hand": True}
    file = tmp_path / "a.yaml"
    file.write_text(yaml.safe_dump(told | {"scores": {"nq": {"nDCG@10": 0.5}}}))
    [one] = read_references("a", tmp_path)
    assert one.row == "A (cited second-hand)" and "cited second-hand, not measured" in one.cited


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"scores": {"nq": {"nDCG@10": 50.2}}}, "nDCG@10 50.2 is not between 0 and 1"),
        ({"url": None, "score": {}}, "unknown keys ['score']"),
        ({"scores": 3}, "'int' object has no attribute 'items'"),
        ({"scores": {"nq": {"nDCG@10": "high"}}}, "could not convert"),
    ],
)
def test_references_that_cannot_be_read_are_refused(
    changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    told = {"name": "a", "title": "A", "source": "s", "url": "u"} | changes
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(told))
    with pytest.raises(UserError, match=re.escape(said)):
        read_references("all", tmp_path)
    (tmp_path / "a.yaml").write_text("name: a")
    with pytest.raises(UserError, match="'title' is missing"):
        read_references("all", tmp_path)


@pytest.mark.parametrize("path", sorted((config_folder() / "reference").glob("*.yaml")))
def test_every_shipped_reference_has_a_source(path: Path) -> None:
    [one] = read_references(path.stem)
    assert one.name == path.stem and one.source and one.url.startswith("https://")
    assert one.second_hand == ("cite it" in one.source)  # and then says so
    assert one.scores or one.means


# Noise


def test_noise_is_unknown_where_points_are_few_broken_or_of_another_collection(
    tmp_path: Path,
) -> None:
    sweep = Sweep(tmp_path, collections=(OWN, "scifact"))
    folders = [sweep.write(cell) for cell in (SPARSE, DENSE, LARGE)]
    own, other = sorted(sections(collect(tmp_path)), key=lambda s: s.name != OWN)
    assert noise(own).told == 3 and noise(own).by_points is not None
    assert noise(other).told == 0 and noise(other).by_points is None
    assert noise(own).over_seeds is None and noise(own).by_seeds is None
    # Of four points two are in the last half; and what cannot be read is not there.
    points = [{"step": step, "MRR@10": 0.5 + step / 100} for step in range(1, 5)]
    (folders[0] / "points.jsonl").write_text("\n".join(map(json.dumps, points)))
    (folders[1] / "points.jsonl").write_text('{"step": 1, "MRR')
    (folders[2] / "points.jsonl").unlink()
    [own, _] = sorted(sections(collect(tmp_path)), key=lambda s: s.name != OWN)
    assert noise(own).told == 0
    row = chapter(tmp_path, "Signal").rows[0]
    assert row[0] == OWN and row[-4:] == ["unknown", "unknown", "unknown", "0"]


def test_noise_by_hand(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path)
    for cell, values in ((SPARSE, (0.1, 0.4, 0.5, 0.6)), (DENSE, (0.9, 0.7, 0.7, 0.7))):
        lines = [
            json.dumps({"step": s, "MRR@10": v}) for s, v in zip((1, 6, 8, 10), values, strict=True)
        ]
        (sweep.write(cell) / "points.jsonl").write_text("\n".join(lines))
    found = noise(only(tmp_path))
    assert found.over_points == pytest.approx((0.1 / 0.5 + 0) / 2)
    assert found.spread_in_training == pytest.approx(0.1 / 0.65)
    assert found.by_points == pytest.approx(0.1 / 0.65 / 0.1)


# Results that are doubled, or clash


def test_of_two_results_of_one_id_the_one_in_its_folder_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Sweep(tmp_path).write(SPARSE)
    copy = tmp_path / "cells" / "a-copy"
    shutil.copytree(folder, copy)
    changed(copy, scores={OWN: {"nDCG@10": 0.9999}})
    section = only(tmp_path)
    said = capsys.readouterr().err
    assert (
        f"{folder.name} is the id of 2 results: shown is the one in {folder}, left out a-copy."
        in said
    )
    assert "0.9999" not in str(scaling_table(section, "nDCG@10"))
    assert "left out is its copy in a-copy." in str(section.notes)
    shutil.rmtree(folder)
    changed(copy, id="another")
    assert only(tmp_path).notes == []


def test_sets_that_differ_in_their_measure_have_no_mean(tmp_path: Path) -> None:
    folder = Sweep(tmp_path, collections=(OWN, *SETS)).write(SPARSE)
    scores = json.loads((folder / "result.json").read_text())["scores"]
    scores["scifact"] = {"MRR@10": 0.4}
    changed(folder, scores=scores)
    parts = sections(collect(tmp_path))
    [table] = group_tables(parts)
    assert table.header[-2:] == ["scifact, MRR@10", "mean of beir (3)"]
    assert table.rows[0][-1] == HOLE
    said = "No mean of beir: its sets differ in their main measure (nDCG@10, MRR@10)."
    assert said in table.below and said in overviews(parts)["proxy"].below


def test_two_numbers_of_one_name_are_refused(tmp_path: Path) -> None:
    folder = Sweep(tmp_path).write(SPARSE)
    scores = {"b": {"MRR@10 on a": 0.1}, "a on b": {"MRR@10": 0.2}, OWN: {"nDCG@10": 0.5}}
    changed(folder, scores=scores)
    with pytest.raises(UserError, match=r"two numbers are called 'MRR@10 on a on b': rename"):
        wide.cells_csv(sections(collect(tmp_path)))


def test_a_folder_that_cannot_be_written_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Sweep(tmp_path).write(SPARSE)
    monkeypatch.setattr("lion_sweep.report.__main__.write_report", None)  # is not reached
    (tmp_path / "reports").write_text("a file")
    with pytest.raises(UserError, match=r"reports/scaling \(Not a directory\): choose another"):
        main(["--root", str(tmp_path)])


def test_options_are_refused_with_what_to_say(tmp_path: Path) -> None:
    Sweep(tmp_path).write(SPARSE)
    with pytest.raises(UserError, match="invalid choice: 'bonferroni'"):
        main(["--root", str(tmp_path), "--correction", "bonferroni"])
    with pytest.raises(UserError, match="there is no 'x'; say none, all"):
        main(["--root", str(tmp_path), "--references", "x"])


def test_fields_that_older_results_lack_are_holes(tmp_path: Path) -> None:
    folder = Sweep(tmp_path).write(SPARSE)
    path = folder / "result.json"
    told = json.loads(path.read_text())
    needed = ("format", "id", "axes", "config", "ladder", "seed", "data", "scores")
    path.write_text(json.dumps({key: told[key] for key in needed}))
    shutil.rmtree(folder / "per_query")
    parts = sections(collect(tmp_path))
    text = markdown(parts, {})
    assert "No cell has per-query values of nDCG@10" in text
    assert json.loads(json_text(parts))[0]["significance"]["pairs"] == []
    assert "sparse CL 1b" in wide.cells_csv(parts)


def test_columns_that_are_the_same_in_all_rows_go_below() -> None:
    rows = [["a", "1", HOLE, "n/a", "x", "5"], ["b", "1", HOLE, "n/a", "y", "5"]]
    table = folded(Table("t", ["", "one", "two", "three", "four", "five"], rows), keep=["five"])
    assert (table.header, table.rows) == (["", "four", "five"], [["a", "x", "5"], ["b", "y", "5"]])
    assert table.below == ["In every row: one 1.", "Not known: two.", "Not applicable: three."]
    assert folded(Table("t", ["", "one"], rows[:1])).rows == rows[:1]
    # A row of holes has no say.
    table = folded(
        Table("t", ["", "one", "two"], [["a", "1", "2"], ["b", "1", "3"], ["c", HOLE, HOLE]])
    )
    assert table.rows == [["a", "2"], ["b", "3"], ["c", HOLE]]
    assert table.below == ["In every row with a result: one 1."]


def test_a_report_needs_no_torch(tmp_path: Path) -> None:
    for cell in grid(model=["1b", "3b"], loss=["cl"]):
        Sweep(tmp_path).write(cell)
    program = (
        "import sys\n"
        "sys.modules['torch'] = None\n"
        "from pathlib import Path\n"
        "from lion_sweep.report import exports, wide, sections as s, collect as c, tables\n"
        f"root = Path({str(tmp_path)!r})\n"
        "parts = s.sections(c.collect(root), c.unfinished(root))\n"
        "print(len(exports.markdown(parts, tables.overviews(parts))))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 1000


def test_bars_in_names_do_not_end_a_column_of_markdown() -> None:
    text = markdown_table(Table("t", ["", "a|b"], [["x|y", "1"]]))
    assert r"| x\|y |    1 |" in text and r"a\|b" in text
