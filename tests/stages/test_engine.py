"""Stages: done once, reused, continued after a failure, shared between processes."""

import errno
import json
import multiprocessing
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from commands import FORKS, serve

from lion_sweep.errors import Busy, Superseded, UserError
from lion_sweep.files import key_of, write_json
from lion_sweep.machine.seal import Damaged, Seals
from lion_sweep.stages import engine as stage
from lion_sweep.stages.engine import Done

SPECIFICATION = {"steps": 3, "of": ["a", "b"]}


def run(root: Path, kind: str, specification: Any, work: Any, *team: Any, **how: Any) -> Done:
    """The stage of a specification, below `root`."""
    return stage.run(stage.folder_of(root, kind, specification), specification, work, *team, **how)


def find(root: Path, specification: Any) -> Done | None:
    """The stage that all tests do, where it is finished."""
    return stage.find(stage.folder_of(root, "train", specification))


def remove(root: Path, specification: Any) -> None:
    """Delete it."""
    stage.remove(stage.folder_of(root, "train", specification))


class Work:
    """Writes a file and counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, folder: Path) -> dict[str, Any]:
        self.calls += 1
        (folder / "result.txt").write_text(f"call {self.calls}")
        return {"lines": 1}


def test_work_is_done_once_and_reused(tmp_path: Path) -> None:
    work = Work()
    assert find(tmp_path, SPECIFICATION) is None
    first = run(tmp_path, "train", SPECIFICATION, work)
    again = run(tmp_path, "train", SPECIFICATION, work)
    assert work.calls == 1
    assert (first.reused, again.reused) == (False, True)
    assert (first.folder, first.facts) == (again.folder, again.facts)
    assert first.facts == {"lines": 1}
    assert (first.folder / "result.txt").read_text() == "call 1"
    assert first.seconds == again.seconds
    assert find(tmp_path, SPECIFICATION) == again
    done = json.loads((first.folder / stage.DONE).read_text())
    assert done["specification"] == SPECIFICATION
    assert not list(tmp_path.rglob("*.partial"))


def test_the_key_depends_on_the_specification_alone(tmp_path: Path) -> None:
    key = key_of(SPECIFICATION)
    assert key == key_of({"of": ["a", "b"], "steps": 3})
    assert len(key) == 12
    int(key, 16)
    changed = [
        {"steps": 4, "of": ["a", "b"]},
        {"steps": 3, "of": ["b", "a"]},
        {"steps": 3, "of": ["a", "b"], "more": None},
        {"steps": "3", "of": ["a", "b"]},
    ]
    assert len({key, *map(key_of, changed)}) == 5
    one = run(tmp_path / "one", "train", SPECIFICATION, Work())
    other = run(tmp_path / "other", "train", SPECIFICATION, Work())
    assert one.folder.name == other.folder.name == f"train-{key}"


def test_other_names_and_specifications_are_other_work(tmp_path: Path) -> None:
    work = Work()
    for name, specification in (("a", {"x": 1}), ("b", {"x": 1}), ("a", {"x": 2})):
        assert not run(tmp_path, name, specification, work).reused
    assert work.calls == 3


def test_a_failure_leaves_its_work_to_go_on_from(tmp_path: Path) -> None:
    def fail(folder: Path) -> dict[str, Any]:
        (folder / "checkpoint").write_text("half")
        raise RuntimeError("killed")

    def finish(folder: Path) -> dict[str, Any]:
        return {"found": (folder / "checkpoint").read_text()}

    with pytest.raises(RuntimeError, match="killed"):
        run(tmp_path, "train", SPECIFICATION, fail)
    assert find(tmp_path, SPECIFICATION) is None
    (partial,) = tmp_path.rglob("*.partial")
    assert (partial / "checkpoint").read_text() == "half"
    finished = run(tmp_path, "train", SPECIFICATION, finish)
    assert finished.facts == {"found": "half"}
    assert not finished.reused
    assert not partial.exists()


def test_what_a_kill_at_the_end_leaves_is_no_part_of_the_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*told: Path) -> None:
        raise RuntimeError("killed")

    work = Work()
    with monkeypatch.context() as patched:
        patched.setattr(stage, "_named", killed)
        with pytest.raises(RuntimeError, match="killed"):
            run(tmp_path, "train", SPECIFICATION, work)
    (partial,) = tmp_path.rglob("*.partial")
    assert (partial / stage.DONE).is_file()
    for name in (f".{stage.DONE}.4711", "parts/.000001.npy.4711", "parts/000001.npy"):
        (partial / name).parent.mkdir(exist_ok=True)
        (partial / name).write_text("x")
    finished = run(tmp_path, "train", SPECIFICATION, work)
    assert sorted(finished.files or ()) == ["parts/000001.npy", "result.txt"]
    assert {path.name for path in finished.folder.rglob("*") if path.is_file()} == {
        "000001.npy", "result.txt", stage.DONE,
    }  # fmt: skip
    Seals(tmp_path / "digests").check(finished.folder, finished.files)


def test_two_processes_do_the_work_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(2), context.Queue()

    def work(folder: Path) -> dict[str, Any]:
        with (tmp_path / "log").open("a") as log:
            log.write("work\n")
        time.sleep(0.3)
        return {"value": 7}

    def process() -> None:
        barrier.wait(20)
        done = run(tmp_path, "train", SPECIFICATION, work)
        results.put((done.facts, done.reused))

    processes = [context.Process(target=process) for _ in range(2)]
    for each in processes:
        each.start()
    found = [results.get(timeout=20) for _ in processes]
    for each in processes:
        each.join(20)
    assert (tmp_path / "log").read_text() == "work\n"
    assert sorted(reused for _, reused in found) == [False, True]
    assert [facts for facts, _ in found] == [{"value": 7}] * 2


def test_write_json_replaces_a_whole_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "result.json"
    write_json(path, {"old": 1})
    replace, seen = Path.replace, []

    def spy(self: Path, target: Path) -> Path:
        seen.append((json.loads(path.read_text()), json.loads(self.read_text())))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", spy)
    write_json(path, {"new": 2})
    assert seen == [({"old": 1}, {"new": 2})]
    assert json.loads(path.read_text()) == {"new": 2}
    with pytest.raises(TypeError):
        write_json(path, {"impossible": object()})
    assert json.loads(path.read_text()) == {"new": 2}
    assert [file.name for file in tmp_path.iterdir()] == ["result.json"]


def hold(root: Path, started: Any, go_on: Any, ended: Any) -> None:
    """An old process: enters the stage, waits, then writes as if nothing had happened."""

    def work(folder: Path) -> dict[str, Any]:
        (folder / "checkpoint.txt").write_text("old")
        started.set()
        go_on.wait(20)
        write_json(folder / "late.json", "written by the old process")
        return {"by": "old"}

    try:
        run(root, "train", SPECIFICATION, work, owner="cell")
    except Superseded:
        ended.set()


def test_a_process_given_up_for_dead_can_neither_write_nor_finish(tmp_path: Path) -> None:
    serve()
    started, go_on, ended = FORKS.Event(), FORKS.Event(), FORKS.Event()
    old = FORKS.Process(target=hold, args=(tmp_path, started, go_on, ended))
    old.start()
    assert started.wait(60)
    stage.fence_off(tmp_path, "another cell")  # not its locks
    stage.fence_off(tmp_path, "cell")

    def work(folder: Path) -> dict[str, Any]:
        assert (folder / "checkpoint.txt").read_text() == "old"  # what it kept is not lost
        go_on.set()
        old.join(20)
        assert not (folder / "late.json").exists()
        return {"by": "new"}

    assert run(tmp_path, "train", SPECIFICATION, work, owner="cell").facts == {"by": "new"}
    assert ended.is_set()
    assert old.exitcode == 0
    found = find(tmp_path, SPECIFICATION)
    assert found is not None and found.facts == {"by": "new"}
    assert not list(tmp_path.rglob("*.partial"))


def test_locks_of_others_and_of_the_dead_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "stages").mkdir()
    lock = tmp_path / "stages" / ".train-1.lock"
    with stage.locked(lock, "cell"):
        pass
    stage.fence_off(tmp_path, "cell")  # its owner is gone: nothing to take away
    assert lock.is_file()
    with stage.locked(lock, "other"):
        stage.fence_off(tmp_path, "cell")
        assert lock.is_file()


class Listener:
    """A rank that does not lead: hears what the leader has said."""

    leads = False

    def __init__(self, said: list[Any]) -> None:
        self.said = said

    def tell(self, value: Any) -> Any:
        return self.said.pop(0)


class Leader:
    """A rank that leads: keeps what it says."""

    leads = True

    def __init__(self) -> None:
        self.said: list[Any] = []

    def tell(self, value: Any) -> Any:
        self.said.append(value)
        return value


@pytest.mark.parametrize("together", [True, False])
def test_ranks_share_a_stage(tmp_path: Path, together: bool) -> None:
    leader, work, other = Leader(), Work(), Work()
    led = run(tmp_path, "train", SPECIFICATION, work, team=leader, together=together)
    claimed, said = leader.said
    claimed.mkdir()  # the leader is done with it; the listener only wants a place
    heard = run(
        tmp_path,
        "train",
        SPECIFICATION,
        other,
        team=Listener([claimed, said]),
        together=together,
    )
    assert heard == led
    assert (work.calls, other.calls) == (1, int(together))
    again = Leader()
    reused = run(tmp_path, "train", SPECIFICATION, work, team=again, together=together)
    assert again.said == [reused]
    assert run(tmp_path, "train", SPECIFICATION, other, team=Listener([reused])) == reused


def lock_of(root: Path) -> Path:
    """The lock of the stage that all tests do."""
    (root / "stages").mkdir(exist_ok=True)
    return root / "stages" / f".{stage.folder_of(root, 'train', SPECIFICATION).name}.lock"


def test_who_does_not_wait_hears_that_somebody_is_at_it(tmp_path: Path) -> None:
    leader, work = Leader(), Work()
    with stage.locked(lock_of(tmp_path), "another"), pytest.raises(Busy):
        run(tmp_path, "train", SPECIFICATION, work, team=leader, wait=False)
    (said,) = leader.said
    with pytest.raises(Busy):  # and so do the other ranks
        run(
            tmp_path,
            "train",
            SPECIFICATION,
            work,
            team=Listener([said]),
            wait=False,
        )
    assert work.calls == 0
    assert lock_of(tmp_path).read_text() == "another"
    run(tmp_path, "train", SPECIFICATION, work, wait=False)
    with stage.locked(lock_of(tmp_path), "another"):  # what is finished needs no lock
        assert run(tmp_path, "train", SPECIFICATION, work, wait=False).reused


def test_a_removed_stage_leaves_nothing_and_one_in_work_is_left_alone(tmp_path: Path) -> None:
    def fail(folder: Path) -> dict[str, Any]:
        (folder / "checkpoint").touch()
        remove(tmp_path, SPECIFICATION)  # somebody is at it
        assert (folder / "checkpoint").exists()
        raise RuntimeError("killed")

    remove(tmp_path, SPECIFICATION)  # never begun
    with pytest.raises(RuntimeError, match="killed"):
        run(tmp_path, "train", SPECIFICATION, fail)
    remove(tmp_path, SPECIFICATION)
    assert list((tmp_path / "stages").iterdir()) == []
    run(tmp_path, "train", SPECIFICATION, Work())
    other = run(tmp_path, "train", {"steps": 4}, Work())
    remove(tmp_path, SPECIFICATION)
    assert {path.name for path in (tmp_path / "stages").iterdir()} == {
        other.folder.name,
        f".{other.folder.name}.lock",
    }


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refused(handle: Any, how: int) -> None:
        raise OSError(number, "No locks available")

    monkeypatch.setattr(stage.fcntl, "flock", refused)
    with pytest.raises(UserError, match=rf"{tmp_path}/stages is on a file system without locks"):
        run(tmp_path, "train", SPECIFICATION, Work())


def test_the_folder_of_another_user_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path, *how: Any, **more: Any) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refused)
    monkeypatch.setattr(Path, "owner", lambda path: "somebody")
    with pytest.raises(UserError, match=r"stages is somebody's, and you may not write there"):
        run(tmp_path, "train", SPECIFICATION, Work())


def test_who_comes_second_takes_what_is_finished(tmp_path: Path) -> None:
    """As on a file system that shows late what others did."""
    folder = stage.folder_of(tmp_path, "train", SPECIFICATION)

    def meanwhile(partial: Path) -> dict[str, Any]:
        other = tmp_path / "other"
        done = run(other, "train", SPECIFICATION, Work())
        shutil.copytree(done.folder, folder)
        return {"lines": 2}

    done = run(tmp_path, "train", SPECIFICATION, meanwhile)
    assert (done.facts, done.reused) == ({"lines": 1}, True)
    assert not list(tmp_path.rglob("stages/*.partial"))


def test_a_folder_of_its_name_that_is_not_finished_is_in_nobodys_way(tmp_path: Path) -> None:
    done = run(tmp_path, "train", SPECIFICATION, Work())
    (done.folder / stage.DONE).unlink()
    again = run(tmp_path, "train", SPECIFICATION, Work())
    assert not again.reused and find(tmp_path, SPECIFICATION) is not None


@pytest.mark.parametrize("change", [{"facts": {"lines": 2}}, {"seconds": 0.5}, {"seal": "0" * 12}])
def test_what_a_stage_says_of_itself_cannot_change(tmp_path: Path, change: dict[str, Any]) -> None:
    done = run(tmp_path, "train", SPECIFICATION, Work())
    assert list(done.files or {}) == ["result.txt"]
    told = json.loads((done.folder / stage.DONE).read_text())
    write_json(done.folder / stage.DONE, told | change)
    with pytest.raises(Damaged, match="it does not say any more what it said"):
        find(tmp_path, SPECIFICATION)
    old = {key: value for key, value in told.items() if key not in ("files", "seal")}
    write_json(done.folder / stage.DONE, old)  # of a version that kept none
    found = find(tmp_path, SPECIFICATION)
    assert found and found.files is None
