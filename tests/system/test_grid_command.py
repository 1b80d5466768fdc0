"""The commands as a user types them: the tiny twin of the whole grid, interruptions, bad input."""

import json
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from commands import ALWAYS, PATIENCE_SECONDS, Command, run
from support import GRID, TINY, TWIN_BUDGET, by_axes

from lion_sweep.config import config_folder


@pytest.fixture(scope="module")
def folder(small_beir: Path) -> Path:
    """The collection of every command."""
    return small_beir


def lion(
    *arguments: str, module: str = "lion_sweep", cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a module of the package as a command."""
    return run(module, *arguments, cwd=cwd)


def lion_in_little_room(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The same where no file may grow beyond 2 MiB."""
    return subprocess.run(
        [sys.executable, "-m", "lion_sweep", *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        env=os.environ | ALWAYS,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 20, 2 << 20)),
    )


def tiny(folder: Path, root: Path) -> list[str]:
    """Overrides of a cell that takes seconds."""
    return [*TINY, f"data.path={folder}", f"paths.root={root}"]


def test_grid_leaves_a_complete_result_per_cell(twin: Path) -> None:
    cells = by_axes(twin)
    assert len(cells) == 18
    for name, result in cells.items():
        folder = twin / "cells" / result["id"]
        assert result["id"].startswith(name)
        assert set(result["scores"]["twin"]) == {"nDCG@10", "MRR@10", "Recall@100"}
        assert result["ladder"] == "proxy"
        assert (folder / "config.yaml").is_file() and (folder / "log.txt").is_file()
        per_query = json.loads((folder / "per_query" / "twin.json").read_text())["nDCG@10"]
        mean = sum(per_query.values()) / len(per_query)
        assert mean == pytest.approx(result["scores"]["twin"]["nDCG@10"])
        assert len(per_query) == 40
        assert len((folder / "runs" / "twin.trec").read_text().splitlines()[0].split()) == 6
        if "sparse" in name:
            assert result["efficiency"]["twin"]["L0_documents"] > 1


def test_cells_spend_what_was_planned_and_their_last_step_reaches_the_budget(twin: Path) -> None:
    for result in by_axes(twin).values():
        ledger = result["ledger"]
        assert ("teacher" in ledger) == (result["axes"]["loss"] != "cl")
        for stage in ("train", "encode"):
            assert ledger[stage]["spent"] == ledger[stage]["planned"]
        spent = ledger["train"]["spent"]
        # Steps differ in length, so the mean step is given some room.
        over = spent["useful_flops"] - 3e10
        assert 0 <= over <= 1.5 * spent["useful_flops"] / spent["steps"]


def test_sizes_share_adaptation_and_cells_share_the_untrained_run(twin: Path) -> None:
    assert len(list(twin.glob("stages/adapt-*/done.json"))) == 3
    assert len(list(twin.glob("stages/negatives-*/done.json"))) == 1
    assert len(list(twin.glob("stages/train-*/done.json"))) == 18
    assert len(list(twin.glob("stages/encode-*/done.json"))) == 2 * (18 + 6)


def copy_of_cells(twin: Path, root: Path) -> Path:
    """Their results in a folder of their own, as other tests read the twin too."""
    shutil.copytree(twin / "cells", root / "cells")
    return root


def test_report_reads_the_grid(twin: Path, tmp_path: Path) -> None:
    root = copy_of_cells(twin, tmp_path)
    done = lion("--root", str(root), module="lion_sweep.report")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PROXY" in done.stdout and "BM25" in done.stdout
    table = (root / "reports" / "scaling" / "scaling.md").read_text()
    for result in by_axes(root).values():
        assert f"{result['scores']['twin']['nDCG@10']:.4f}" in table


def test_report_shows_a_missing_cell_as_a_hole(twin: Path, tmp_path: Path) -> None:
    root = copy_of_cells(twin, tmp_path)
    next(root.glob("cells/8b-dense-kd-*/result.json")).unlink()
    done = lion("--root", str(root), module="lion_sweep.report")
    assert done.returncode == 3
    assert "8b" in done.stdout and "—" in done.stdout


