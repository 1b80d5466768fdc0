"""What the page is made of: words, traces, commands and data, against the files they come from."""

import base64
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
from report_cells import grid
from report_grids import Grid, config_of

from lion_sweep.cell.names import settings
from lion_sweep.config import Config
from lion_sweep.config.section import plain
from lion_sweep.files import write_json
from lion_sweep.machine.seal import files_of
from lion_sweep.report.__main__ import write_report
from lion_sweep.report.axes import Cell
from lion_sweep.report.collect import collect, unfinished
from lion_sweep.report.page import build, cells, content, story, traces
from lion_sweep.report.page.commands import Commands, spelled
from lion_sweep.report.sections import Section, sections

SWEPT = "recipe.weight_decay"


@pytest.fixture
def four(tmp_path: Path) -> Path:
    """Four cells without runs and histories."""
    made = Grid(tmp_path, history=False, runs=False)
    for cell in grid(model=("1b", "3b"), loss=("cl",)):
        made.finished(cell)
    return tmp_path


def only(root: Path, **options: Any) -> Section:
    [section] = sections(collect(root), unfinished(root), **options)
    return section


def data_of(root: Path) -> dict[str, Any]:
    """The data as the written page has it."""
    folder = root / "page"
    write_report(sections(collect(root), unfinished(root)), folder)
    text = (folder / "index.html").read_text()
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', text, re.DOTALL)
    assert found
    told: dict[str, Any] = json.loads(found[1])
    return told


def test_the_facts_are_sums_over_the_result_files(four: Path) -> None:
    records = [json.loads(path.read_text()) for path in four.glob("cells/*/result.json")]
    section = only(four)
    [told] = story.stories([section], cells.shown([section]))
    facts = dict(told.facts)
    spent = [record["ledger"]["train"]["spent"]["useful_flops"] for record in records]
    assert facts["Cells"] == "4 of 4 cells have a result"
    assert facts["Compared"] == "model 1b and 3b; paradigm sparse and dense; loss CL"
    assert facts["Training"] == (
        f"1.8e+12 useful FLOPs a cell, {sum(spent):.3g} in all; 0.02 % from the plan at most"
    )
    # Texts, which all four share, count once.
    seconds = 3.5 + sum(record["stages"]["train"]["seconds"] for record in records)
    assert facts["Time"].startswith(f"{seconds / 60:.1f} minutes of stages")
    assert facts["Scored on"] == "pydoc (40 queries, 300 passages)"
    assert facts["Code"] == "3cd78638dd3c"
    assert facts["Seeds"] == "one, 42"
    assert "PROXY" in told.label and "PROXY" in told.limits[0]


def test_findings_are_counted_from_the_scores(four: Path) -> None:
    section = only(four)
    scores = {r.folder.name: r.scores["pydoc"]["nDCG@10"] for r in section.shown}
    best = max(v for v in scores.values() if v is not None)
    bm25 = section.bm25("nDCG@10") or 0.0
    [told] = story.stories([section], cells.shown([section]))
    [said] = told.findings
    assert f"has the highest nDCG@10: {best:.4f}" in said
    above = sum(value > bm25 for value in scores.values() if value is not None)
    assert f"BM25 has {bm25:.4f}: {above} of 4 cells" in said
    values = {
        (r.asked.axes["model"], r.asked.axes["paradigm"]): r.scores["pydoc"]["nDCG@10"]
        for r in section.shown
    }
    gaps = [values[m, "sparse"] - values[m, "dense"] for m in ("1b", "3b")]  # type: ignore[operator]
    higher = sum(gap > 0 for gap in gaps)
    assert (
        f"Of 2 pairs that differ in nothing else, sparse is higher than dense in {higher}, by "
        f"{fmean(gaps):+.4f} on average"
    ) in said


def test_a_full_ladder_is_no_proxy_and_holes_are_limits(tmp_path: Path) -> None:
    made = Grid(tmp_path, ladder="full", history=False, runs=False)
    made.finished(Cell("1b", "dense", "cl"), environment={}, device={})
    made.begun(Cell("3b", "dense", "cl"), "interrupted")
    section = only(tmp_path)
    [told] = story.stories([section], cells.shown([section]))
    assert not any("PROXY" in text for text in [told.label, *told.limits, *told.findings])
    assert "Anything about dense CL 3b: no result." in told.limits
    assert "Which code made 1 result: the commit is not told." in told.limits
    assert dict(told.facts)["Hardware"] == "1 x not told"


