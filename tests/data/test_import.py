"""Importing by blocks: the same bytes from one process or several, killed or not."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support import texts_in

from lion_sweep.data import places, texts
from lion_sweep.data.places import Folder
from lion_sweep.errors import UserError
from lion_sweep.machine import workers

LINES = 600
HEADER = "text\tid\n"  # the columns in an order that only the header tells


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """A file of some twenty blocks, with texts that repeat others across them."""
    monkeypatch.setattr(places, "BLOCK", 1024)
    rows = [f"passage {number % 500} \u96ea lions\td{number}\n" for number in range(LINES)]
    (tmp_path / "corpus.tsv").write_text(HEADER + "".join(rows), encoding="utf-8")
    return Folder(tmp_path)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_blocks_hold_what_the_file_holds(folder: Folder) -> None:
    blocks = list(map(list, folder.blocks("corpus.tsv")))
    assert len(blocks) > 10 and all(blocks)
    expected = [(f"d{n}", f"passage {n % 500} \u96ea lions") for n in range(LINES)]
    assert [pair for block in blocks for pair in block] == expected


def test_several_processes_write_what_one_does(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = []
    for cores in (1, 2):
        monkeypatch.setattr(workers, "cores", lambda cores=cores: cores)
        facts.append(texts.write(folder.blocks("corpus.tsv"), tmp_path / f"{cores}", "x"))
    assert facts[0] == facts[1]
    assert facts[0]["flaws"] == {"empty": 0, "repeated": 100, "mended": 0}
    assert content(tmp_path / "1") == content(tmp_path / "2")
    found = texts.read(tmp_path / "2", "", ())
    last, first = "passage 99 \u96ea lions", "passage 0 \u96ea lions"
    assert found.take([599, 0, 599]) == [last, first, last]


KILLED = """
import os, signal, sys
from pathlib import Path
from lion_sweep.data import places, texts
from lion_sweep.machine import workers

def kept(count):
    if count > 200:
        os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    places.BLOCK, workers.cores = 1024, lambda: 2
    texts.write(places.Folder(Path(sys.argv[1])).blocks("corpus.tsv"), Path(sys.argv[2]), "x", kept)
"""


def test_a_killed_import_goes_on_and_ends_in_the_same_bytes(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "killed.py").write_text(KILLED)
    words = [tmp_path / "killed.py", tmp_path, tmp_path / "again"]
    path = os.pathsep.join(sys.path)
    died = subprocess.run([sys.executable, *words], env={**os.environ, "PYTHONPATH": path})
    assert died.returncode == -signal.SIGKILL
    left = {path: path.stat().st_mtime_ns for path in (tmp_path / "again").glob("[0-9]*")}
    assert left
    (tmp_path / "again" / ".000009.arrow.123").write_bytes(b"half a block")
    again = texts.write(folder.blocks("corpus.tsv"), tmp_path / "again", "x")
    assert again == texts.write(folder.blocks("corpus.tsv"), tmp_path / "whole", "x")
    assert content(tmp_path / "again") == content(tmp_path / "whole")
    assert all(path.stat().st_mtime_ns == time for path, time in left.items())


def test_blocks_of_a_file_that_was_another_are_written_again(
    folder: Folder, tmp_path: Path
) -> None:
    texts.write(folder.blocks("corpus.tsv"), tmp_path / "x", "x")
    (tmp_path / "corpus.tsv").write_text(HEADER + "lions\td1\nwhales\td2\n")
    assert texts.write(folder.blocks("corpus.tsv"), tmp_path / "x", "x")["texts"] == 2
    assert texts.read(tmp_path / "x", "", ()).all() == ["lions", "whales"]


def test_an_id_that_another_block_has(folder: Folder, tmp_path: Path) -> None:
    with (tmp_path / "corpus.tsv").open("a") as file:
        file.write("lions\td9\n" + "whales\td7\n")
    with pytest.raises(UserError, match=r"^x repeats the id 'd9': ids must be unique\.$"):
        texts.write(folder.blocks("corpus.tsv"), tmp_path / "x", "x")


def test_errors_name_the_line_in_any_block(folder: Folder, tmp_path: Path) -> None:
    lines = (tmp_path / "corpus.tsv").read_text().splitlines(keepends=True)
    lines[300] = "three\tcolumns\there\n"
    (tmp_path / "corpus.tsv").write_text("".join(lines))
    with pytest.raises(UserError, match=r"corpus\.tsv:301 has 3 columns, and the header of the"):
        list(texts_in(folder, "corpus.tsv"))


def test_a_broken_end_is_told_before_the_rest_is_read(folder: Folder, tmp_path: Path) -> None:
    with (tmp_path / "corpus.tsv").open("a") as file:
        file.write("\n\nhalf a li\n\n")
    with pytest.raises(UserError, match=rf"corpus\.tsv:{LINES + 4} has 1 columns"):
        next(folder.blocks("corpus.tsv"))


@pytest.mark.parametrize("end", ["\td9\n", "lions\td9", "lions " * 1000 + "\td9\n\n"])
def test_ends_that_are_sound(folder: Folder, tmp_path: Path, end: str) -> None:
    """An empty text, no newline, a line that is longer than a block."""
    (tmp_path / "corpus.tsv").write_text(HEADER + "whales\td1\n" * 200 + end)
    *_, (identifier, text) = texts_in(folder, "corpus.tsv")
    assert (identifier, text) == ("d9", end.partition("\t")[0].strip())


def test_a_file_that_grows_while_it_is_read(folder: Folder, tmp_path: Path) -> None:
    blocks = folder.blocks("corpus.tsv")
    next(blocks)
    with (tmp_path / "corpus.tsv").open("a") as file:
        file.write("lions\td9999\n")
    with pytest.raises(UserError, match=r"corpus\.tsv has changed while it was read"):
        list(blocks)


def test_progress_ends_at_the_size_of_the_file(folder: Folder, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    list(folder.blocks("corpus.tsv", lambda done, total: told.append((done, total))))
    size = (tmp_path / "corpus.tsv").stat().st_size
    assert told == sorted(told) and told[-1] == (size, size) and len(told) > 10
