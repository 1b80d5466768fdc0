"""Tables of what cells cost: ledgers, shares, hours, sparsity, latency, and what search missed."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from report_cells import record, write_record

from lion_sweep.report.__main__ import main
from lion_sweep.report.axes import Cell
from lion_sweep.report.collect import collect, unfinished
from lion_sweep.report.health import health_table
from lion_sweep.report.sections import sections
from lion_sweep.report.tables import (
    compute_table,
    detail_tables,
    details_table,
    efficiency_table,
)

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    return partial(write_record, tmp_path)


def test_compute_tells_all_ledgers_and_shares_out_what_is_shared(
    write: Write, tmp_path: Path
) -> None:
    write(Cell("1b", "sparse", "cl"), 0.41)
    taught = record(Cell("1b", "sparse", "kd"), 0.4)
    taught["ledger"]["teacher"] = {"spent": {"useful_flops": 5.0e12}}
    taught["device"] = {"name": "cpu", "peak_flops": None, "count": 1, "train_seconds": 3.0}
    write(Cell("1b", "sparse", "kd"), 0.4, ledger=taught["ledger"], device=taught["device"])
    write(Cell("1b", "dense", "cl"), 0.4, ledger={}, device={})
    wanted = {"paradigm": ["sparse", "dense"], "loss": ["cl", "kd"]}
    [section] = sections(collect(tmp_path), grid=wanted)
    table = compute_table(section)
    plain, distilled, unknown, hole = table.rows
    assert plain == [
        "sparse CL 1b", "2 x h200", "60", "120,000", "1e+12", "1.1e+12", "+10.00", "1.3e+12",
        "1.5e+10", "2e+11", "none", "60,000", "0.0011", "27.5",
    ]  # fmt: skip
    assert distilled[8:] == ["1.5e+10", "2e+11", "5e+12", "40,000", "0.00083", "—"]
    assert unknown[1:] == hole[1:] == ["—"] * 13
    assert table.header[12] == "Device-hours"  # as one has no GPU
    assert table.below[:2] == [
        "In every row with a result: Seed 42.",
        "All training here: 2.2e+12 useful FLOPs (2 of 3 results); 0.0019 device-hours "
        "(2 of 3 results).",
    ]


def test_cells_share_out_the_parts_of_a_teacher(write: Write, tmp_path: Path) -> None:
    for size, parts in {"1b": {"a": 4.0e12, "b": 1.0e12}, "3b": {"a": 4.0e12}}.items():
        ledger = record(Cell(size, "sparse", "kd"), 0.4)["ledger"]
        ledger["teacher"] = {"spent": {"useful_flops": sum(parts.values())}, "parts": parts}
        write(Cell(size, "sparse", "kd"), 0.4, ledger=ledger)
    [section] = sections(collect(tmp_path))
    column = compute_table(section).header.index("FLOPs teacher")
    assert [row[column] for row in compute_table(section).rows] == ["3e+12", "2e+12"]


def test_what_a_teacher_said_stands_in_a_table_of_its_own(write: Write, tmp_path: Path) -> None:
    """Of the cells that have one; without any there is no table."""
    spread = {"5%": -1.25, "25%": 0.0, "50%": 2.0, "75%": 3.0, "95%": 12.5}
    audit = {
        "pairs": 12288,
        "coverage": 1.0,
        "scale": 3.0,
        "scores": spread,
        "margins": spread,
        "inverted": 0.0489,
        "targets": {"listwise_kl": {"scale": 3.0, "entropy": 0.1375}},
    }
    write(Cell("1b", "sparse", "cl"), 0.41)
    [section] = sections(collect(tmp_path))
    assert "Teachers on pydoc" not in [table.title for table in detail_tables(section)]
    write(Cell("1b", "sparse", "clkd"), 0.4, teacher={"name": "minilm"}, teacher_audit=audit)
    margins = {"targets": {"margin_mse": {"scale": 3.0, "margin": 6.734}}}
    write(Cell("1b", "sparse", "kd"), 0.4, teacher={"name": "bm25"}, teacher_audit=audit | margins)
    [section] = sections(collect(tmp_path))
    [table] = [one for one in detail_tables(section) if one.title == "Teachers on pydoc"]
    assert table.header[1:] == [
        "Teacher", "Pairs", "Scored %", "Scale", "Scores 5/50/95 %", "Margins 5/50/95 %",
        "Inverted %", "Target entropy %", "Target margin",
    ]  # fmt: skip
    said = ["12,288", "100", "3", "-1.25 / 2 / 12.5", "-1.25 / 2 / 12.5", "4.9"]
    assert [row[1:] for row in table.rows] == [
        ["none", *["n/a"] * 8],
        ["bm25", *said, "n/a", "6.73"],
        ["minilm", *said, "13.8", "n/a"],
    ]


def test_details_tell_gain_and_time_and_what_is_the_same_stands_below(
    write: Write, tmp_path: Path
) -> None:
    write(Cell("1b", "sparse", "cl"), 0.41)
    [section] = sections(collect(tmp_path))
    [alone] = details_table(section).rows
    assert alone == [
        "sparse CL 1b", "42", "0.2300", "0.4100", "+0.1800", "0.0001", "exact", "exact", "1.5",
        "0.2", "10.1",
    ]  # fmt: skip
    write(Cell("1b", "dense", "cl"), 0.4, gain={"pydoc": {"nDCG@10": 0.17, "p": 0.0001}})
    [section] = sections(collect(tmp_path))
    table = details_table(section)
    assert table.header == ["Cell", "nDCG@10", "Gain"]
    assert table.rows == [
        ["sparse CL 1b", "0.4100", "+0.1800"], ["dense CL 1b", "0.4000", "+0.1700"]
    ]  # fmt: skip
    assert table.below[0] == (
        "In every row: Seed 42; Untrained nDCG@10 0.2300; p 0.0001; Exact top 10 % exact; "
        "Exact hits % exact; Encode s 1.5; Search s 0.2; All stages s 10.1."
    )
    assert table.below[-1] == "One seed per cell."


def test_efficiency_tells_sparsity_latency_and_entropy(write: Write, tmp_path: Path) -> None:
    told = {"pydoc": {"checksum": "abc", "queries": 50}}
    write(Cell("1b", "sparse", "cl"), 0.41, collections=told, entropy={"pydoc": 1.25})
    write(Cell("1b", "dense", "cl"), 0.4)
    [section] = sections(collect(tmp_path))
    table = efficiency_table(section)
    assert dict(zip(table.header, table.rows[0], strict=True)) == {
        "Cell": "sparse CL 1b", "nDCG@10": "0.4100", "L0 document": "81.0", "L0 query": "29.0",
        "Posting FLOPs": "5.0", "ms per query": "5", "Contrastive entropy": "1.2500",
    }  # fmt: skip
    assert table.rows[1][2:] == ["n/a", "n/a", "n/a", "—", "—"]
    assert "Index bytes 3,145,728" in table.below[0]


def test_a_search_that_misses_hits_is_named_beside_the_scores(write: Write, tmp_path: Path) -> None:
    sparse, dense = Cell("1b", "sparse", "cl"), Cell("1b", "dense", "cl")
    write(dense, 0.41)
    missing = {"index_bytes": 1 << 20, "agreement_10": 0.985, "agreement": 0.612}
    write(sparse, 0.41, efficiency={"pydoc": missing})
    [section] = sections(collect(tmp_path))
    table = details_table(section)
    at = table.header.index("Exact top 10 %")
    rows = {row[0]: row[at : at + 2] for row in table.rows}
    assert rows == {"sparse CL 1b": ["98.50", "61.20"], "dense CL 1b": ["exact", "exact"]}
    main(["--root", str(tmp_path), "--grid", "model=1b", "loss=cl"])
    said = (
        "Searched by an approximate engine or in half precision, with the shares of exact "
        "search's top 10 and of all its hits that were found: sparse CL 1b (98.50%, 61.20%)."
    )
    for name in ("scaling.md", "index.html"):
        text = (tmp_path / "reports" / "scaling" / name).read_text()
        assert said in text.replace("&#39;", "'")


def test_health_tells_the_last_look_and_which_cells_were_stopped(
    write: Write, tmp_path: Path
) -> None:
    limits = {"name": "standard", "sink": 0.6, "cosine": 0.999}
    looks = [
        {"step": 1, "cosine_queries": 0.9, "cosine_passages": 0.8, "L0_queries": 9.0},
        {"step": 4, "cosine_queries": 0.5, "cosine_passages": 0.25, "L0_queries": 3.5, "sink": 0.0},
        {"step": 5, "MRR@10": 0.5},  # a point of a time before
    ]
    for loss, off, rows in (
        ("cl", {}, looks),
        ("kd", {"sink": None}, [{"cosine_queries": 0.5}]),
        ("clkd", {"sink": None, "cosine": None}, [{"cosine_queries": None}]),
    ):
        config = record(Cell("1b", "sparse", loss), 0.4)["config"] | {"alarms": limits | off}
        folder = write(Cell("1b", "sparse", loss), 0.4, config=config).parent
        (folder / "points.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write(Cell("3b", "sparse", "cl"), 0.4)  # without a record
    stopped = tmp_path / "cells" / "stopped"
    (stopped / "attempts").mkdir(parents=True)
    asked = record(Cell("3b", "sparse", "kd"), 0.4)
    told = {"axes": asked["axes"], "ladder": asked["ladder"]} | asked["config"]
    (stopped / "config.yaml").write_text(json.dumps(told))
    attempt = {"outcome": "failed", "failure": {"class": "collapse", "message": "Collapsed by"}}
    (stopped / "attempts" / "0001.json").write_text(json.dumps(attempt))
    [section] = sections(collect(tmp_path), unfinished(tmp_path))
    table = health_table(section)
    assert table
    found = {row[0]: dict(zip(table.header, row, strict=True)) for row in table.rows}
    assert {name: row["Alarms"] for name, row in found.items()} == {
        "sparse CL 1b": "healthy",
        "sparse KD 1b": "healthy; off: sink",
        "sparse CL+KD 1b": "not watched",
        "sparse CL 3b": "—",
        "sparse KD 3b": "failed: collapse",
    }
    plain = found["sparse CL 1b"]
    values = ("Cosine, queries", "Cosine, passages", "L0, queries", "Sink", "First token")
    assert [plain[name] for name in values] == ["0.5000", "0.2500", "3.5", "0%", "—"]
    assert found["sparse KD 1b"]["L0, queries"] == "n/a"
    assert table in detail_tables(section)
    assert health_table(sections(collect(tmp_path), grid={"model": ["3b"]})[0]) is None
