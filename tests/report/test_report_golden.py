"""Every text of every table of two grids, traced to the files that the cells left."""

import csv
import json
import re
from pathlib import Path

import pytest
import report_traced_costs
import report_tracing
from report_cells import grid
from report_results import OWN, SETS, Sweep
from report_tracing import HOLE, Rows, Traced

from lion_sweep.report import exports, wide
from lion_sweep.report.axes import Cell
from lion_sweep.report.collect import collect, unfinished
from lion_sweep.report.exports import _chapters
from lion_sweep.report.layout import Table
from lion_sweep.report.sections import Choices, Section, sections
from lion_sweep.report.statements import read_statements, study
from lion_sweep.report.tables import overviews, provenance_tables

PERMUTATIONS, SAMPLES = 999, 500
RANK = "recipe.lora.rank"


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lion_sweep.report.significance.PERMUTATIONS", PERMUTATIONS)
    monkeypatch.setattr("lion_sweep.report.significance.SAMPLES", SAMPLES)


def whole(root: Path) -> list[str]:
    """The 18 cells of a demo, each with a result; names of the collections."""
    sweep = Sweep(root)
    for cell in grid():
        sweep.write(cell)
    return [OWN]


def with_holes(root: Path) -> list[str]:
    """18 cells and three of another rank: three failed, two lack a set, two lack a seed."""
    sweep = Sweep(root, "full", (OWN, *SETS), queries=25)
    cells = [Cell(c.model, c.paradigm, c.loss, ((RANK, "4"),)) for c in grid()]
    cells += [Cell(c.model, c.paradigm, c.loss, ((RANK, "16"),)) for c in grid(loss=["cl"])[1::2]]
    failures = {
        3: {"outcome": "failed", "ended": 1.7e9,
            "failure": {"class": "out of memory", "message": "train: no memory. Take less."}},
        10: {"outcome": "running", "started": 1.7e9},
        17: {},
    }  # fmt: skip
    for number, cell in enumerate(cells):
        if number in failures:
            sweep.fail(cell, **failures[number])
            continue
        lacking = ["scifact"] if number in (5, 6) else []
        sweep.write(cell, lacking=lacking)
        if number not in (0, 8):
            sweep.write(cell, 43, lacking=lacking)
    sweep.fail(cells[0], 43, outcome="failed", failure={"class": "NaN", "message": "loss"})
    return sorted([OWN, *SETS])


def reported(root: Path) -> tuple[list[Section], dict[str, Table]]:
    choices = Choices(statements=read_statements(study()))
    parts = sections(collect(root), unfinished(root), choices=choices)
    return parts, overviews(parts)


def told(table: Table) -> Rows:
    """The rows by column, with what folding has put below."""
    rows = [dict(zip(table.header, row, strict=True)) for row in table.rows]
    holes = [set(row[1:]) == {HOLE} for row in table.rows]
    folds = {"In every row: ": None, "Not known: ": HOLE, "Not applicable: ": "n/a"}
    folds |= {"In every row with a result: ": None}
    for line in table.below:
        for start, value in folds.items():
            if line.startswith(start):
                for part in line.removeprefix(start).removesuffix(".").split("; "):
                    name = part if value else part[: part.rindex(" ")]
                    if part.startswith("Device "):
                        name = "Device"  # whose value is two words
                    text = value or part.removeprefix(f"{name} ")
                    for row, hole in zip(rows, holes, strict=True):
                        row[name] = HOLE if hole else text
    return rows


