"""Damaged outputs are named, never used, made again to the same bits; clean leaves what is used."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stage_contents import contents, done

from lion_sweep import clean, reproduce, verify
from lion_sweep.cell.cell import Cell
from lion_sweep.cell.tasks import TASK, Task
from lion_sweep.errors import UserError
from lion_sweep.files import read_json, write_json
from lion_sweep.machine.seal import Damaged
from lion_sweep.result import RESULT, read_result
from lion_sweep.stages import engine

SmallCell = Callable[..., Cell]
WORDS = ["paradigm=sparse", "loss=clkd", "model=1b", "budget.flops=1e10", "alarms=none"]
SECONDS = (
    "seconds", "reused", "time", "train_seconds", "search_seconds", "encode_seconds",
    "history.jsonl", "root",
)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("made")


@pytest.fixture
def cell(small_cell: SmallCell, made: Path, tmp_path: Path) -> Cell:
    """A finished cell, in a folder of this test's."""
    if not (made / "outputs").exists():
        done(small_cell(*WORDS, f"paths.root={made / 'outputs'}"))
    root = tmp_path / "outputs"
    shutil.copytree(made / "outputs", root)
    return small_cell(*WORDS, f"paths.root={root}")


def root_of(cell: Cell) -> Path:
    return Path(cell.config.paths.root)


