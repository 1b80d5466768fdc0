"""The GPU rehearsal: all of it without a GPU, with what a bare machine has; and what goes wrong."""

import contextlib
import importlib.metadata
import json
import os
import re
import subprocess
import time
import tomllib
import venv
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import gpu_rehearsal_steps
import psutil
import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from benchmarks.gpu_rehearsal import __main__ as command
from benchmarks.gpu_rehearsal import child, driver, packages, table
from benchmarks.gpu_rehearsal.bars import BARS
from benchmarks.gpu_rehearsal.driver import Run, rehearse
from benchmarks.gpu_rehearsal.steps import STEPS, Step
from benchmarks.gpu_rehearsal.target import Case, Figure, target

ROOT = Path(__file__).parents[1]
SECONDS = 1500  # where tests share two cores with others
SHOWN = 12_000  # characters of output that some machines give back


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def with_needs(names: Iterable[str]) -> set[str]:
    """The distributions and what they need in the versions that are installed here."""
    found: set[str] = set()
    pending = {normal(name) for name in names}
    while pending:
        found.add(name := pending.pop())
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            needs = map(Requirement, importlib.metadata.requires(name) or [])
            asked = (one for one in needs if not one.marker or one.marker.evaluate({"extra": ""}))
            pending |= {normal(one.name) for one in asked} - found
    return found


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with the packages of a bare GPU machine and of the wheels, and nothing else."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=False, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    there = with_needs(packages.BROUGHT.split()) | set(packages.CARRIED.split())
    for distribution in importlib.metadata.distributions():
        if normal(distribution.metadata["Name"]) not in there:
            continue
        for top in {file.parts[0] for file in distribution.files or []} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(distribution.locate_file(top))
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def rehearsal(
    bare: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """(the command, its record) of the whole rehearsal at small shapes, which takes minutes."""
    folder = tmp_path_factory.mktemp("rehearsal")
    words = ["--device", "cpu", "--tiny", "--seconds", str(SECONDS), "--out", str(folder)]
    hidden = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
    done = subprocess.run(
        [bare, "-m", "benchmarks.gpu_rehearsal", *words],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name not in hidden}
        | {"OMP_NUM_THREADS": "1", "SLURM_CONF": "/dev/null", "PYTHONNOUSERSITE": "1"},
        capture_output=True,
        text=True,
    )
    assert (folder / "rehearsal.json").is_file(), done.stdout + done.stderr
    assert {path.name for path in folder.iterdir()} == {"rehearsal.json", "rehearsal.log"}
    return done, json.loads((folder / "rehearsal.json").read_text())


def test_every_step_runs_with_what_a_bare_machine_has(bare: Path, rehearsal: Any) -> None:
    done, record = rehearsal
    assert done.returncode == 0, done.stdout + done.stderr
    assert [step["step"] for step in record["steps"]] == [step.name for step in STEPS]
    for step in record["steps"]:
        assert {case["status"] for case in [step, *step["cases"]]} == {"ok"}, step
    for absent in ("wandb", "pyserini", "faiss", "sentence_transformers", "hypothesis", "seismic"):
        found = f"import importlib.util as i; print(i.find_spec({absent!r}))"
        printed = subprocess.run([bare, "-c", found], capture_output=True, text=True).stdout
        assert printed.strip() == "None", absent


def test_every_bar_has_a_figure_and_right_results_are_right(rehearsal: Any) -> None:
    _, record = rehearsal
    found = table.values(record)
    assert not BARS.keys() - found.keys()
    for name, bar in BARS.items():
        assert found[name]["met"] is (True if bar.correctness else None), name
    assert found["kernels, the CPU's tests: tests"]["value"] > 5
    assert 0 < found["kernels 8b: gradient of the states, error"]["value"] < 5e-3
    assert found["memory 8b dense: measured"]["value"] > 1e-3
    scores = [found[f"cells: 1b {kind}, fp32, nDCG@10"]["value"] for kind in ("sparse", "dense")]
    assert min(scores) > 0 and max(scores) < 1