@pytest.mark.parametrize(
    ("outcome", "message", "said"),
    [
        ("failed", "boom", "failed (attempt 1, out of memory): boom"),
        ("interrupted", "", "interrupted (attempt 1)"),
        ("running", "", "running, or ended without a word"),
        ("", "", "not begun"),
        ("finished", "", "finished (attempt 1), but its result is gone or of another version"),
    ],
)
def test_why_a_cell_has_no_result(four: Path, outcome: str, message: str, said: str) -> None:
    name = Grid(four).begun(Cell("8b", "dense", "cl"), outcome, message)
    (four / "cells" / name / "attempts" / "0.json").write_text("{half")
    [section] = data_of(four)["sections"]
    told = {system["name"]: system["hole"] for system in section["systems"]}
    assert told["dense CL 8b"] == f"{said} ({name})"
    assert [hole for name, hole in told.items() if name != "dense CL 8b"] == [None] * 4


def test_texts_cannot_end_the_script_they_are_in() -> None:
    nasty = {"</script>": "<!--<script>&\u2028", "n": [1.5, math.nan, math.inf, None, True]}
    text = str(build.embedded(nasty))
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"</script>": nasty["</script>"], "n": [1.5, None, None, None, True]}


def test_values_per_query_come_back_as_they_were(four: Path) -> None:
    told = data_of(four)
    [section] = told["sections"]
    assert section["per_query"]["of"] == 40
    for system in section["systems"]:
        packed = section["per_query"]["values"][system["name"]]
        values = np.frombuffer(base64.b64decode(packed), "<u2") * section["per_query"]["scale"]
        path = four / "cells" / system["ids"][0] / "per_query" / "pydoc.json"
        stored = json.loads(path.read_text())["nDCG@10"]
        wanted = [stored[query] for query in section["per_query"]["queries"]]
        assert np.allclose(values, wanted, rtol=0, atol=1e-5)
        # Equal values stay equal: a tie is no win.
        assert len(set(values.tolist())) == len(set(wanted))


def test_values_per_query_are_bounded_and_it_is_told(
    four: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "PER_QUERY_BYTES", 2 * 5 * 8)
    [section] = data_of(four)["sections"]
    assert len(section["per_query"]["queries"]) == 8
    assert section["per_query"]["of"] == 40
    assert section["per_query"]["queries"][0] == "q0"


def test_curves_are_thinned_evenly_with_both_ends(tmp_path: Path) -> None:
    records = [{"step": n, "loss": 1 / n, "odd": math.nan, "name": "x"} for n in range(1, 1001)]
    records[0]["late"] = 0.5
    lines = [*map(json.dumps, records), '{"step": 1001, "lo', "[1]"]
    (tmp_path / "history.jsonl").write_text("\n".join(lines))
    told = traces.columns(traces.json_lines(tmp_path / "history.jsonl"), 200)
    assert set(told) == {"step", "loss", "late"}
    assert len(told["step"]) == 200
    assert (told["step"][0], told["step"][-1]) == (1, 1000)
    gaps = {b - a for a, b in zip(told["step"], told["step"][1:], strict=False)}  # type: ignore[operator]
    assert gaps == {5, 6} or gaps == {5}
    assert told["loss"][-1] == 0.001
    assert told["late"][:2] == [0.5, None]
    assert traces.columns(traces.json_lines(tmp_path / "nothing"), 200) == {}
    assert traces.thinned(3, 200) == [0, 1, 2]


def test_first_hits_are_those_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "a.trec"
    lines = [
        f"q1{n} Q0 d{n}{rank} {rank} {10 - rank}.5 t\n" for n in ("", "1") for rank in (1, 2, 3, 4)
    ]
    run.write_text("".join(lines)[:-1])
    assert traces.first_hits(run, ["q1", "q11", "q", "1"]) == {
        "q1": [("d1", 9.5), ("d2", 8.5), ("d3", 7.5)],
        "q11": [("d11", 9.5), ("d12", 8.5), ("d13", 7.5)],
    }
    assert traces.first_hits(tmp_path / "none.trec", ["q1"]) is None
    monkeypatch.setattr(traces, "RUN_BYTES", 10)
    assert traces.first_hits(run, ["q1"]) is None


def test_of_equal_queries_those_are_told_where_bm25_does_otherwise() -> None:
    values = {"a": 0.0, "b": 0.0, "c": 0.5, "d": 1.0, "e": 1.0, "f": 0.2}
    bm25 = {"a": 0.1, "b": 0.9, "c": 0.5, "d": 1.0, "e": 0.0, "f": 0.2}
    worst, best = cells.extremes(values, bm25)
    assert worst == ["b", "a", "f"]
    assert best == ["e", "d", "c"]


