"""Scaling laws of made-up results: found again, refused, and in every form of the report."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lion_sweep.report.__main__ import main
from lion_sweep.report.collect import collect
from lion_sweep.report.figures import render
from lion_sweep.report.fit_tables import fit_tables
from lion_sweep.report.fits import BARE, WHOLE
from lion_sweep.report.law_figures import drawable, profiles
from lion_sweep.report.sections import Section, sections
from lion_sweep.result import FORMAT

SIZES = {"s1": 1e7, "s2": 2.5e7, "s3": 6e7, "s4": 1.5e8, "s5": 4e8}
BUDGETS, QUERIES, EMBEDDED, BATCH = (1e18, 4e18, 1.6e19), 60, 3e6, 32
TRUE = {"E": 0.4, "A": 300.0, "a": 0.35, "B": 60.0, "b": 0.3}
Write = Callable[..., Path]


def loss_of(size: float, queries: float) -> float:
    return TRUE["E"] + TRUE["A"] * size ** -TRUE["a"] + TRUE["B"] * queries ** -TRUE["b"]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A result as a cell leaves it; `loss` is its mean, `changes` go over the record."""

    def result(model: str, flops: float, loss: float, seed: int = 42, **changes: Any) -> Path:
        name = f"{model}-dense-cl-{flops:g}-{seed}"
        folder = tmp_path / "cells" / name
        (folder / "per_query").mkdir(parents=True)
        axes = {"model": model, "paradigm": "dense", "loss": "cl"}
        config = {"seed": seed, "ladder": "proxy", "loss": {"title": "CL", "batch_size": BATCH}}
        size = SIZES.get(model, 1e6)
        steps = flops / (6 * size * 20) / BATCH
        content = {
            "format": FORMAT, "id": name, "axes": axes, "ladder": "proxy", "seed": seed,
            "config": config | {"budget": {"kind": "flops", "flops": flops}},
            "data": "pydoc", "scores": {"pydoc": {"nDCG@10": 0.9 - 0.2 * loss}},
            "entropy": {"pydoc": loss},
            "backbone": {"parameters": size + EMBEDDED, "embeddings": EMBEDDED},
            "ledger": {"train": {"spent": {"useful_flops": flops, "steps": steps}}},
        } | changes  # fmt: skip
        (folder / "result.json").write_text(json.dumps(content))
        rng = np.random.default_rng(0)  # queries are as hard for every cell
        values = rng.normal(0, 0.3, QUERIES)
        values += np.random.default_rng(seed).normal(0, 1e-3, QUERIES)
        values += loss - values.mean()
        per_query = {"entropy": {f"q{n}": value for n, value in enumerate(values.tolist())}}
        (folder / "per_query" / "pydoc.entropy.json").write_text(json.dumps(per_query))
        return folder

    return result


def grid(
    write: Write, sizes: Sequence[str] = tuple(SIZES), budgets: Sequence[float] = BUDGETS
) -> None:
    for model in sizes:
        for flops in budgets:
            write(model, flops, loss_of(SIZES[model], flops / (6 * SIZES[model] * 20)))


def section(root: Path) -> Section:
    [found] = sections(collect(root))
    return found


def test_the_joint_law_of_a_grid_is_found(write: Write, tmp_path: Path) -> None:
    grid(write)
    found = section(tmp_path).fits
    [group] = found.groups
    assert group.name == "dense CL" and found.counted == BARE and len(group.points) == 15
    joint = group.laws["joint"]
    assert dict(joint.parameters) == pytest.approx(TRUE, rel=0.05)
    assert joint.held_out == pytest.approx(0, abs=1e-4) and not joint.edges and not joint.untold
    assert set(group.laws) == {
        *(f"size at flops={flops:g}" for flops in BUDGETS), "compute", "joint", "entropy"
    }  # fmt: skip
    assert group.laws["compute"].refused == ("3 points, no law: it takes 5 points for 3 parameters")
    point = next(p for p in group.points if p.cell.model == "s2" and p.budget.endswith("4e+18"))
    assert point.size == 2.5e7 and point.flops == 4e18
    assert point.queries == pytest.approx(4e18 / (6 * 2.5e7 * 20))


def test_the_compute_law_is_of_the_best_size_of_each_budget(write: Write, tmp_path: Path) -> None:
    budgets = [1e18, 4e18, 1.6e19, 6.4e19, 2.56e20]
    for flops in budgets:
        for model in list(SIZES)[:2]:
            write(model, flops, 0.4 + 3000 * flops**-0.2 + (0.1 if model == "s1" else 0))
    [group] = section(tmp_path).fits.groups
    compute = group.laws["compute"]
    assert compute.points == 5
    assert compute.parameters["c"] == pytest.approx(0.2, rel=0.02)
    assert group.laws["joint"].refused.endswith("4 sizes or more, here 2")


