"""What is finished is known by what it holds: damage is seen, and nothing else is taken for it."""

import os
import random
from pathlib import Path
from typing import Any

import pytest

from lion_sweep.config.site import Verify
from lion_sweep.files import intact, read_json, sealed, write_json
from lion_sweep.machine import seal
from lion_sweep.machine.seal import Damaged, Seals, files_of, mark, marked, unmark

Reads = list[str]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    """Names of the files whose content is read, as they are."""
    found: Reads = []
    true = seal.digest_of

    def counted(path: Path) -> str:
        found.append(path.name)
        return true(path)

    monkeypatch.setattr(seal, "digest_of", counted)
    return found


@pytest.fixture
def stage(tmp_path: Path) -> Path:
    folder = tmp_path / "stages" / "train-1"
    (folder / "weights").mkdir(parents=True)
    (folder / "run.txt").write_text("one two three")
    (folder / "weights" / "model.bin").write_bytes(bytes(range(256)) * 20)
    return folder


def flip(path: Path, bit: int) -> None:
    """Another bit of a file; its size, and its times as `touch` sets them, stay."""
    stat, content = path.stat(), bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_content_is_read_once_after_it_may_have_changed(stage: Path, reads: Reads) -> None:
    files, seals = files_of(stage), Seals(stage.parents[1] / "digests")
    assert files["weights/model.bin"][0] == 5120 and files.keys() == {
        "run.txt",
        "weights/model.bin",
    }
    seals.remember(stage, files)
    reads.clear()
    seals.check(stage, files)
    assert reads == []
    (stage / "run.txt").write_text("one two three")
    for _ in range(2):
        seals.check(stage, files)
    assert reads == ["run.txt"]
    Seals(seals.notes, Verify.always).check(stage, files)
    assert reads == ["run.txt", "run.txt", "model.bin"]


def test_a_copy_without_notes_is_read_and_then_known(
    stage: Path, tmp_path: Path, reads: Reads
) -> None:
    files, notes = files_of(stage), tmp_path / "elsewhere"
    reads.clear()
    for _ in range(2):
        Seals(notes).check(stage, files)
    assert sorted(reads) == ["model.bin", "run.txt"]
    (notes / "train-1.json").write_text("[]")  # a note that says nothing
    Seals(notes).check(stage, files)
    assert len(reads) == 4


@pytest.mark.parametrize("seed", range(40))
def test_any_damage_is_seen(stage: Path, seed: int) -> None:
    files, seals = files_of(stage), Seals(stage.parents[1] / "digests")
    seals.remember(stage, files)
    drawn = random.Random(seed)
    path = stage / drawn.choice(sorted(files))
    match drawn.choice(["flip", "cut", "longer", "gone"]):
        case "flip":
            flip(path, drawn.randrange(8 * path.stat().st_size))
        case "cut":
            os.truncate(path, drawn.randrange(path.stat().st_size))
        case "longer":
            with path.open("ab") as file:
                file.write(b"\0")
        case _:
            path.unlink()
    with pytest.raises(Damaged, match=rf"{path}.*lion_sweep\.verify --remove"):
        seals.check(stage, files)
    Seals(seals.notes, Verify.never).check(stage, files)


def test_a_folder_that_is_only_read_is_looked_at_each_time(
    stage: Path, reads: Reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, value: Any) -> None:
        raise OSError(30, "Read-only file system")

    files, seals = files_of(stage), Seals(stage.parents[1] / "digests")
    monkeypatch.setattr(seal, "write_json", full)
    reads.clear()
    for _ in range(2):
        seals.check(stage, files)
    assert len(reads) == 4


def test_a_record_says_what_it_said(tmp_path: Path) -> None:
    record = {"score": 0.1 + 0.2, "of": (1, 2), "not": float("nan"), "by": {10: "a", 9: "b"}}
    write_json(tmp_path / "a.json", sealed(record))
    read = read_json(tmp_path / "a.json")
    assert intact(read) and intact({"score": 1})
    for change in ({"score": 0.3}, {"of": [1]}, {"more": None}, {"seal": "0" * 12}):
        assert not intact(read | change)


def test_a_piece_is_whole_where_it_was_marked_and_has_not_changed(tmp_path: Path) -> None:
    file, folder = tmp_path / "000001.npy", tmp_path / "000002"
    file.write_bytes(b"abc")
    folder.mkdir()
    (folder / "part").write_bytes(b"def")
    for path, inner in ((file, file), (folder, folder / "part")):
        assert not marked(path)
        mark(path)
        assert marked(path)
        flip(inner, 9)
        assert not marked(path)
        flip(inner, 9)
        assert marked(path)
        unmark(path)
        assert not marked(path)