def damage(path: Path, drawn: random.Random) -> None:
    """A bit, or the end, of a file."""
    size = path.stat().st_size
    if drawn.random() < 0.3 or not size:
        path.write_bytes(path.read_bytes()[: size // 2] if size else b"?")
        return
    content, bit = bytearray(path.read_bytes()), drawn.randrange(8 * size)
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def without_seconds(value: Any) -> Any:
    """All that a result says but how long things took."""
    if isinstance(value, dict):
        return {k: without_seconds(v) for k, v in value.items() if k not in SECONDS}
    return value


def stages(root: Path) -> list[Path]:
    return sorted(path.parent for path in (root / "stages").glob(f"*/{engine.DONE}"))


def test_every_stage_that_is_damaged_is_named_and_made_again(
    cell: Cell, capsys: pytest.CaptureFixture[str]
) -> None:
    root, drawn = root_of(cell), random.Random(7)
    before, known = contents(cell), without_seconds(read_result(cell.result_path))
    assert verify.main([f"--root={root}"]) == 0
    assert "none damaged" in capsys.readouterr().out
    hit = []
    for folder in stages(root):
        files = [path for path in folder.rglob("*") if path.is_file()]
        hit.append((folder, drawn.choice(sorted(files))))
        damage(hit[-1][1], drawn)
    damage(cell.result_path, drawn)
    assert verify.main([f"--root={root}"]) == 1
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("damaged: ")]
    assert len(told) == len(hit) + 1
    for (folder, path), line in zip(hit, told, strict=False):
        assert str(path) in line or (path.name == engine.DONE and str(folder) in line)
    assert verify.main([f"--root={root}", "--remove"]) == 0
    assert stages(root) == [] and not cell.complete
    assert verify.main([f"--root={root}"]) == 0
    again = done(cell)
    assert without_seconds(read_result(again.result_path)) == known
    after = contents(again)
    assert after.keys() == before.keys()
    assert all(after[name].keys() == before[name].keys() for name in before)


@pytest.mark.parametrize("title", ["train", "negatives", "query tokens", "encode passages twin"])
def test_nothing_reads_a_stage_that_is_damaged(cell: Cell, title: str) -> None:
    (folder,) = {root_of(cell) / "stages" / cell.stages.roles[title].name}
    files = sorted(read_json(folder / engine.DONE)["files"])
    damage(folder / files[0], random.Random(1))
    for stage in stages(root_of(cell)):  # all that was made of it
        if title in {one.title for one in _read(cell, stage.name)}:
            shutil.rmtree(stage)
    cell.result_path.unlink()
    with pytest.raises(Damaged, match=f"{folder / files[0]}.*it is not used"):
        done(cell)
    assert not cell.complete


def _read(cell: Cell, name: str) -> list[Any]:
    return [one for s in cell.stages.roles.values() if s.name == name for one in s.inputs]


def test_a_damaged_result_is_no_result(cell: Cell) -> None:
    record = json.loads(cell.result_path.read_text())
    record["scores"]["twin"]["nDCG@10"] += 1e-9
    write_json(cell.result_path, record)
    with pytest.raises(UserError, match=r"result\.json does not say any more what it said"):
        cell.read_result()


def test_values_per_query_that_changed_are_named(
    cell: Cell, capsys: pytest.CaptureFixture[str]
) -> None:
    path = cell.folder / "per_query" / "twin.json"
    path.write_text(path.read_text().replace("0", "1", 1))
    assert verify.main([f"--root={root_of(cell)}", "--remove"]) == 0
    assert str(path) in capsys.readouterr().out and not cell.complete
    done(cell)
    assert verify.main([f"--root={root_of(cell)}"]) == 0


def test_a_cell_comes_out_again_of_its_result_alone(
    cell: Cell, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = tmp_path / "kept.json"
    shutil.copy(cell.result_path, alone)
    shutil.rmtree(root_of(cell))
    words = [str(alone), f"--root={tmp_path / 'again'}"]
    assert reproduce.main(words) == 0
    printed = capsys.readouterr().out
    assert "numbers: equal" in printed and "files: equal" in printed
    assert "environment: equal" in printed
    record = json.loads(alone.read_text())
    del record["seal"]
    record["scores"]["twin"]["nDCG@10"] += 1e-15
    record["environment"]["commit"] = "0123abc"
    alone.write_text(json.dumps(record))
    assert reproduce.main(words) == 1
    printed = capsys.readouterr().out
    assert "scores.twin.nDCG@10" in printed and "environment.commit  0123abc -> " in printed


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"data": {"path": "/nowhere"}}, "/nowhere"),
        ({"seed": 43}, "cannot be done again here: its .* would be "),
        ({"surprise": 1}, "was written by another version"),
    ],
)
def test_what_cannot_be_done_again_is_refused(
    cell: Cell, tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    record = json.loads(cell.result_path.read_text())
    del record["seal"]
    for key, value in change.items():
        own = record["config"].get(key)
        record["config"][key] = own | value if isinstance(own, dict) else value
    write_json(tmp_path / RESULT, record)
    with pytest.raises(UserError, match=says):
        reproduce.main([str(tmp_path), f"--root={tmp_path / 'again'}"])
    assert not (tmp_path / "again" / "cells").exists()


def test_clean_deletes_what_nothing_is_made_of(
    cell: Cell, small_cell: SmallCell, capsys: pytest.CaptureFixture[str]
) -> None:
    root = root_of(cell)
    used = {folder.name for folder in stages(root)}
    other = small_cell(*WORDS, f"paths.root={root}", "seed=43")
    Task.of(other).freeze()  # asked for, and not begun
    own, begun = other.stages.train.name, {folder.name for folder in stages(root)}
    for name in ("encode-0123456789ab", own):
        (root / "stages" / name).mkdir()
        (root / "stages" / name / "vectors").write_bytes(bytes(1000))
    for name in (f"{own}.1a.partial", "train-00000000000a.2b.partial"):
        (root / "stages" / name).mkdir()
    words = [f"--root={root}", "--hours=0"]
    assert clean.main([*words, "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "would go     0.000 GB  encode-0123456789ab" in printed
    assert "2 stages, 0.000 GB would be freed" in printed
    assert (root / "stages" / "encode-0123456789ab").is_dir()
    assert clean.main([f"--root={root}"]) == 0  # all of it is young
    assert "0 stages" in capsys.readouterr().out
    with engine.locked(root / "stages" / ".encode-0123456789ab.lock"):
        assert clean.main(words) == 0
    assert "1 are in use" in capsys.readouterr().out
    assert clean.main(words) == 0
    left = {path.name for path in (root / "stages").iterdir() if not path.name.startswith(".")}
    assert left == {*begun, own, f"{own}.1a.partial"}
    shutil.rmtree(other.folder)
    assert clean.main(words) == 0
    assert {folder.name for folder in stages(root)} == used
    assert done(cell).read_result()["stages"]["train"]["reused"]


def test_clean_deletes_nothing_where_it_cannot_tell(cell: Cell) -> None:
    root = root_of(cell)
    (root / "stages" / "encode-0123456789ab").mkdir()
    cell.result_path.unlink()
    record = read_json(cell.folder / TASK)
    del record["stages"]
    write_json(cell.folder / TASK, record)
    with pytest.raises(UserError, match="does not say what it is made of"):
        clean.main([f"--root={root}", "--hours=0"])
    with pytest.raises(UserError, match="has no stages"):
        clean.main([f"--root={root / 'cells'}"])
    assert (root / "stages" / "encode-0123456789ab").is_dir()
