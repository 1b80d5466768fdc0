"""What one machine is given to do, when, and on which of its GPUs; nothing is started here."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from launch import launcher_for, local, slurm, status
from launch.places import Gpus, Places
from launch.status import Submission
from lion_sweep.cell.cell import Cell
from lion_sweep.cell.tasks import ADAPT, CELL, Attempt, Task, tasks_of
from lion_sweep.config import Config, changed
from lion_sweep.config.site import SiteName
from lion_sweep.errors import UserError
from lion_sweep.files import write_json
from lion_sweep.machine import site
from lion_sweep.machine.site import gpus, settle
from lion_sweep.stages import engine
from lion_sweep.stages.validation import check_machine

Compose = Callable[..., Config]


def finish(task: Task) -> None:
    """As if it were done."""
    if task.kind == CELL:
        write_json(task.folder / "result.json", {})
    else:
        folder = task.root / "stages" / task.name
        folder.mkdir(parents=True)
        (folder / engine.DONE).touch()


class Machine:
    """In place of processes: jobs that live for so many looks at them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, there: Gpus = ()) -> None:
        self.started: list[tuple[str, int, Gpus]] = []
        self.living: dict[str, tuple[Task, Gpus]] = {}
        self.looks: list[tuple[int, int, int]] = []  # jobs started, living, and GPUs in use
        self.failing, self.left = "", dict[str, int]()
        monkeypatch.setattr(site, "gpus", lambda: list(there))
        monkeypatch.setattr(local, "_start", self.start)
        monkeypatch.setattr(local, "_process", self.process)
        monkeypatch.setattr(local.time, "sleep", self.look)

    def start(self, task: Task, devices: int, given: Gpus, places: Places) -> Submission:
        assert all(Task("shared", need, task.config).complete for need in task.needs)
        assert not {*self.used} & {*given} and len(given) in (0, devices)
        job = str(len(self.started))
        self.started.append((task.label, devices, given))
        self.living[job] = task, given
        self.left[job] = 2 + len(self.started) % 3  # some take longer than others
        record = Submission("token", local.NAME, job, 0.0, {"devices": devices, "gpus": given})
        record.write(task.folder)
        return record

    @property
    def used(self) -> list[str]:
        return [gpu for _, own in self.living.values() for gpu in own]

    def look(self, _: float) -> None:
        self.looks.append((len(self.started), len(self.living), len(self.used)))

    def process(self, job: str) -> bool:
        if job in self.living:
            self.left[job] -= 1
            if not self.left[job]:
                task, _ = self.living.pop(job)
                if task.label == self.failing:
                    Attempt.begin(task.folder, job, 9).end(ValueError("no such thing"))
                else:
                    finish(task)
        return job in self.living


@pytest.mark.parametrize(("parallel", "most"), [(1, 1), (2, 2), (9, 4)])
@pytest.mark.parametrize("failing", ["", "train 1b-dense-kd"])
def test_tasks_start_in_order(
    small_cell: Callable[..., Cell],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    parallel: int,
    most: int,
    failing: str,
) -> None:
    """As many at once as are allowed, none before what it needs, none whose need has failed."""
    words = ["site.encode_jobs=2", "paradigm=dense", f"paths.root={tmp_path}"]
    words += [f"site.parallel={parallel}"]
    tasks = tasks_of([small_cell(*words, f"loss={loss}") for loss in ("cl", "kd")])
    machine = Machine(monkeypatch)
    machine.failing = failing
    code = local.launch(tasks)
    labels = [task.label for task in tasks]
    lost = [label for label in labels if failing and label.endswith(("kd", "kd 1/2", "kd 2/2"))]
    expected = sorted(set(labels) - set(lost) | ({failing} if failing else set()))
    assert sorted(label for label, *_ in machine.started) == expected
    assert code == (status.SOME_FAILED if failing else status.ALL_FINISHED)
    largest = max(living for _, living, _ in machine.looks)
    assert largest <= most
    if parallel == 2:
        assert largest == 2


def cells(compose: Compose, root: Path, count: int, *words: str) -> list[Task]:
    """Tasks of cells that are there by name alone."""
    config = compose(*words, f"paths.root={root}")
    return [Task(CELL, f"cell-{number}", config) for number in range(count)]


