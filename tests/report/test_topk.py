"""Fewer terms of sparse vectors in the report: a table, a chart, and a cell's target."""

from pathlib import Path

from report_cells import record, write_record

from lion_sweep.report.axes import Cell
from lion_sweep.report.collect import collect
from lion_sweep.report.page import build
from lion_sweep.report.sections import Section, sections
from lion_sweep.report.tables import detail_tables, efficiency_table
from lion_sweep.report.topk import topk_rows, topk_table

SPARSE, DENSE = Cell("1b", "sparse", "cl"), Cell("1b", "dense", "cl")
COSTS = {"L0_documents": 60.25, "L0_queries": 10.0, "flops": 1.5, "index_bytes": 1234567}
POINTS = {
    "10/100": {"queries": 10, "passages": 100, "scores": {"nDCG@10": 0.3}, **COSTS},
    "40/400": {"queries": 40, "passages": 400, "scores": {"nDCG@10": None}, **COSTS},
}


def section(root: Path) -> Section:
    """A sparse cell of two seeds, searched with fewer terms, and a dense one."""
    for seed, score in ((42, 0.4), (1, 0.5)):
        more = {"seed": seed, "id": f"1b-sparse-cl-{seed}", "topk": {"pydoc": POINTS}}
        write_record(root, SPARSE, score, **more)
    write_record(root, DENSE, 0.45)
    [found] = sections(collect(root))
    return found


def test_a_row_for_every_point(tmp_path: Path) -> None:
    table = topk_table(section(tmp_path))
    assert table is not None and table.title == "Fewer terms on pydoc"
    header = ["Cell", "Seed", "Terms", "nDCG@10", "Share %", "L0 document", "L0 query"]
    assert table.header == [*header, "Posting FLOPs", "Index bytes"]
    cost = ["60.2", "10.0", "1.5", "1,234,567"]
    assert table.rows == [
        [name, *row]
        for name in ["sparse CL 1b"]
        for seed, whole, share in (("1", "0.5000", "60.0"), ("42", "0.4000", "75.0"))
        for row in (
            [seed, "all", whole, "100.0", "81.0", "29.0", "5.0", "3,145,728"],
            [seed, "10/100", "0.3000", share, *cost],
            [seed, "40/400", "—", "—", *cost],
        )
    ]


def test_the_chart_has_means_of_the_seeds(tmp_path: Path) -> None:
    here = section(tmp_path)
    points = [(row["name"], row["terms"], row["cost"], row["score"]) for row in topk_rows(here)]
    assert points == [("sparse CL 1b", "all", 5.0, 0.45), ("sparse CL 1b", "10/100", 1.5, 0.3)]
    told = build.data([here], {}, drawable=True)["sections"][0]
    assert [row["terms"] for row in told["topk"]] == ["all", "10/100"]
    assert told["charts"]["topk"]["data"] == {"name": "topk"}


def test_nothing_is_said_where_nothing_was_searched_so(tmp_path: Path) -> None:
    write_record(tmp_path, SPARSE, 0.4)
    [here] = sections(collect(tmp_path))
    assert topk_table(here) is None and topk_rows(here) == []
    titles = [table.title for table in detail_tables(here)]
    assert not any(title.startswith("Fewer terms") for title in titles)
    assert not any("asked for" in text for text in efficiency_table(here).below)


def test_a_target_stands_beside_what_came_of_it(tmp_path: Path) -> None:
    efficiency = record(SPARSE, 0.4)["efficiency"]["pydoc"]
    efficiency |= {"L0_documents_target": 80, "L0_documents_encoded": 123.45}
    efficiency |= {"L0_documents": 79.9, "L0_queries_target": 30, "L0_queries_encoded": 29.04}
    write_record(tmp_path, SPARSE, 0.4, efficiency={"pydoc": efficiency})
    [here] = sections(collect(tmp_path))
    [told] = [text for text in efficiency_table(here).below if "asked for" in text]
    assert told.endswith(
        "sparse CL 1b, seed 42 (documents 123.5 -> 79.9, asked for 80; "
        "queries 29.0 -> 29.0, asked for 30)."
    )