def expected(traced: Traced, table: Table, collections: list[str]) -> Rows | None:
    """The rows that a table has to have, by its title; None for one that is not of files alone."""
    title = table.title
    kinds = {
        "Significance of nDCG@10": report_tracing.significance,
        "Details": report_traced_costs.details,
        "Efficiency": report_traced_costs.efficiency,
        "Compute": report_traced_costs.compute,
        "Contrastive entropy": report_tracing.entropies,
    }
    found = re.fullmatch(r"(.+) on (\w+)", title)
    if found and "of contrastive entropy" in found[1]:
        return None  # tests/report/test_report_fits.py traces laws and profiles
    if found and found[1] in kinds:
        return kinds[found[1]](traced, found[2])
    if found:
        return report_tracing.scaling(traced, found[2], found[1])
    if title.startswith("Cells without"):
        return report_traced_costs.missing(traced)
    if title.startswith("Signal"):
        return report_traced_costs.noise(traced, collections)
    sets = [one for one in collections if one != OWN]
    if "on every collection" in title:
        return report_traced_costs.collected(traced, [OWN], "beir", sets)
    if "on beir" in title:
        return report_traced_costs.collected(traced, sets, "beir", sets)
    assert title.startswith("Findings"), title
    return None


@pytest.mark.parametrize("make", [whole, with_holes])
def test_every_text_of_every_table_is_that_of_the_files(make: object, tmp_path: Path) -> None:
    collections = make(tmp_path)  # type: ignore[operator]
    traced = Traced(tmp_path, PERMUTATIONS, SAMPLES)
    parts, over = reported(tmp_path)
    tables = [table for _, _, found in _chapters(parts, over) for table in found]
    seen = []
    for table in tables:
        rows = expected(traced, table, collections)
        seen.append(table.title.split(" on ")[0])
        if rows is None:
            continue
        assert told(table) == [dict(row) for row in rows], table.title
        assert any("eed" in line for line in table.below) or "Cells without" in table.title
    number = len(collections)
    assert seen.count("MRR@10") == seen.count("Compute") == seen.count("Efficiency") == number
    assert tables[0].title.startswith("Findings")
    assert any("Cells without" in title for title in seen) == (make is with_holes)


def test_findings_are_those_of_the_files(tmp_path: Path) -> None:
    whole(tmp_path)
    traced = Traced(tmp_path, PERMUTATIONS, SAMPLES)
    parts, over = reported(tmp_path)
    [_, _, [table, *_]] = next(iter(_chapters(parts, over)))
    keys = traced.keys(OWN)
    values = {key: traced.values(OWN, key) or {} for key in keys}
    queries = list(values[keys[0]])

    def mean(*terms: tuple[float, report_tracing.Key]) -> dict[str, float]:
        return {q: sum(weight * values[key][q] for weight, key in terms) for q in queries}

    def rise(loss: str, times: float) -> list[tuple[float, report_tracing.Key]]:
        ends = (("8b", times / 2), ("1b", -times / 2))
        return [(w, (m, p, loss, "4")) for m, w in ends for p in ("sparse", "dense")]

    best = ("8b", "sparse", "clkd", "4")
    rival = max((k for k in keys if k != best), key=lambda k: sum(values[k].values()))
    signs = {"sparse": 1 / 9, "dense": -1 / 9}
    wanted = [
        mean(*rise("cl", 1), *rise("kd", -1)),
        mean(*((signs[key[1]], key) for key in keys)),
        mean((1, best), (-1, rival)),
    ]
    for row, contrast in zip(told(table), wanted, strict=True):
        numbers = list(contrast.values())
        effect, low_high = sum(numbers) / len(numbers), traced.ends(contrast)
        assert row["Effect"] == f"{effect:+.4f}"
        assert row["95 % interval"] == "[{:+.4f}, {:+.4f}]".format(*low_high)
        assert row["Collection"] == OWN and row["Verdict"].endswith("(of stand-ins)")


