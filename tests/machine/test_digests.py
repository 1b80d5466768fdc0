"""Digests of files: remembered as long as nobody touched the file, and no longer."""

import json
import os
from pathlib import Path

import pytest

from lion_sweep.machine import digests
from lion_sweep.machine.digests import Digests


def test_a_file_is_read_once_until_somebody_writes_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, notes = tmp_path / "weights", tmp_path / "digests"
    path.write_bytes(b"one")
    assert Digests(notes).of_file(path) == Digests(notes).of_file(path)
    assert not notes.exists()  # it could change once more at the same time
    monkeypatch.setattr(digests, "SETTLED_SECONDS", -1.0)
    first = Digests(notes).of_file(path)
    assert first == "7692c3ad3540bb80"  # sha256 of b"one"
    read: list[Path] = []
    plain = Path.open
    monkeypatch.setattr(
        Path, "open", lambda self, *how, **more: (read.append(self), plain(self, *how, **more))[1]
    )
    known = Digests(notes)
    assert (known.of_file(path), known.of_file(path)) == (first, first)
    assert path not in read
    stat = path.stat()
    path.write_bytes(b"two")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert known.of_file(path) != first and path in read


def test_a_note_that_is_damaged_costs_reading_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "SETTLED_SECONDS", -1.0)
    path, notes = tmp_path / "weights", tmp_path / "digests"
    path.write_bytes(b"one")
    first = Digests(notes).of_file(path)
    (note,) = notes.iterdir()
    kept = note.read_bytes()
    flipped = [
        kept[:place] + bytes([kept[place] ^ 1 << bit]) + kept[place + 1 :]
        for place in range(len(kept))
        for bit in range(8)
    ]
    unsealed = json.dumps({key: json.loads(kept)[key] for key in ("path", "state", "digest")})
    changed = unsealed.replace(first, first[::-1]).encode()
    for broken in (b"", b"{", b'{"path": 1}', b"[]", changed, *flipped):
        note.write_bytes(broken)
        assert Digests(notes).of_file(path) == first


def test_a_folder_is_known_by_the_files_that_match_and_their_places(tmp_path: Path) -> None:
    known = Digests(tmp_path / "digests")
    for name in ("one", "same", "moved"):
        (tmp_path / name).mkdir()
        (tmp_path / name / ("b.bin" if name == "moved" else "a.bin")).write_bytes(b"x")
        (tmp_path / name / "notes.txt").write_text(name)
    found = [known.of_folder(tmp_path / name, ["*.bin"]) for name in ("one", "same", "moved")]
    assert found[0] == found[1] != found[2]
    assert known.of_folder(tmp_path / "one", ["*.none"]) == ""
