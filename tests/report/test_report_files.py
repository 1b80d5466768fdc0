"""The report of synthetic result files: values, holes, labels, errors and exit status."""

import csv
import json
import os
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from report_cells import grid, write_record

from lion_sweep.errors import UserError
from lion_sweep.report.__main__ import main
from lion_sweep.report.axes import Cell
from lion_sweep.report.collect import collect
from lion_sweep.report.exports import escape
from lion_sweep.report.page.build import _library
from lion_sweep.report.sections import sections
from lion_sweep.report.tables import scaling_table

Write = Callable[..., Path]
SMALL = ["--grid", "model=1b,3b", "paradigm=sparse,dense", "loss=cl"]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    return partial(write_record, tmp_path)


@pytest.fixture
def small(write: Write) -> None:
    """A 2 x 2 grid with one hole: dense CL 3b."""
    for name, paradigm, ndcg in (("1b", "sparse", 0.41), ("3b", "sparse", 0.5)):
        write(Cell(name, paradigm, "cl"), ndcg)
    write(Cell("1b", "dense", "cl"), 0.123456)


def report(root: Path, *arguments: str) -> tuple[int, Path]:
    return main(["--root", str(root), *arguments]), root / "reports" / "scaling"


@pytest.mark.usefixtures("small")
def test_markdown_is_exact_and_a_hole_is_a_dash(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, folder = report(tmp_path, *SMALL)
    table = """\
### nDCG@10 on pydoc

|           |     1b |         3b |
| --------- | -----: | ---------: |
| sparse CL | 0.4100 | **0.5000** |
| dense CL  | 0.1235 |          — |
| BM25      | 0.4800 |     0.4800 |

Holes: dense CL 3b.

BM25 is one number, the same in every column.

One seed per cell.
"""
    text = (folder / "scaling.md").read_text()
    assert status == 3
    assert table in text
    assert "**PROXY LADDER: shrunken stand-ins trained on a laptop budget." in text
    printed = capsys.readouterr().out
    assert table in printed
    assert printed.startswith("PROXY LADDER")
    assert printed.splitlines()[-2:] == [
        f"page: {folder / 'index.html'}",
        f"tables: {folder / 'scaling.md'}",
    ]


@pytest.mark.usefixtures("small")
def test_csv_has_a_row_per_cell_and_measure_with_empty_values_for_holes(tmp_path: Path) -> None:
    _, folder = report(tmp_path, *SMALL)
    lines = (folder / "scaling.csv").read_text().splitlines()
    assert len(lines) == 1 + 4 * 3
    assert lines[0] == "ladder,collection,model,paradigm,loss,seed,id,measure,value"
    assert lines[1] == "proxy,pydoc,1b,sparse,cl,42,1b-sparse-cl-0f,nDCG@10,0.41"
    assert lines[10] == "proxy,pydoc,3b,dense,cl,,,nDCG@10,"


@pytest.mark.usefixtures("small")
def test_files_are_the_same_on_every_run_and_leave_nothing_behind(tmp_path: Path) -> None:
    _, folder = report(tmp_path, *SMALL)
    first = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    report(tmp_path, *SMALL)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == first
    assert {path.name for path in first if path.parent == folder} == {
        "cells.csv", "index.html", "scaling.csv", "scaling.json", "scaling.md", "scaling.tex",
        "significance.csv", "tables.csv", "tables.json",
    }  # fmt: skip
    assert len(first) == 9 + 3 * 3
    png = folder / "figures" / "proxy-pydoc-nDCG@10.png"
    assert first[png].startswith(b"\x89PNG\r\n\x1a\n")


@pytest.mark.parametrize(
    ("part", "why"),
    [
        ("vl_convert", "ModuleNotFoundError: import of vl_convert halted; None in sys"),
        ("vl_convert.vegalite_to_svg", "no room for a font cache"),
    ],
)
def test_a_figure_that_cannot_be_drawn_is_left_out(
    write: Write,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    part: str,
    why: str,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(why)

    for cell in grid():
        write(cell, 0.4)
    _library.cache_clear()
    if part == "vl_convert":
        monkeypatch.setitem(sys.modules, part, None)
    else:
        monkeypatch.setattr(part, fail)
    status, folder = report(tmp_path)
    assert status == 0
    said = capsys.readouterr().err.splitlines()
    for line, measure in zip(said, ("nDCG@10", "MRR@10", "Recall@100"), strict=True):
        assert line.startswith(f"without figure proxy-pydoc-{measure}: {why}")
    assert not list((folder / "figures").iterdir())
    page = (folder / "index.html").read_text()
    assert "nDCG@10 on pydoc" in page and "figures/proxy" not in page
    # Its charts are those of the library's scripts, or none.
    assert ("window.vegaEmbed=" in page) == (part != "vl_convert")
    _library.cache_clear()


def test_a_complete_grid_exits_with_zero(write: Write, tmp_path: Path) -> None:
    for cell in grid():
        write(cell, 0.4)
    status, folder = report(tmp_path)
    assert status == 0
    assert (folder / "scaling.md").read_text().count("Holes: none.") == 4
    [section] = json.loads((folder / "scaling.json").read_text())
    assert len(section["results"]) == 18


def test_proxy_and_full_results_and_collections_never_share_a_table(
    write: Write, tmp_path: Path
) -> None:
    write(Cell("1b", "sparse", "cl"), 0.1111)
    write(Cell("3b", "sparse", "cl"), 0.2222, ladder="full")
    write(Cell("8b", "sparse", "cl"), 0.3333, ladder="full", collection="nq")
    wanted = {"model": ["1b", "3b", "8b"], "paradigm": ["sparse"], "loss": ["cl"]}
    parts = sections(collect(tmp_path), grid=wanted)
    texts = {(s.ladder, s.collection): str(scaling_table(s, "nDCG@10").rows[0][1:]) for s in parts}
    assert texts == {
        ("full", "nq"): "['—', '—', '0.3333']",
        ("full", "pydoc"): "['—', '0.2222', '—']",
        ("proxy", "pydoc"): "['0.1111', '—', '—']",
    }
    _, folder = report(tmp_path, "--ladder", "full")
    assert "0.1111" not in (folder / "scaling.md").read_text()


def test_malformed_results_are_named_and_count_as_holes(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(Cell("1b", "sparse", "cl"), 0.4)
    broken = write(Cell("3b", "sparse", "cl"), 0.4)
    broken.write_text('{"id": "x",\n "seed": }')
    wrong = write(Cell("8b", "sparse", "cl"), 0.4, seed="42")
    status, _ = report(tmp_path, "--grid", "model=1b,3b,8b", "paradigm=sparse", "loss=cl")
    output = capsys.readouterr()
    assert status == 3
    assert f"{broken}, line 2: Expecting value; the cell counts as a hole.\n" in output.err
    assert f"{wrong}: key 'seed' is missing or not of type int; the cell" in output.err
    assert "Holes: sparse CL 3b, sparse CL 8b." in output.out


def test_seeds_are_averaged_and_the_newest_configuration_of_a_seed_is_kept(
    write: Write, tmp_path: Path
) -> None:
    cell = Cell("1b", "sparse", "cl")
    results = ((42, 0.9, "old"), (42, 0.4, "new"), (43, 0.6, "other"))
    for age, (seed, ndcg, name) in enumerate(results):
        os.utime(write(cell, ndcg, seed=seed, id=name), (age, age))
    [section] = sections(collect(tmp_path))
    table = scaling_table(section, "nDCG@10")
    assert table.rows[0] == ["sparse CL", "0.5000 ± 0.1414 (n=2)"]
    assert (
        "sparse CL 1b, seed 42: shows new, the newest; left out, of the same configuration but "
        "other inputs or code: old."
    ) in table.below


def test_an_overview_of_several_collections_and_the_mean_of_a_group(
    write: Write, tmp_path: Path
) -> None:
    scores = {"a": 0.2, "b": 0.4, "own": 0.9}
    for model, more in (("1b", {}), ("3b", {"b": None})):
        cell = Cell(model, "dense", "cl")
        known = {name: value for name, value in (scores | more).items() if value is not None}
        write(
            cell,
            None,
            scores={name: {"nDCG@10": value} for name, value in known.items()},
            bm25={name: {"nDCG@10": 0.3} for name in known},
            collections={name: {"group": "g" if name != "own" else None} for name in known},
        )
    code, folder = report(tmp_path, "--grid", "model=1b,3b", "paradigm=dense", "loss=cl")
    assert code == 3  # 3b has no number on b
    lines = [
        [word.strip() for word in line.strip("|").split("|")]
        for line in (folder / "scaling.md").read_text().splitlines()
        if line.startswith("|")
    ]
    start = lines.index(["System", "own", "mean of g (2)"])
    assert lines[start + 2 : start + 5] == [
        ["dense CL 1b", "**0.9000**", "0.3000"],
        ["dense CL 3b", "**0.9000**", "—"],
        ["BM25", "0.3000", "0.3000"],
    ]
    start = lines.index(["System", "a", "b", "mean of g (2)"])
    assert lines[start + 2 : start + 5] == [
        ["dense CL 1b", "**0.2000**", "0.4000", "0.3000"],
        ["dense CL 3b", "**0.2000**", "—", "—"],
        ["BM25", "0.3000", "0.3000", "0.3000"],
    ]
    assert "No mean: dense CL 3b lacks b.\n" in (folder / "scaling.md").read_text()
    assert r"nDCG@10 on every collection, proxy ladder.}" in (folder / "scaling.tex").read_text()
    assert "nDCG@10 on every collection" in (folder / "index.html").read_text()


def test_latex_escapes_and_marks_the_best(write: Write, tmp_path: Path) -> None:
    assert escape(r"50% a_b & \x ± —") == r"50\% a\_b \& \textbackslash{}x $\pm$ ---"
    write(Cell("1b", "sparse", "cl"), 0.51, collection="py_doc")
    write(Cell("1b", "dense", "cl"), 0.41, collection="py_doc")
    _, folder = report(tmp_path)
    text = (folder / "scaling.tex").read_text()
    assert r"nDCG@10 on py\_doc.}" in text
    assert "sparse CL & \\textbf{0.5100} \\\\\ndense CL & 0.4100 \\\\\nBM25 & 0.4800 \\\\" in text
    assert r"\caption{\textbf{PROXY LADDER: " in text


def test_a_started_cell_is_named_even_where_its_ladder_has_no_result(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(Cell("1b", "sparse", "cl"), 0.4)
    for ladder in ("proxy", "full"):
        config = tmp_path / "cells" / f"begun-{ladder}" / "config.yaml"
        config.parent.mkdir()
        config.write_text(
            f"axes: {{model: 3b, paradigm: sparse, loss: cl}}\nladder: {ladder}\nseed: 42\n"
            "loss: {title: CL}\n"
        )
    assert report(tmp_path)[0] == 3
    printed = capsys.readouterr().out
    assert "Holes: sparse CL 3b." in printed
    assert "The full ladder was started, but has no result yet" in printed


def test_without_results_the_error_says_what_to_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, folder = report(tmp_path)
    error = capsys.readouterr().err
    command = "-m lion_sweep -m model=1b,3b,8b paradigm=sparse,dense loss=cl,kd,clkd`"
    assert status == 2
    assert error.count("\n") == 1
    assert command in error
    assert not folder.exists()


@pytest.mark.parametrize(
    ("arguments", "fix"),
    [
        (["--grid", "size=1b"], "'size' is no key of the configuration; cells here differ in"),
        (["--grid", "model=1b", "model=3b"], "give all its values in one word"),
        (["--grid", "model"], "cannot read 'model'; write KEY=VALUES"),
        (["--columns", "seed"], "seed has one value here, 42; keys with several: model, paradigm"),
        (["--tables", "more"], "'more' is no key"),
        (["--name", "../x"], "'../x' must be letters"),
    ],
)
@pytest.mark.usefixtures("small")
def test_bad_arguments_are_refused_with_the_fix(
    tmp_path: Path, arguments: list[str], fix: str
) -> None:
    with pytest.raises(UserError, match=re.escape(fix)):
        main(["--root", str(tmp_path), *arguments])


@pytest.mark.usefixtures("small")
def test_a_filter_that_fits_nothing_names_what_there_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(tmp_path, "--data", "nq")[0] == 2
    assert "there are results for: --ladder proxy --data pydoc." in capsys.readouterr().err


def test_long_csv_reads_back(write: Write, tmp_path: Path) -> None:
    write(Cell("1b", "dense", "kd"), None, id="a,b")
    _, folder = report(tmp_path)
    with (folder / "scaling.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["id"] == "a,b"]
    assert [row["value"] for row in rows] == ["", "0.3", "0.8"]