def test_a_line_per_step_and_one_short_table_are_printed(rehearsal: Any) -> None:
    done, record = rehearsal
    assert len(done.stdout) < SHOWN
    for name in (*BARS, record["card"], "SmolLM2-135M"):
        assert name in done.stdout
    for step in STEPS:
        assert re.search(rf"s\] {re.escape(record['card'])}: {step.name} ok in \d+ s", done.stdout)


Rehearse = Callable[..., tuple[list[dict[str, Any]], list[str], Path]]


@pytest.fixture
def rehearsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rehearse:
    """(steps of the record, lines, folder) of steps that do as one is told."""

    def run(*steps: Step, kind: str = "well", seconds: float = 300.0) -> Any:
        monkeypatch.setenv("REHEARSED", kind)
        monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))
        lines: list[str] = []
        asked = Run("cpu", False, seconds, tmp_path, 1, "a card")
        record = rehearse(asked, steps, lines.append)
        assert json.loads((tmp_path / "rehearsal.json").read_text()) == record
        return record["steps"], lines, tmp_path

    return run


def step(name: str, seconds: float = 250, **changes: Any) -> Step:
    return Step(name, seconds, module=gpu_rehearsal_steps.__name__, **changes)


def told(ended: dict[str, Any]) -> list[tuple[str, str, list[float]]]:
    return [
        (case["case"], case["status"], [figure["value"] for figure in case["figures"]])
        for case in ended["cases"]
    ]


def test_a_case_that_fails_leaves_the_others(rehearsed: Rehearse) -> None:
    (ended,), lines, folder = rehearsed(step("one"), kind="raises")
    assert ended["status"] == "failed"
    assert told(ended) == [("first", "ok", [7]), ("second", "failed", [1]), ("third", "ok", [7])]
    assert ended["cases"][1]["word"].endswith("ValueError: of no use")
    assert "a card: one failed" in lines[0]
    assert "ValueError: of no use" in (folder / "rehearsal.log").read_text()


def test_a_process_that_dies_keeps_what_it_told_and_its_last_words(rehearsed: Rehearse) -> None:
    (ended,), *_ = rehearsed(step("one"), kind="dies")
    assert told(ended) == [("first", "ok", [7]), ("second", "unfinished", [2])]
    assert ended["status"] == "failed"
    assert ended["word"] == "ended with 3: last words"


def test_a_hanging_step_is_stopped_with_all_it_started_and_the_next_begins(
    rehearsed: Rehearse,
) -> None:
    ended, lines, folder = rehearsed(step("one", 40), step("two", 40), kind="hangs")
    assert [(one["status"], one["word"]) for one in ended] == 2 * [
        ("timeout", "stopped after 40 s")
    ]
    assert [line.split(": ")[1].split()[0] for line in lines] == ["one", "two"]
    children = re.findall(r"child (\d+)", (folder / "rehearsal.log").read_text())
    assert len(children) == 2
    time.sleep(0.5)
    assert not [pid for pid in map(int, children) if _alive(pid)]


def _alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_what_cannot_run_is_named_and_the_next_step_runs(rehearsed: Rehearse) -> None:
    ended, *_ = rehearsed(step("one", needs=("json", "no_such_module")), step("two"))
    assert ended[0]["status"] == "failed" and ended[0]["word"] == "not installed: no_such_module"
    assert ended[1]["status"] == "ok"
    (late,), *_ = rehearsed(step("one"), seconds=1)
    assert (late["status"], late["word"]) == ("skipped", "no time was left")