def test_wide_and_long_files_tell_what_the_results_do(tmp_path: Path) -> None:
    with_holes(tmp_path)
    traced = Traced(tmp_path, PERMUTATIONS, SAMPLES)
    parts, over = reported(tmp_path)
    rows = {row["id"]: row for row in csv.DictReader(wide.cells_csv(parts).splitlines())}
    assert len(rows) == len(traced.results) + len(traced.failed)
    for result in traced.results:
        row = rows[result["id"]]
        config = result["config"]
        assert row["state"] == "finished" and row["seed"] == str(result["seed"])
        assert (row["model"], row["paradigm"], row["loss"]) == tuple(result["axes"].values())
        assert row[RANK] == config["recipe"]["lora"]["rank"]
        assert (row["commit"], row["device"], row["devices"]) == ("3cd7863", "h100", "2")
        for what, prefix in (("scores", ""), ("bm25", "BM25 "), ("untrained", "untrained ")):
            for collection, means in result[what].items():
                for measure, value in means.items():
                    assert float(row[f"{prefix}{measure} on {collection}"]) == value
        for collection, value in result["entropy"].items():
            assert float(row[f"entropy on {collection}"]) == value
        for collection, found in result["efficiency"].items():
            for name, value in found.items():
                assert float(row[f"{name} on {collection}"]) == value
        spent = result["ledger"]["train"]["spent"]
        assert float(row["train spent useful_flops"]) == spent["useful_flops"]
        hours = result["device"]["train_seconds"] * 2 / 3600
        assert float(row["train device_hours"]) == hours
        assert float(row["train money"]) == hours * 2.5
        if "scifact" not in result["scores"]:
            assert row["nDCG@10 on scifact"] == row["entropy on scifact"] == ""
    states = {rows[at.name]["state"] for at in traced.failed.values()}
    assert states == {
        "failed: out of memory", "failed: NaN", "no end recorded", "not begun"
    }  # fmt: skip
    texts = list(csv.DictReader(wide.tables_csv(parts, over).splitlines()))
    stored = json.loads(wide.tables_json(parts, over))
    assert len(texts) == sum(len(t["rows"]) * (len(t["header"]) - 1) for t in stored)
    markdown = exports.markdown(parts, over)
    for table in stored:
        assert f"### {table['title']}\n" in markdown
    bold = {(row["table"], row["text"]) for row in texts if row["bold"] == "1"}
    assert bold and all(f"**{text}**" in markdown for _, text in bold)
    per_table = {title: [t for at, t in bold if at == title] for title, _ in bold}
    scaling = [t for title, t in per_table.items() if re.fullmatch(r"\S+ on \w+", title)]
    assert scaling and all(len(found) == 1 for found in scaling)


def test_provenance_is_that_of_the_files(tmp_path: Path) -> None:
    whole(tmp_path)
    [section] = reported(tmp_path)[0]
    provenance, versions = provenance_tables(section)
    rows = {row["Id"]: row for row in told(provenance)}
    for result in Traced(tmp_path, PERMUTATIONS, SAMPLES).results:
        row = rows[result["id"]]
        assert row["Parameters"] == f"{result['backbone']['parameters']:,.0f}"
        assert row["Teacher"] == ("none" if result["axes"]["loss"] == "cl" else "minilm")
        assert (row["Commit"], row["Collection checksum"]) == ("3cd7863", "cpydoc")
        assert (row["Data"], row["Device"], row["Start"]) == (OWN, "h100", "random")
    assert versions.rows == [["python", "3.11.7"]]


def test_json_has_what_tables_have(tmp_path: Path) -> None:
    with_holes(tmp_path)
    parts, _ = reported(tmp_path)
    for section, record in zip(parts, json.loads(exports.json_text(parts)), strict=True):
        assert [one["verdict"] for one in record["findings"]] == ["undecided"] * 3
        assert {"dense CL+KD 8b", "dense CL, rank=4 1b"} <= set(record["findings"][1]["missing"])
        assert record["seeds"] == section.seeds
        assert record["signal_and_noise"]["signal_to_noise_seeds"] > 0
        known = record["signal_and_noise"]["signal_to_noise_points"] is not None
        assert known == (section.collection == OWN)
        pair = record["significance"]["pairs"][0]
        assert {"p_holm", "p_maxt", "p_bh", "cohens_d"} <= pair.keys()