def test_three_sizes_are_no_law(write: Write, tmp_path: Path) -> None:
    grid(write, list(SIZES)[:3], BUDGETS[:1])
    entropies, table = fit_tables(section(tmp_path))
    assert entropies.rows == [["dense CL", *(f"{loss_of(SIZES[m], 1e18 / (120 * SIZES[m])):.4f}"
                                             for m in list(SIZES)[:3])]]  # fmt: skip
    assert table.rows == [["dense CL", "none", "3", "3 points, no law", "—", "—", "—"]]
    assert table.below[1] == (
        "size (dense CL): 3 points, no law: it takes 4 sizes or more, here 3; "
        "5 points for 3 parameters."
    )
    assert table.below[2].startswith("compute (dense CL): 1 point, no law: it takes 3 budgets")
    assert table.below[3].startswith("joint, entropy (dense CL): 3 points, no law")


def test_one_size_has_its_entropies_alone(write: Write, tmp_path: Path) -> None:
    write("s1", 1e18, 2.0)
    write("s1", 4e18, 1.8)
    [table] = fit_tables(section(tmp_path))
    assert table.title == "Contrastive entropy on pydoc" and table.rows[0][1:] == [
        "2.0000",
        "1.8000",
    ]


def test_results_without_entropies_have_no_tables(write: Write, tmp_path: Path) -> None:
    write("s1", 1e18, 2.0, entropy={})
    write("s2", 1e18, 1.8, entropy={"pydoc": None})
    assert fit_tables(section(tmp_path)) == []


def test_a_cell_without_an_entropy_is_named(write: Write, tmp_path: Path) -> None:
    grid(write, budgets=BUDGETS[:1])
    write("s6", 1e18, 1.0, entropy={"pydoc": None})
    [group] = section(tmp_path).fits.groups
    assert len(group.points) == 5
    assert group.notes == ("1 of 6 cells left out, without an entropy",)


def test_profiles_of_equal_budgets(write: Write, tmp_path: Path) -> None:
    for number, model in enumerate(SIZES):
        for flops, best in zip(BUDGETS, (1.0, 2.0, 9.0), strict=True):
            write(model, flops, 1.0 + 0.05 * (number - best) ** 2)
    _, _, table, _ = fit_tables(section(tmp_path))
    assert table.header == ["System", "FLOPs", *SIZES, "Best size", "Interval", "Best here"]
    first, second, third = table.rows
    assert first[:3] == ["dense CL", "1e+18", "1.0500"]
    assert [row[-1] for row in table.rows] == ["25M", "60M", "400M*"]
    assert second[-3].endswith("M") and 50 < float(second[-3][:-1]) < 75
    assert third[-3] == "—"
    assert table.below[1].startswith("dense CL, flops=1.6e+19: at the edge: no size here is better")


def test_exponents_that_say_nothing_are_marked(write: Write, tmp_path: Path) -> None:
    for number, model in enumerate(SIZES):
        write(model, 1e18, 1.0 + (number == 0))
        write(model, 4e18, 1.0 + number)
    _, table, *_ = fit_tables(section(tmp_path))
    steep, rising = table.rows
    assert steep[1] == "size at flops=1e+18" and re.match(r"a [23]\.\d\d\d\*", steep[3])
    assert rising[3] == "a —"
    assert "dense CL, size at flops=1e+18: * a at the edge of what was tried." in table.below
    line = "dense CL, size at flops=4e+18: the loss does not fall, so a cannot be told."
    assert line in table.below


def test_cells_that_spent_otherwise_are_no_profile(write: Write, tmp_path: Path) -> None:
    for number, model in enumerate(SIZES):
        spent = {"train": {"spent": {"useful_flops": 1e18 * (1 + number), "steps": 9}}}
        write(model, 1e18, 1.0 + number, ledger=spent)
    _, _, table, _ = fit_tables(section(tmp_path))
    assert table.rows[0][-3:-1] == ["—", "—"]
    assert table.below[1].endswith("no profile: cells spent up to 400% more than others.")


def test_seeds_are_averaged_and_queries_shared(write: Write, tmp_path: Path) -> None:
    for model, size in SIZES.items():
        for seed in (1, 2, 3):
            folder = write(model, 1e18, loss_of(size, 1e18 / (120 * size)) + 0.01 * seed, seed)
    path = folder / "per_query" / "pydoc.entropy.json"
    values = json.loads(path.read_text())["entropy"]
    values.pop("q0")
    path.write_text(json.dumps({"entropy": values}))
    record = json.loads((folder / "result.json").read_text())
    record["entropy"]["pydoc"] = float(np.mean(list(values.values())))
    (folder / "result.json").write_text(json.dumps(record))
    [group] = section(tmp_path).fits.groups
    assert {point.loss_SQ.shape for point in group.points} == {(3, QUERIES - 1)}
    assert group.notes == (f"of the {QUERIES - 1} queries that all cells have",)
    assert group.laws["size"].intervals["a"] is not None