def test_finished_grid_does_nothing_again(folder: Path, twin: Path) -> None:
    made = [path for part in ("cells", "stages") for path in twin.glob(f"{part}/**/*.json")]
    before = {path: path.stat().st_mtime_ns for path in made}
    done = lion(*GRID, *tiny(folder, twin), *TWIN_BUDGET)
    assert done.returncode == 0 and done.stdout.count("done before") == 18
    again = [path for part in ("cells", "stages") for path in twin.glob(f"{part}/**/*.json")]
    assert {path: path.stat().st_mtime_ns for path in again} == before


def one_cell(folder: Path, root: Path, *more: str) -> list[str]:
    """A cell of 40 steps, after as many of adaptation."""
    steps = ["budget=steps", "budget.steps=40", "recipe.adapt.steps=40"]
    own = [word for word in tiny(folder, root) if "adapt.steps" not in word]
    return [*own, "loss=cl", *steps, *more]


@pytest.fixture(scope="module")
def whole(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """The result of that cell, left alone."""
    root = tmp_path_factory.mktemp("whole")
    done = lion(*one_cell(folder, root))
    assert done.returncode == 0, done.stderr
    (result,) = by_axes(root).values()
    return result


@pytest.mark.parametrize("stage", ["adapt", "train", "encode"])
def test_killed_cell_goes_on_to_the_same_numbers(
    folder: Path, whole: dict, tmp_path: Path, stage: str
) -> None:
    process = Command("lion_sweep", *one_cell(folder, tmp_path))
    signs = {
        "adapt": "stages/adapt-*.partial/checkpoint.pt",
        "train": "stages/train-*.partial/checkpoint.pt",
        "encode": "stages/encode-*.partial",
    }
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob(signs[stage])) and time.monotonic() < deadline:
        assert process.poll() is None, "the cell ended before it could be killed"
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not by_axes(tmp_path)
    again = lion(*one_cell(folder, tmp_path))
    assert again.returncode == 0, again.stderr
    (got,) = by_axes(tmp_path).values()
    assert got["id"] == whole["id"]
    assert got["scores"] == whole["scores"]
    assert got["ledger"] == whole["ledger"]


