"""Cells of one name: told apart in status, refused by name alone, named by id or by a pattern."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra

from launch import commands
from lion_sweep import preflight
from lion_sweep.cell.cell import Cell
from lion_sweep.cell.tasks import CELL, Task

SmallCell = Callable[..., Cell]


@pytest.fixture
def frozen(small_cell: SmallCell, tmp_path: Path) -> Callable[..., Task]:
    """Freeze the task of a cell from overrides, with a line in its log."""

    def freeze(*words: str) -> Task:
        cell = small_cell(*words, f"paths.root={tmp_path}")
        task = Task(CELL, cell.id, cell.config)
        task.freeze()
        (task.folder / "log.txt").write_text(f"the log of {task.name}\n")
        return task

    return freeze


def ran(monkeypatch: pytest.MonkeyPatch, name: str, *words: str) -> int:
    """The exit status of `python -m lion_sweep.NAME` with these words."""
    monkeypatch.setattr("sys.argv", [name, *words])
    GlobalHydra.instance().clear()  # a command is a process of its own
    with pytest.raises(SystemExit) as left:
        commands.run(name)
    code = left.value.code
    assert isinstance(code, int)
    return code


def test_status_tells_cells_of_one_name_apart(
    frozen: Callable[..., Task],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for words in (["seed=1"], ["seed=2"], ["model=3b"]):
        frozen(*words)
    assert ran(monkeypatch, "status", f"paths.root={tmp_path}") == 3
    names = [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()[1:4]]
    assert sorted(names) == ["1b-sparse-cl seed=1", "1b-sparse-cl seed=2", "3b-sparse-cl"]
    assert (
        ran(monkeypatch, "status", f"--root={tmp_path}", "3b-sparse-cl", "status.format=json") == 3
    )
    [row] = json.loads(capsys.readouterr().out)
    assert row["axes"]["model"] == "3b"


@pytest.mark.parametrize("name", ["cancel", "logs", "status"])
def test_a_name_of_several_cells_is_refused_with_the_candidates(
    frozen: Callable[..., Task],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    tasks = [frozen(f"seed={seed}") for seed in (1, 2)]
    assert ran(monkeypatch, name, f"paths.root={tmp_path}", "1b-sparse-cl") == 2
    said = capsys.readouterr().err
    for seed, task in enumerate(tasks, start=1):
        assert f"  {task.name}  1b-sparse-cl seed={seed}\n" in said
    assert "say '1b-sparse-cl*'" in said


def test_a_cell_is_named_by_id_its_start_or_a_pattern(
    frozen: Callable[..., Task],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    one, other = (frozen(f"seed={seed}") for seed in (1, 2))
    root = f"paths.root={tmp_path}"
    start = next(
        one.name[:end] for end in range(13, 99) if not other.name.startswith(one.name[:end])
    )
    for words, tasks in (
        ([one.name], [one]),
        ([start], [one]),
        (["1b-sparse-cl seed=2"], [other]),
        (["1b-*"], [one, other]),
        ([one.name, other.name], [one, other]),
    ):
        assert ran(monkeypatch, "logs", root, *words) == 0
        said = capsys.readouterr().out
        assert [f"the log of {task.name}" in said for task in (one, other)] == [
            task in tasks for task in (one, other)
        ]
    assert ran(monkeypatch, "logs", root, "8b-dense-kd") == 2
    assert (
        "No cell is called 8b-dense-kd: there are 1b-sparse-cl seed=1," in capsys.readouterr().err
    )


@pytest.mark.parametrize("name", ["status", "cancel", "logs"])
def test_help_teaches(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert ran(monkeypatch, name, "--help") == 0
    said = capsys.readouterr().out
    assert commands.ABOUT[name] in said and "paths.root" in said and "'8b-*'" in said


def test_a_grid_says_in_what_it_differs_from_cells_that_are_there(
    frozen: Callable[..., Task],
    small_cell: SmallCell,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = f"paths.root={tmp_path}"
    frozen("recipe.warmup=0.1")
    frozen("recipe.warmup=0.1", "recipe.clip=2.0", "seed=9")
    preflight.name_alike([small_cell(root, "recipe.warmup=0.2"), small_cell(root, "model=3b")])
    said = capsys.readouterr().out
    assert said == (
        f"{tmp_path / 'cells'}: beside a cell that is there already, but for recipe.warmup=0.2 "
        "(there 0.1).\n"
    )
    preflight.name_alike([small_cell(root, "recipe.warmup=0.1")])  # the one that is there
    assert not capsys.readouterr().out
