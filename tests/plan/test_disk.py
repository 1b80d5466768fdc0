"""What cells leave on disk, planned against what lies there, and disks that have no room for it."""

import errno
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support import TINY

from lion_sweep import preflight
from lion_sweep.cell import work
from lion_sweep.cell.tasks import CELL, Task
from lion_sweep.config import Config
from lion_sweep.config.site import SiteName
from lion_sweep.errors import UserError
from lion_sweep.machine.site import settle
from lion_sweep.plan import disk, show
from lion_sweep.plan.planner import Planner

Compose = Callable[..., Config]


@pytest.fixture
def cell(compose_cell: Compose, small_beir: Path, tmp_path: Path) -> Compose:
    """A settled cell of one step."""

    def make(*words: str) -> Config:
        own = [f"data.path={small_beir}", f"paths.root={tmp_path}"]
        short = ["budget=steps", "budget.steps=1", "recipe.precision=fp32"]
        return settle(compose_cell(*TINY, *short, *own, *words), SiteName.laptop)

    return make


def on_disk(root: Path, pattern: str) -> int:
    return sum(path.stat().st_size for path in root.glob(pattern))


@pytest.mark.parametrize(
    "words",
    [
        ["paradigm=dense"],
        ["paradigm=dense", "recipe.lora.rank=4", "recipe.embedding_rate=null"],
        ["paradigm=sparse", "evaluation.kept_terms=3"],
        ["paradigm=multi-vector"],
    ],
    ids=["dense", "lora", "sparse", "multi"],
)
def test_what_is_planned_is_what_lies_there(
    cell: Compose, tmp_path: Path, words: list[str]
) -> None:
    """Files hold the same numbers besides some tens of kilobytes of names and starts of rows."""
    config = cell(*words)
    planned = Planner(SiteName.laptop).grid([config]).disk
    assert not planned.unbounded
    work.do(Task(CELL, Planner(SiteName.laptop).cell(config).id, config), SiteName.laptop)
    weights = sum(
        on_disk(tmp_path, f"stages/{kind}-*/weights/*.safetensors") for kind in ("adapt", "train")
    )
    assert planned.weights <= weights < planned.weights + 2e5
    passages = sum(
        on_disk(tmp_path, f"stages/{stage.name}/vectors/*.npz")
        for stage in Planner(SiteName.laptop).cell(config).stages.roles.values()
        if "passages" in stage.title and stage.kind == "encode"
    )
    assert 0.5 * planned.vectors < passages < planned.vectors + 1e5
    done = Planner(SiteName.laptop).grid([config]).disk
    assert done.total == 0


def test_cells_count_what_they_share_once(cell: Compose) -> None:
    """And entries that nobody bounds are not guessed at."""
    one = Planner(SiteName.laptop).grid([cell("paradigm=dense")]).disk
    configs = [cell("paradigm=dense"), cell("paradigm=dense", "loss=kd")]
    both = Planner(SiteName.laptop).grid(configs).disk
    assert both.vectors == 3 * one.vectors / 2 and both.weights == 3 * one.weights / 2
    plan = Planner(SiteName.laptop).grid([cell("paradigm=sparse")])
    assert plan.disk.unbounded and plan.disk.vectors == 0
    assert "disk: vectors take 0.0 GB and weights" in show.as_table(plan)
    assert ", besides sparse vectors, whose entries are not known yet" in show.as_table(plan)


def room(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    """A disk with so many bytes free."""
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))


def test_a_disk_without_room_is_refused_before_anything_is_read(
    cell: Compose, small_beir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = sum((small_beir / name).stat().st_size for name in ("corpus.jsonl", "queries.jsonl"))
    config = cell("paradigm=dense")
    room(monkeypatch, 3 * size - 1)
    with pytest.raises(UserError, match=r"has 0\.0 GB free, and texts, tokens and their index"):
        preflight.introduce(Planner(SiteName.laptop), config)
    assert not list(tmp_path.glob("stages/texts-*"))
    room(monkeypatch, 3 * size)
    planner = Planner(SiteName.laptop)
    preflight.introduce(planner, config)
    preflight.introduce(Planner(SiteName.laptop), config)  # what is there takes no more
    needed = planner.grid([config]).disk.total
    room(monkeypatch, needed - 1)
    with pytest.raises(UserError, match=r"vectors and weights take .* at the least: free some"):
        preflight.approve(planner, [config])
    room(monkeypatch, needed)
    preflight.approve(planner, [config])


def test_a_disk_that_fills_while_words_are_indexed(
    cell: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told with what to do, nothing half-made stays in place, and the command goes on."""
    save, calls = np.save, [0]

    def full(*given: Any, **more: Any) -> None:
        calls[0] += 1
        if calls[0] == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(*given, **more)

    monkeypatch.setattr("lion_sweep.search.postings.np.save", full)
    config = cell("paradigm=dense")
    with pytest.raises(OSError, match="No space left on device, as index wrote below"):
        preflight.introduce(Planner(SiteName.laptop), config)
    assert not list(tmp_path.glob("stages/index-*/done.json"))
    preflight.introduce(Planner(SiteName.laptop), config)
    assert list(tmp_path.glob("stages/index-*/done.json"))
