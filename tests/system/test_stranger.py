"""A package outside lion_sweep adds one of everything, from composing to the report.

tests/stranger/ is that package, and what CONTRIBUTING.md calls the example of adding something.
"""

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from commands import run
from support import Shell, by_axes

STRANGER = Path(__file__).parents[1] / "stranger"
OWN = ["--config-dir", str(STRANGER / "conf"), "data=mine", "data.name=mine", "engine=plain"]
GRID = ["model=tiny", "paradigm=two,loud,dense", "loss=hinge,kd", "teacher=mine"]


@pytest.fixture(scope="module")
def shell(laptop: Shell) -> Shell:
    """A user's shell in which the package can be imported."""
    return replace(
        laptop,
        environment=laptop.environment
        | {"PYTHONPATH": str(STRANGER), "LION_SWEEP_PACKAGES": "toys"},
    )


@pytest.fixture(scope="module")
def root(shell: Shell, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs of its grid."""
    folder = tmp_path_factory.mktemp("stranger") / "out"
    code, printed = shell.run("-m", *OWN, *GRID, f"paths.root={folder}", "budget.flops=1e10")
    assert code == 0, printed
    assert "6 of 6 cells complete" in printed
    return folder


def test_every_cell_trains_searches_and_is_scored(root: Path) -> None:
    cells = by_axes(root)
    assert set(cells) == {
        f"tiny-{paradigm}-{loss}"
        for paradigm in ("two", "loud", "dense")
        for loss in ("hinge", "kd")
    }
    for name, result in cells.items():
        assert 0 < result["scores"]["mine"]["nDCG@10"] <= 1
        assert result["entropy"]["mine"] > 0 and result["untrained_entropy"]["mine"] > 0
        assert result["ledger"]["train"]["spent"]["steps"] > 0
        assert (result["teacher"] or {}).get("name") == (None if "hinge" in name else "mine")
    assert "L0_documents" in cells["tiny-loud-kd"]["efficiency"]["mine"]
    two = cells["tiny-two-hinge"]["efficiency"]["mine"]
    assert two["index_bytes"] == 200 * 2 * 64 * 4 and "L0_documents" not in two


def test_given_again_it_has_nothing_to_do(root: Path, shell: Shell) -> None:
    words = [*OWN, *GRID, f"paths.root={root}", "budget.flops=1e10"]
    code, printed = shell.run("-m", *words)
    assert code == 0 and printed.count("done before") == 6, printed


def test_a_killed_cell_goes_on_to_the_same_scores(root: Path, shell: Shell, tmp_path: Path) -> None:
    words = [*OWN, "model=tiny", "paradigm=two", "loss=hinge", "budget.flops=1e10"]
    words += [f"paths.root={tmp_path / 'out'}", "recipe.checkpoint_every=1"]
    process = shell.start(*words)
    while not list(tmp_path.glob("out/stages/train-*.partial/checkpoint.pt")):
        assert process.poll() is None
    process.kill()
    process.communicate()
    code, printed = shell.run(*words)
    assert code == 0, printed
    [result] = by_axes(tmp_path / "out").values()
    assert result["scores"] == by_axes(root)["tiny-two-hinge"]["scores"]


def test_the_plan_knows_what_it_takes(shell: Shell, root: Path) -> None:
    words = ["-m", *shell.words(*OWN, *GRID, f"paths.root={root}"), "plan.format=json"]
    done = run("lion_sweep.plan", *words, env=shell.environment)
    assert done.returncode == 0, done.stderr
    cells = json.loads(done.stdout)["cells"]
    assert [cell["name"] for cell in cells][:2] == ["tiny-two-hinge", "tiny-two-kd"]
    assert all(cell["useful_flops"] > 0 and cell["memory_bytes"] > 0 for cell in cells)


def test_its_rows_are_in_the_report(root: Path) -> None:
    done = run("lion_sweep.report", f"paths.root={root}")
    assert done.returncode == 0, done.stderr
    with (root / "reports/scaling/scaling.csv").open() as file:
        rows = {(row["model"], row["paradigm"], row["loss"]) for row in csv.DictReader(file)}
    assert rows == {
        ("tiny", paradigm, loss)
        for paradigm in ("two", "loud", "dense")
        for loss in ("hinge", "kd")
    }
    page = (root / "reports/scaling/index.html").read_text()
    for row in ("two Hinge", "loud KD", "dense Hinge"):
        assert row in done.stdout and row in page
    assert re.search(r"\| +Tiny \|", done.stdout)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["engine=exact"], "searches sparse, dense, multi, words, and paradigm=two makes"),
        (["engine.kinds.two._target_=toys.hinge.Hinge"], "Hinge lacks RULES, check, exact"),
        (["engine.kinds.two.block=0"], "engine.kinds.two.block=0 must be greater than 0"),
        (["paradigm.encoder._target_=toys.hinge.Hinge"], "Hinge lacks all_scores_BC"),
        (["paradigm.encoder._target_=lion_sweep.models.encoders.Encoder"], "lacks __call__, shape"),
        (["loss.terms.hinge._target_=toys.plain.Plain"], "Plain lacks weight"),
        (["+loss.terms.hinge.more=1"], "loss.terms.hinge.more is not a key of Hinge"),
        (["paradigm.encoder._target_=toys.nowhere.Class"], "toys.nowhere.Class cannot be loaded"),
    ],
)
def test_what_lacks_a_part_is_refused_before_any_work(
    shell: Shell, tmp_path: Path, words: list[str], said: str
) -> None:
    given = [*OWN, "model=tiny", "paradigm=two", "loss=hinge", f"paths.root={tmp_path}", *words]
    code, printed = shell.run(
        *[word for word in given if word != "engine=plain" or "=exact" not in str(words)]
    )
    assert code == 2, printed
    assert said in printed
    assert not list(tmp_path.glob("stages/train-*"))