def test_a_cell_is_scored_on_several_collections_and_equal_texts_are_encoded_once(
    folder: Path, tmp_path: Path
) -> None:
    archive = shutil.make_archive(str(tmp_path / "packed"), "zip", folder)
    shutil.copytree(folder, tmp_path / "again")
    less = tmp_path / "less"
    shutil.copytree(folder, less)
    corpus = (less / "corpus.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (less / "corpus.jsonl").write_text("".join(corpus[:-1]) + '{"_id": "d199", "text": ""}\n')
    root = tmp_path / "out"
    sets = [
        f"+evaluation.sets.again={{path: {tmp_path / 'again'}, group: same}}",
        f"+evaluation.sets.packed={{path: {archive}, group: same}}",
        f"+evaluation.sets.less={{path: {less}, measures: ['Recall@5'], group: same}}",
    ]
    done = lion(*tiny(folder, root), "budget=steps", "budget.steps=3", "paradigm=dense", *sets)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "collection: less, 200 passages, 40 test queries" in done.stdout
    assert "of its passages, 1 are empty" in done.stdout
    (result,) = by_axes(root).values()
    for name in ("again", "packed"):
        assert result["scores"][name] == result["scores"]["twin"]
        assert result["bm25"][name] == result["bm25"]["twin"]
    assert set(result["scores"]["less"]) == {"Recall@5"}
    assert result["collections"]["less"]["group"] == "same"
    # Passages twice (the last one differs), the test queries once; the untrained model's both once;
    # both of the archive, whose files are not known before they are unpacked.
    assert len(list(root.glob("stages/encode-*/done.json"))) == 3 + 2 + 2
    spent = [result["ledger"]["encode"][kind]["useful_flops"] for kind in ("planned", "spent")]
    assert spent[0] == spent[1]
    cell = root / "cells" / result["id"]
    for name in ("twin", "again", "packed", "less"):
        assert (cell / "runs" / f"{name}.trec").is_file()
        assert (cell / "per_query" / f"{name}.bm25.json").is_file()


def test_one_failing_cell_leaves_the_others_alone(folder: Path, tmp_path: Path) -> None:
    done = lion(
        "-m",
        *one_cell(folder, tmp_path),
        "recipe.learning_rate=1e-4,1e30",
        "recipe.embedding_rate=null",
    )
    assert done.returncode == 3
    assert "1 of 2 cells complete" in done.stdout
    assert "lower recipe.learning_rate" in done.stdout
    assert "1b-sparse-cl learning_rate=1e+30: FAILED" in done.stdout


def test_a_write_that_fails_costs_nothing_that_was_done(
    folder: Path, whole: dict, tmp_path: Path
) -> None:
    """The system refuses to write a checkpoint, as a full disk would."""
    refused = lion_in_little_room(*one_cell(folder, tmp_path))
    assert refused.returncode == 3
    assert "0 of 1 cells complete" in refused.stdout and "FAILED" in refused.stdout
    assert list(tmp_path.glob("stages/tokens-*/done.json"))
    assert not by_axes(tmp_path)
    again = lion(*one_cell(folder, tmp_path))
    assert again.returncode == 0, again.stderr
    (got,) = by_axes(tmp_path).values()
    assert got["scores"] == whole["scores"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["model=1c"], "Available options"),
        (["recipe.lerning_rate=1"], "lerning_rate"),
        (["loss.batch_size=many"], "many"),
        (["evaluation.sparse_engine=lucene"], "say engine=lucene, seismic or exact"),
        (["loss.batch_size=0"], "loss.batch_size=0"),
        (["budget.anchor.model=3b"], "budget=anchor for budget.anchor"),
        (["-m", "model=1b,3b", "budget.anchor={model: 3b}"], "budget=anchor for budget.anchor"),
        (["seed=${nothing}"], "Interpolation key 'nothing' not found"),
        (["recipe=lion"], "10,000,000 are refused"),
        (["budget=steps", "budget.steps=20000000"], "lower budget.steps"),
        (["-m", "model=1b,3b", "recipe.warmup=2"], "recipe.warmup=2"),
        (["data=beir"], "data.path=FOLDER"),
        (["data=beir", "data.path=nowhere"], "nowhere is not a folder"),
        (["ladder=full", "site=laptop"], "needs a GPU"),
        pytest.param(
            ["site=gpu"],
            "no CUDA device",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA"),
        ),
        (["paths.root=/proc/nothing"], "/proc/nothing cannot be written"),
        (["model=smollm2", "model.backbone=package:nothing_here"], "package:nothing_here"),
    ],
)
def test_bad_input_is_refused_in_plain_words(
    arguments: list[str], said: str, tmp_path: Path
) -> None:
    root = (
        []
        if any("paths.root" in argument for argument in arguments)
        else [f"paths.root={tmp_path / 'out'}"]
    )
    done = lion(*arguments, "tracking=none", *root, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stderr and "usage:" not in done.stderr
    assert not list(tmp_path.glob("out/cells/*/result.json"))


def test_an_option_that_hides_behind_a_shipped_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "loss").mkdir()
    shutil.copy(config_folder() / "loss" / "cl.yaml", tmp_path / "loss")
    done = lion("--config-dir", str(tmp_path), f"paths.root={tmp_path / 'out'}")
    assert done.returncode == 2
    assert f"{tmp_path}/loss/cl.yaml is never read" in done.stderr


def test_cells_of_unequal_compute_are_refused_before_any_runs(folder: Path, tmp_path: Path) -> None:
    done = lion("-m", "model=1b,8b", *tiny(folder, tmp_path), "budget.flops=2e9")
    assert done.returncode == 2
    said = re.search(
        r"(1b|8b)-sparse-cl-\w+ [\d.e+]+ useful .* accept it with (\S+)\.", done.stderr
    )
    assert said, done.stderr
    assert not list(tmp_path.glob("cells/*"))
    plans = lion("-m", "model=1b,8b", *tiny(folder, tmp_path), "budget.flops=2e9", said[2])
    assert plans.returncode == 0, plans.stderr


def test_budget_below_one_step_is_refused_before_any_cell(folder: Path, tmp_path: Path) -> None:
    done = lion(*tiny(folder, tmp_path), "budget.flops=1e3")
    assert done.returncode == 2
    assert "less than one step" in done.stderr
    assert not list(tmp_path.glob("cells/*"))