def test_without_values_per_query_there_are_no_intervals(write: Write, tmp_path: Path) -> None:
    grid(write)
    for path in tmp_path.glob("cells/*/per_query/*"):
        path.unlink()
    [group] = section(tmp_path).fits.groups
    assert dict(group.laws["joint"].parameters) == pytest.approx(TRUE, rel=0.05)
    assert set(group.laws["joint"].intervals.values()) == {None}
    assert group.notes == ("no intervals, as cells have no values per query in common",)


def test_what_results_do_not_tell_is_said(write: Write, tmp_path: Path) -> None:
    for model, size in SIZES.items():
        write(model, 1e18, loss_of(size, 1e9), ledger={}, backbone={"parameters": size})
    found = section(tmp_path).fits
    assert found.counted == WHOLE
    [group] = found.groups
    assert group.laws["joint"].refused == "5 points, no law: results do not tell training queries"
    assert not group.laws["size"].refused
    assert group.laws["compute"].refused == "1 point, no law: results do not tell FLOPs"
    assert group.profiles[""].refused == "results do not tell FLOPs"


def test_sizes_that_nobody_tells_leave_the_compute_law(write: Write, tmp_path: Path) -> None:
    for number in range(5):
        for model in ("s1", "s2"):
            write(model, 1e18 * 4**number, 1 + 3 * 0.5**number, backbone={})
    [group] = section(tmp_path).fits.groups
    assert not group.laws["compute"].refused
    assert group.laws["joint"].refused == "10 points, no law: results do not tell sizes"
    assert group.forecast.refused.startswith("0 points, no forecast")


def test_every_form_of_the_report_has_them(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid(write)
    main(["--root", str(tmp_path)])
    folder = tmp_path / "reports" / "scaling"
    markdown = (folder / "scaling.md").read_text()
    for title in (
        "### Contrastive entropy on pydoc",
        "### Scaling laws of contrastive entropy on pydoc",
        "### IsoFLOP profiles of contrastive entropy on pydoc",
        "### From contrastive entropy to nDCG@10 on pydoc",
    ):
        assert markdown.count(title) == 1
        assert title[4:] in (folder / "scaling.tex").read_text()
    assert re.search(
        r"\| dense CL \|\s+joint \|\s+15 \|\s+a 0\.3\d\d \[0\.\d+, 0\.\d+\], b", markdown
    )
    [told] = json.loads((folder / "scaling.json").read_text())
    [group] = told["fits"]["groups"]
    assert len(group["points"]) == 15 and set(group["points"][0]) == {
        "model", "budget", "seeds", "N", "D", "C", "entropy", "score"
    }  # fmt: skip
    law = group["laws"]["joint"]
    assert law["form"] == "E + A/N^a + B/D^b" and len(law["residuals"]) == 15
    assert group["laws"]["compute"]["refused"] and group["laws"]["compute"]["rmse"] is None
    assert group["forecast"]["form"] == "line"
    assert group["forecast"]["parameters"] == pytest.approx({"p": 0.9, "q": 0.2}, rel=1e-3)
    for form in ("svg", "png", "pdf"):
        assert (folder / "figures" / f"proxy-pydoc-entropy-dense-CL.{form}").is_file()
    assert "dense CL: contrastive entropy" in (folder / "index.html").read_text()
    profile = group["isoflop"]["flops=4e+18"]
    assert len(group["isoflop"]) == 3 and profile["sizes"] == list(SIZES.values())
    assert len(profile["losses"]) == len(profile["residuals"]) == 5 and "interval" in profile


def test_profiles_are_drawn_as_they_were_fitted(write: Write, tmp_path: Path) -> None:
    """Against parabolas of our own through the same points; too few sizes are not drawn."""
    grid(write)
    part = section(tmp_path)
    [group] = drawable(part)
    spec = profiles(part, group)
    cells, curves = spec["datasets"]["cells"], spec["datasets"]["curves"]
    assert len(cells) == 15 and {row["model"] for row in cells} == set(SIZES)
    for budget in BUDGETS:
        said = f"flops={budget:g}"
        size, loss = np.array(
            [(row["size"], row["entropy"]) for row in cells if row["budget"] == said]
        ).T
        line = [row for row in curves if row["budget"] == said]
        at = np.log([row["size"] for row in line])
        expected = np.polyval(np.polyfit(np.log(size) - 18, loss, 2), at - 18)
        assert [row["entropy"] for row in line] == pytest.approx(expected.tolist(), abs=1e-9)
        assert (line[0]["size"], line[-1]["size"]) == pytest.approx((size.min(), size.max()))
    assert "".join(re.findall(r">(s\d)<", render(spec)["svg"].decode())) == "s1s2s3s4s5"


def test_three_sizes_have_no_profile_to_draw(write: Write, tmp_path: Path) -> None:
    grid(write, list(SIZES)[:3])
    assert drawable(section(tmp_path)) == []