def test_eighteen_cells_keep_all_gpus_busy(
    compose_cell: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = ("GPU-a", "GPU-b", "GPU-c", "GPU-d")
    machine = Machine(monkeypatch, there)
    words = ("site.devices=2", "++site.stages.adapt={devices:1}")
    tasks = cells(compose_cell, tmp_path, 18, *words)
    tasks[0] = replace(tasks[0], kind=ADAPT)
    tasks[1:4] = [replace(task, needs=(tasks[0].name,)) for task in tasks[1:4]]
    assert local.launch(tasks) == 0
    assert machine.started[0] == ("adapt 1b", 1, there[:1])
    # Beside it one GPU is left over; then all are in use as long as there is something to start.
    assert machine.looks[0] == (2, 2, 3)
    assert {used for started, _, used in machine.looks if 2 < started < 18} == {4}
    assert {devices for _, devices, _ in machine.started[1:]} == {2}
    assert len(machine.started) == 18


def test_a_task_that_needs_more_than_there_is_is_refused_before_any_starts(
    compose_cell: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(monkeypatch, ("0", "1"))
    tasks = cells(compose_cell, tmp_path, 2, "++site.stages.adapt={devices:3}", "site.devices=1")
    large = replace(tasks[1], kind=ADAPT)
    said = r"adapt 1b needs 3 GPUs, and 2 are there: lower .* site\.stages\.adapt\.devices"
    with pytest.raises(UserError, match=said):
        local.launch([tasks[0], large])
    assert not machine.started and not list(tmp_path.glob("cells/*"))


def test_jobs_that_a_killed_launcher_has_left(
    compose_cell: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They keep their GPUs; one of this command's own is waited for, not started twice."""
    machine = Machine(monkeypatch, ("0", "1"))
    own, other, dies = cells(compose_cell, tmp_path, 3, "site.devices=1")
    for job, task, gpu in (("90", own, "1"), ("91", other, "0"), ("92", dies, "0")):
        task.freeze()
        Submission("token", local.NAME, job, 0.0, {"devices": 1, "gpus": [gpu]}).write(task.folder)
    machine.living |= {"90": (own, ("1",)), "91": (other, ("0",))}
    machine.left |= {"90": 5, "91": 99}
    assert local.launch([own, dies]) == 0  # `dies` has no process any more
    assert machine.started == [(dies.label, 1, ("1",))]
    assert list(machine.living) == ["91"]  # nobody waits for another command's


@pytest.mark.parametrize(
    ("told", "count", "names"),
    [
        (None, 3, ["0", "1", "2"]),
        ("", 0, []),
        ("-1", 0, []),
        ("3,1", 2, ["3", "1"]),
        ("3, 1,7", 2, ["3", "1"]),  # there is no eighth
        ("GPU-5a,GPU-17", 2, ["GPU-5a", "GPU-17"]),
        ("MIG-x,MIG-y", 1, ["MIG-x", "MIG-y"]),  # of which a process sees the first
        ("MIG-x", 0, []),
    ],
)
def test_gpus_that_may_be_used(
    monkeypatch: pytest.MonkeyPatch, told: str | None, count: int, names: list[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if told is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", told)
    assert gpus() == names


@pytest.mark.parametrize(
    ("where", "there", "cells", "words", "is_local"),
    [
        ("laptop", 0, 18, [], False),
        ("laptop", 0, 1, ["site.devices=2"], True),
        ("laptop", 0, 1, ["++site.stages.adapt={devices:2}"], True),
        ("laptop", 0, 2, ["site.parallel=2"], True),
        ("laptop", 4, 18, [], False),
        ("gpu", 1, 18, [], False),
        ("gpu", 4, 1, [], False),
        ("gpu", 4, 1, ["site.encode_jobs=2"], True),
        ("gpu", 4, 18, [], True),
        ("gpu", 4, 18, ["site.parallel=1"], False),
        ("gpu", 4, 1, ["site.devices=4", "site.parallel=1"], True),
    ],
)
def test_who_runs_the_cells(
    compose_cell: Compose,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    there: int,
    cells: int,
    words: list[str],
    is_local: bool,
) -> None:
    monkeypatch.setattr(site, "gpus", lambda: [str(number) for number in range(there)])
    found = launcher_for([compose_cell(*words)] * cells, SiteName[where])
    assert found is (local.launch if is_local else None)
    assert found is not slurm.launch


@pytest.mark.parametrize(
    ("chosen", "there", "model", "words", "devices"),
    [
        ("gpu", 8, "8b", [], 8),
        ("gpu", 6, "8b", [], 4),  # a batch that eight share evenly, four do
        ("gpu", 1, "8b", [], 1),
        ("gpu", 8, "3b", [], 4),
        ("gpu", 8, "3b", ["site.devices=3"], 3),
        ("gpu", 8, "8b", ["ladder=proxy"], 1),
        ("laptop", 8, "8b", [], 1),
        ("slurm", 0, "8b", [], 8),
    ],
)
def test_devices_of_a_cell_that_names_none(
    compose_cell: Compose,
    monkeypatch: pytest.MonkeyPatch,
    chosen: str,
    there: int,
    model: str,
    words: list[str],
    devices: int,
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: there)
    config = compose_cell("ladder=full", f"model={model}", "recipe.precision=bf16", *words)
    assert settle(config, SiteName[chosen]).site.devices == devices


def test_more_gpus_than_there_are_are_refused(
    compose_cell: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    config = compose_cell("site.devices=2", "ladder=proxy")
    check_machine(config, SiteName.gpu)
    with pytest.raises(UserError, match=r"site\.devices=3, but torch finds 2 GPUs here: set"):
        check_machine(changed(config, {"site.devices": 3}), SiteName.gpu)