@pytest.mark.parametrize(
    "words",
    [
        ["model=8b", "paradigm=dense", "loss=kd"],
        ["data=beir", "data.path=my folder", "data.name=mine", "teacher=bm25", "seed=7"],
        ["ladder=full", "recipe=proxy"],
        ["ladder=full", "evaluation=paper", "data=msmarco", "data.path=marco"],
        ["budget=steps", "budget.steps=50", "recipe.learning_rate=3e-4"],
        ["budget=epochs", "loss=clkd"],
        ["budget=gpu_hours", "budget.gpu_hours=2", "engine=seismic"],
        ["+evaluation.sets.other={path: 'a b, c', group: mine}", "budget.tolerance=null"],
        ["evaluation.measures=[MRR@10,'Recall@100(rel=2)']", "recipe.lengths.passage=64"],
        ["model=smollm2", "paradigm=dense", "recipe=lion", "recipe.lora.rank=4"],
    ],
)
def test_the_command_makes_the_same_configuration(
    compose_cell: Callable[..., Config], words: list[str]
) -> None:
    config = plain(compose_cell(*words))
    # Hydra is busy with the fixture's folder: theirs is the same.
    made = Commands.__new__(Commands)
    made._composed = {}
    said, _ = made.words(config)
    again = plain(compose_cell(*said))
    assert settings(again) == settings(config)
    assert again["budget"] == config["budget"]


@pytest.mark.parametrize(
    "value",
    [
        "plain", "a b", "3b", "1e5", "null", "true", "", "it's", 'say "x"', "a,b=[c]{d}", "back\\",
        'b\\"q', "${x}"[1:], "ünï", 0.5, 3e-05, 1e12, 7, -1, None, True, [1, "a b", None],
        {"k": "v w", "n": {"m": 1.5}}, "a: b", "#x", "~home", "x@y/z:1",
    ],
)  # fmt: skip
def test_values_are_spelled_as_hydra_reads_them(value: Any) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    [override] = OverridesParser.create().parse_overrides([f"+key={spelled(value)}"])
    read = override.value()
    assert json.loads(json.dumps(_plain(read))) == value


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(_plain(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return getattr(value, "text", value)


def test_commands_of_options_of_ones_own_say_so(tmp_path: Path) -> None:
    config = config_of(Cell("1b", "dense", "cl"), 42)
    config["model"]["name"] = "mine"
    with Commands() as commands:
        train, evaluate, export = commands.of("mine-1", config, Path("else where"))
    assert train["command"].startswith("python -m lion_sweep model=mine paradigm=dense loss=cl")
    assert "--config-dir" in train["note"]
    assert "'--root=else where'" in evaluate["command"].replace("\\\n    ", "")
    assert export["command"].startswith("python -m lion_sweep.export mine-1 mine-1-model")


def test_settings_that_differ_come_first_and_are_all_there(tmp_path: Path) -> None:
    made = Grid(tmp_path, history=False, runs=False)
    for decay in ("0.1", "0.2"):
        made.finished(Cell("1b", "dense", "cl", ((SWEPT, decay),)))
    told = data_of(tmp_path)
    common = told["common"]["proxy"]["settings"]
    for name, cell in told["cells"].items():
        record = json.loads((tmp_path / "cells" / name / "result.json").read_text())
        assert list(cell["settings"])[3] == SWEPT
        assert {**common, **cell["settings"]} == dict(settings(record["config"]))


def test_every_table_of_the_chapters_is_folded_in_the_page(four: Path) -> None:
    data_of(four)
    text = (four / "page" / "index.html").read_text()
    markdown = (four / "page" / "scaling.md").read_text()
    for title in re.findall(r"^### (.+)$", markdown, re.MULTILINE):
        assert f'<details class="chapter"><summary>{title}</summary>' in text
    files = set(re.findall(r'<a href="((?!#|\.\.)[^"]+)"', text))
    assert {"scaling.csv", "scaling.json", "scaling.tex", "scaling.md"} <= files
    for name in files:
        assert (four / "page" / name.replace("%40", "@")).is_file()


def test_texts_of_queries_are_told_where_they_are_at_hand(tmp_path: Path) -> None:
    import pyarrow as pa

    name = Grid(tmp_path, history=False).finished(
        Cell("1b", "dense", "cl"), stages={"queries pydoc": {"folder": "texts-9", "seconds": 1.0}}
    )
    folder = tmp_path / "stages" / "texts-9" / "texts"
    folder.mkdir(parents=True)
    ids, texts = (
        [f"q{n}" for n in range(40)],
        [f"query  {n}" + "x" * 400 * (n == 3) for n in range(40)],
    )
    table = pa.table(
        {"id": pa.array(ids, pa.large_string()), "text": pa.array(texts, pa.large_string())}
    )
    with pa.ipc.new_file(str(folder / "000000.arrow"), table.schema) as writer:
        writer.write_table(table)
    write_json(folder.parent / "done.json", {"files": files_of(folder.parent)})
    told = data_of(tmp_path)
    queries = told["cells"][name]["queries"]["pydoc"]
    known = told["texts"][queries["texts"]]
    shown = [entry[0] for entry in [*queries["worst"], *queries["best"]]]
    assert set(known) == set(shown)
    assert all(known[q] == f"query {q[1:]}" for q in shown if q != "q3")
    assert all(len(text) <= 300 for text in known.values())
    with (folder / "000000.arrow").open("r+b") as file:  # which Arrow might read past its end
        file.seek(-200, 2)
        file.write(bytes(8))
    assert not any(data_of(tmp_path)["texts"].values())