def test_a_plan_says_what_the_grid_then_spends(folder: Path, twin: Path) -> None:
    """The plan's contract, and its numbers against those of the cells that ran."""
    shown = lion(
        *GRID,
        *tiny(folder, twin),
        *TWIN_BUDGET,
        "plan.format=json",
        module="lion_sweep.plan",
    )
    assert shown.returncode == 0, shown.stderr
    plan = json.loads(shown.stdout)
    assert set(plan) == {"cells", "shared", "spread", "total"}
    ran = by_axes(twin)
    for row in plan["cells"]:
        result = ran.pop("-".join(row["axes"].values()))
        spent = result["ledger"]["train"]["spent"]
        for key in ("steps", "tokens", "useful_flops", "hardware_flops"):
            assert row[key] == spent[key]
        assert row["encode_flops"] == result["ledger"]["encode"]["spent"]["useful_flops"]
        assert row["memory_bytes"] == sum(row["memory"].values())
        assert row["fits"]
    assert not ran
    useful = [row["useful_flops"] for row in plan["cells"]]
    assert plan["spread"] == pytest.approx(max(useful) / min(useful) - 1)


def test_full_sizes_are_planned_without_weights_or_network(folder: Path, tmp_path: Path) -> None:
    full = ["ladder=full", "site.device=h200", "site.price=2", *tiny(folder, tmp_path)]
    full += ["budget.flops=1e18", "recipe.adapt.steps=10000"]
    shown = lion(*GRID, *full, "plan.format=json", module="lion_sweep.plan")
    assert shown.returncode == 0, shown.stderr
    plan = json.loads(shown.stdout)
    assert len(plan["cells"]) == 18
    assert plan["spread"] <= 0.001
    assert all(row["estimate"] and row["fits"] for row in plan["cells"])
    assert plan["total"]["cost"] == pytest.approx(2 * plan["total"]["gpu_hours"])
    table = lion("-m", "model=8b", *full, "site.device=l40s", module="lion_sweep.plan").stdout
    assert "8b-sparse-cl" in table and "30% of peak, assumed" in table
    unknown = lion("-m", "model=8b", *full, "site.device=b300", module="lion_sweep.plan")
    assert unknown.returncode == 2 and "site.device=b300 is not known" in unknown.stderr


def test_a_calibrated_plan_allows_a_budget_of_gpu_hours(folder: Path, tmp_path: Path) -> None:
    budget = ["budget=gpu_hours", "budget.gpu_hours=0.002", *tiny(folder, tmp_path)]
    refused = lion(*budget)
    assert refused.returncode == 2 and "--calibrate" in refused.stderr
    planned = lion("--calibrate", *budget, "plan.format=json", module="lion_sweep.plan")
    assert planned.returncode == 0, planned.stderr
    (row,) = json.loads(planned.stdout)["cells"]
    assert row["time_from"] == "measured"
    assert row["train_seconds"] == pytest.approx(7.2, rel=0.4)  # by the measured step time
    assert lion(*budget).returncode == 0
    assert by_axes(tmp_path)["1b-sparse-cl"]["ledger"]["train"]["spent"]["steps"] == row["steps"]


def test_a_budget_can_be_what_a_reference_cell_spends(folder: Path, tmp_path: Path) -> None:
    anchored = ["budget=anchor", "budget.anchor.epochs=2", *tiny(folder, tmp_path)]
    shown = lion("-m", "model=1b,8b", *anchored, "plan.format=json", module="lion_sweep.plan")
    study = [*tiny(folder, tmp_path), "budget=epochs", "budget.epochs=2", "plan.format=json"]
    own = lion("model=8b", "paradigm=dense", *study, module="lion_sweep.plan")
    assert shown.returncode == own.returncode == 0, shown.stderr + own.stderr
    (reference,) = json.loads(own.stdout)["cells"]
    for row in json.loads(shown.stdout)["cells"]:
        assert row["budget_flops"] == reference["useful_flops"]
        assert 0 <= row["deviation"] < 2 / row["steps"]  # steps differ in length


def test_help_and_configuration_are_readable(tmp_path: Path) -> None:
    text = lion("--help", cwd=tmp_path).stdout
    assert "model: 1b, 3b, 8b" in text
    assert "paradigm: dense, mistral-splade, multi-vector, repllama, sparse" in text
    config = lion("--cfg", "job", cwd=tmp_path)
    assert config.returncode == 0 and "hidden_size: 64" in config.stdout