def test_a_case_without_enough_memory_is_skipped_and_says_so(tmp_path: Path) -> None:
    ran = []
    huge = Case("huge", lambda: ran.append(1) or [], 1e6)
    small = Case("small", lambda: [Figure("what", 1.0)], 0)
    assert child.run([huge, small], target("cpu", False, 0), tmp_path / "events")
    huge_told, small_told = driver._cases(tmp_path / "events", whole=True)
    assert not ran and huge_told["status"] == "skipped"
    assert re.fullmatch(
        r"needs 1000000.0 GiB of memory, and [\d.]+ GiB are free", huge_told["word"]
    )
    assert small_told["status"] == "ok"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], r"finds no CUDA device: .* --device cpu --tiny"),
        (["--device", "cpu"], "add --tiny to --device cpu"),
        (["--device", "cpu", "--tiny", "--only", "head,hat"], "no step is called hat: choose of"),
        (["--device", "cpu", "--tiny", "--seconds", "0"], "--seconds 0 leaves no time"),
    ],
)
def test_bad_options_are_refused(
    words: list[str],
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit) as refused:
        command.main(words)
    assert refused.value.code == 2
    assert re.search(reason, capsys.readouterr().err)


def test_packages_that_every_step_needs_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(packages, "EVERY", ("torch", "no_such_module"))
    with pytest.raises(SystemExit):
        command.main(["--device", "cpu", "--tiny"])
    assert "not installed, and every step needs it: no_such_module" in capsys.readouterr().err


def a_record(**values: float) -> dict[str, Any]:
    """Of a whole run on a GPU, with these values of two bars."""
    events = [
        {"what": "forward, share of cuBLAS", "value": values["share"], "unit": ""},
        {"what": "prediction, off by", "value": values["off"], "unit": "%"},
    ]
    cases = [
        {"case": name, "status": "ok", "figures": [driver._judged(name, event, True)]}
        for name, event in zip(("head 1b", "memory 1b sparse"), events, strict=True)
    ]
    steps = [{"step": "all", "status": "ok", "cases": cases}]
    whole = {"card": "H100", "device": "cuda", "tiny": False, "seconds": 9.0, "command": "run"}
    return {**whole, "versions": {"torch": "2.11"}, "steps": steps}


def test_bars_are_judged_and_only_wrong_results_fail() -> None:
    good, slow, wrong, nan = (
        a_record(share=share, off=off)
        for share, off in ((0.61, 0.1), (0.59, 0.1), (0.9, 0.11), (0.9, float("nan")))
    )
    assert [table.failed(record) for record in (good, slow, wrong, nan)] == [
        False,
        False,
        True,
        True,
    ]
    verdicts = {row[0]: row[1:] for row in table.rows(slow)}
    assert verdicts["head 1b: forward, share of cuBLAS"] == [">= 0.6 (0.85)", "0.59", "no"]
    assert verdicts["memory 1b sparse: prediction, off by"] == ["<= 10.0%", "10.0%", "yes"]
    assert verdicts["training 8b dense: useful MFU"] == [">= 0.4 (0.5)", "not yet run", "-"]


def test_the_page_has_the_table_of_the_results_that_are_there(tmp_path: Path) -> None:
    made = table.markdown(table.records(table.GPU_RESULTS))
    page = table.DOCS.read_text()
    assert table.with_table(page, made) == page, "run python -m benchmarks.gpu_rehearsal.table"
    for name, record in (("h100", a_record(share=0.7, off=0.0)), ("cpu", {"tiny": True})):
        (tmp_path / name).mkdir()
        whole = a_record(share=0.1, off=0.5) | record
        (tmp_path / name / "rehearsal.json").write_text(json.dumps(whole))
    lines = table.markdown(table.records(tmp_path)).splitlines()
    assert lines[0] == "| what | bar | H100 |"
    assert "| head 1b: forward, share of cuBLAS | >= 0.6 (0.85) | 0.7, yes |" in lines
    assert "| head 8b: forward, share of cuBLAS | >= 0.6 (0.85) | not yet run |" in lines
    assert lines[-1] == "H100: 9 s, `run`, torch 2.11"


def test_bounds_allow_the_versions_of_the_bare_machine() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = map(Requirement, project["dependencies"])
    bounds = {normal(one.name): one.specifier for one in asked}
    for name, version in packages.THERE.items():
        assert version in bounds[name], name
    assert packages.PYTHON in SpecifierSet(project["requires-python"])
