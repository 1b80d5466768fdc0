"""Where collections are read from: every layout alike, and file and line of what is malformed."""

import errno
import gzip
import json
import os
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support import texts_in

from lion_sweep.data import places
from lion_sweep.data.places import place
from lion_sweep.errors import UserError
from lion_sweep.machine.digests import Digests

TEXTS = [("d1", "Title with text"), ("7", "zwei \u96ea"), ("empty", "")]
JUDGED = [("q1", "d1", 2), ("q1", "7", 0), ("q2", "7", 1)]


def beir(folder: Path) -> Path:
    """A BEIR folder of these texts and judgements."""
    (folder / "qrels").mkdir(parents=True)
    rows = [
        {"_id": "d1", "title": "Title", "text": "with text"},
        {"_id": 7, "text": "zwei \u96ea"},
        {"_id": "empty", "title": None, "text": None},
    ]
    lines = "\n\n".join(json.dumps(row) for row in rows)
    (folder / "corpus.jsonl").write_text(lines + "\n", encoding="utf-8")
    table = "".join(f"{query}\t{document}\t{grade}\n" for query, document, grade in JUDGED)
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + table)
    return folder


def read(path: Path, corpus: str, qrels: str) -> tuple[list[Any], list[Any]]:
    """(texts, judgements) of a place."""
    found = place(str(path))
    return list(texts_in(found, corpus)), list(found.judgements(qrels, "test"))


def refusal(path: Path) -> str:
    """What is said of a corpus that cannot be read."""
    with pytest.raises(UserError) as caught:
        list(texts_in(place(str(path)), "corpus.jsonl"))
    return str(caught.value)


def test_a_folder_and_its_archive_hold_the_same(tmp_path: Path) -> None:
    folder = beir(tmp_path / "mine")
    expected = (TEXTS, JUDGED)
    assert read(folder, "corpus.jsonl", "qrels/test.tsv") == expected
    archive = tmp_path / "mine.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for path in folder.rglob("*.*"):
            packed.write(path, path.relative_to(tmp_path))
    assert read(archive, "corpus.jsonl", "qrels/test.tsv") == expected


def test_packed_files_are_found_by_their_plain_names(tmp_path: Path) -> None:
    folder = beir(tmp_path)
    plain = folder / "corpus.jsonl"
    with gzip.open(folder / "corpus.jsonl.gz", "wb") as packed:
        packed.write(plain.read_bytes())
    plain.unlink()
    assert list(texts_in(place(str(folder)), "corpus.jsonl")) == TEXTS
    whole = (folder / "corpus.jsonl.gz").read_bytes()
    (folder / "corpus.jsonl.gz").write_bytes(whole[:-9])
    assert refusal(folder) == (
        f"{plain}.gz is damaged (Compressed file ended before the end-of-stream marker was reached)"
        ": fetch it again."
    )
    broken = bytearray(whole)
    broken[40:60] = bytes(20)
    (folder / "corpus.jsonl.gz").write_bytes(broken)
    assert refusal(folder).startswith(f"{plain}.gz is damaged (")
    (folder / "corpus.jsonl.gz").write_bytes(b"{}")
    assert refusal(folder) == (
        f"{plain}.gz is damaged (Not a gzipped file (b'{{}}')): fetch it again."
    )


def test_a_file_that_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = beir(tmp_path) / "corpus.jsonl"

    def closed(path: Path, *_: Any, **__: Any) -> Any:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", closed)
        assert refusal(tmp_path) == f"{plain} cannot be read: Permission denied."
        with pytest.raises(UserError) as caught:
            place(str(tmp_path)).identity("corpus.jsonl", Digests(tmp_path / "digests"))
        assert str(caught.value) == f"{plain} cannot be read: Permission denied."
    plain.unlink()
    plain.mkdir()
    assert refusal(tmp_path) == f"{plain} is a folder, not a file: {places.LAYOUT}."


def packed(folder: Path, archive: Path, named: Callable[[Path], str]) -> Path:
    """The files of a folder in an archive, by these names."""
    with zipfile.ZipFile(archive, "w") as writer:
        for path in sorted(folder.rglob("*.*")):
            writer.writestr(named(path.relative_to(folder)), path.read_bytes())
    return archive


def test_an_archive_of_windows_and_one_of_packed_files(tmp_path: Path) -> None:
    folder = beir(tmp_path / "mine")
    windows = packed(folder, tmp_path / "w.zip", lambda path: f"mine\\{path}".replace("/", "\\"))
    assert read(windows, "corpus.jsonl", "qrels/test.tsv") == (TEXTS, JUDGED)
    plain = folder / "corpus.jsonl"
    (folder / "corpus.jsonl.gz").write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()
    inner = packed(folder, tmp_path / "gz.zip", str)
    assert read(inner, "corpus.jsonl", "qrels/test.tsv") == (TEXTS, JUDGED)


def test_a_file_is_found_in_another_form(tmp_path: Path) -> None:
    """One of a repository's splits is .tsv, another one .jsonl; a file of the name comes first."""
    folder = beir(tmp_path)
    table = folder / "qrels" / "test.tsv"
    rows = [{"query-id": q, "corpus-id": d, "score": grade} for q, d, grade in JUDGED]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "qrels" / "test.jsonl").write_text(lines)
    table.write_text("q1\td1\t1\n")
    assert read(folder, "corpus.tsv", "qrels/test.tsv") == (TEXTS, [("q1", "d1", 1)])
    table.unlink()
    assert read(folder, "corpus.tsv.gz", "qrels/test.tsv") == (TEXTS, JUDGED)
    (folder / "qrels" / "test.jsonl").write_text(lines + "{}\n")
    with pytest.raises(UserError, match=r"qrels/test\.jsonl:4 has no \"query-id\""):
        read(folder, "corpus.jsonl", "qrels/test.tsv")


def test_an_archive_of_several_collections(tmp_path: Path) -> None:
    """None of them is taken for the one that was meant, unless it lies above the others."""
    for name in ("android", "english"):
        beir(tmp_path / "all" / name)
    archive = packed(tmp_path / "all", tmp_path / "all.zip", str)
    assert refusal(archive) == (
        f"{archive}/corpus.jsonl could be any of android/corpus.jsonl, english/corpus.jsonl: "
        "unpack the archive, and give data.path= the folder that is meant."
    )
    assert read(archive, "english/corpus.jsonl", "android/qrels/test.tsv") == (TEXTS, JUDGED)
    above = packed(beir(tmp_path / "all"), tmp_path / "above.zip", str)
    assert read(above, "corpus.jsonl", "qrels/test.tsv") == (TEXTS, JUDGED)


def test_archives_that_cannot_be_unpacked(tmp_path: Path) -> None:
    archive = packed(beir(tmp_path / "mine"), tmp_path / "mine.zip", str)
    whole = archive.read_bytes()
    # Bit 0 of the flags, in the header of each file and in the directory at the end.
    locked = bytearray(whole)
    for start, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        for found in re.finditer(re.escape(start), whole):
            locked[found.start() + flags] |= 1
    archive.write_bytes(locked)
    assert refusal(archive) == (
        f"{archive}/corpus.jsonl cannot be unpacked (File 'corpus.jsonl' is encrypted, password "
        "required for extraction): unpack it, and give data.path=FOLDER."
    )
    archive.write_bytes(whole[:-40])
    assert refusal(archive) == f"{archive} is damaged (File is not a zip file): fetch it again."
    archive.write_bytes(whole.replace(b"with text", b"with test", 1))
    assert refusal(archive) == (
        f"{archive}/corpus.jsonl is damaged (Bad CRC-32 for file 'corpus.jsonl'): fetch it again."
    )


def test_the_published_layout_of_ms_marco(tmp_path: Path) -> None:
    """Texts as TSV, judgements as TREC writes them and as a dictionary."""
    rows = "".join(f"{identifier}\t{text}\n" for identifier, text in TEXTS[:2])
    (tmp_path / "collection.tsv").write_text(rows, encoding="utf-8")
    trec = "".join(f"{query} 0 {document} {grade}\n" for query, document, grade in JUDGED)
    (tmp_path / "2019qrels-pass.txt").write_text(trec)
    assert read(tmp_path, "collection.tsv", "2019qrels-pass.txt") == (TEXTS[:2], JUDGED)
    (tmp_path / "qrels.dev.small.tsv").write_text(trec.replace(" ", "\t"))
    assert read(tmp_path, "collection.tsv", "qrels.dev.small.tsv")[1] == JUDGED
    (tmp_path / "qrel.json").write_text(json.dumps({"q1": {"d1": 2, "7": 0}, "q2": {"7": 1}}))
    assert read(tmp_path, "collection.tsv", "qrel.json")[1] == JUDGED


def test_a_missing_file_and_a_missing_place(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"corpus\.jsonl is missing: a folder in BEIR format"):
        place(str(tmp_path)).identity("corpus.jsonl", Digests(tmp_path / "digests"))
    for path in (tmp_path / "nowhere", tmp_path / "a" / "b" / "c", beir(tmp_path) / "corpus.jsonl"):
        with pytest.raises(UserError, match=r"is not a folder, a \.zip, or a Hugging Face id"):
            place(str(path))


def test_what_a_file_is_known_by_is_its_content(tmp_path: Path) -> None:
    """Not its name, nor its place, nor the time of its last change."""
    digests, (one, two) = Digests(tmp_path / "digests"), (tmp_path / name for name in "ab")
    for folder in (one, two):
        folder.mkdir()
        beir(folder)
        os.utime(folder / "corpus.jsonl", (1, len(folder.name)))
    first, second = (place(str(folder)) for folder in (one, two))
    before = first.identity("corpus.jsonl", digests)
    assert second.identity("corpus.jsonl", digests) == before
    assert first.identity("qrels/test.tsv", digests) != before
    text = (one / "corpus.jsonl").read_text()
    (one / "corpus.jsonl").write_text(text.replace("with", "whit"))  # as many bytes
    assert first.identity("corpus.jsonl", digests) != before
    (two / "corpus.jsonl").rename(two / "corpus.tsv")  # is read another way
    assert second.identity("corpus.tsv", digests) != before


@pytest.mark.parametrize("name", ["one.zip", "same.zip"])
def test_what_a_file_in_an_archive_is_known_by(tmp_path: Path, name: str) -> None:
    beir(tmp_path)
    found = []
    for number, text in enumerate(("one", "two", "one")):
        (tmp_path / "corpus.jsonl").write_text(text)
        path = tmp_path / f"{number}-{name}"
        entry = zipfile.ZipInfo("mine/corpus.jsonl", (2020, 1, 1, 0, 0, 0))
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(entry, text)
        found.append(place(str(path)).identity("corpus.jsonl", Digests(tmp_path / "digests")))
    assert found[0] == found[2] != found[1]


def test_what_a_part_of_a_repository_is_known_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its revision and that of the judgements; offline, that nobody knows it."""
    revisions = {"BeIR/x": "one", "BeIR/x-qrels": "two"}

    class Api:
        def dataset_info(self, identifier: str) -> Any:
            return SimpleNamespace(sha=revisions[identifier])

    found = []
    monkeypatch.setattr(places, "HfApi", Api)
    for change in ({}, {"BeIR/x": "three"}, {"BeIR/x-qrels": "four"}, None):
        revisions = {} if change is None else revisions | change
        places._revision.cache_clear()
        found.append(place("BeIR/x").identity("corpus.jsonl", Digests(tmp_path)))
    places._revision.cache_clear()
    # The same part, whatever the configuration calls its file.
    assert place("BeIR/x").identity("corpus.jsonl.gz", Digests(tmp_path)) == found[-1]
    assert len({str(one) for one in found}) == 4
    assert place("BeIR/x").identity("queries.jsonl", Digests(tmp_path)) not in found


def test_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """BeIR's repositories and MTEB's, as `datasets` hands them out; and no network."""
    datasets = pytest.importorskip("datasets")
    corpus = [
        {"_id": "d1", "title": "Title", "text": "with text"},
        {"_id": "7", "title": "", "text": "zwei \u96ea"},
        {"_id": "empty", "title": "", "text": ""},
    ]
    rows = [{"query-id": q, "corpus-id": d, "score": grade} for q, d, grade in JUDGED]
    stored = {
        ("BeIR/x", "corpus", "corpus"): corpus,
        ("BeIR/x-qrels", None, "test"): rows,
        ("mteb/x", "corpus", "corpus"): corpus,
        ("mteb/x", "default", "test"): rows,
    }

    def load(identifier: str, part: str | None, split: str, **_: Any) -> Any:
        try:
            return datasets.Dataset.from_list(stored[identifier, part, split])
        except KeyError:
            raise ConnectionError("Couldn't reach the Hub") from None

    monkeypatch.setattr(datasets, "load_dataset", load)
    for identifier in ("BeIR/x", "mteb/x"):
        found = places.place(identifier)
        assert list(texts_in(found, "corpus.jsonl")) == TEXTS
        assert list(found.judgements("qrels/{split}.tsv", "test")) == JUDGED
    with pytest.raises(UserError, match="Without network, give a folder"):
        list(texts_in(places.place("BeIR/y"), "corpus.jsonl"))
    stored["BeIR/z", "corpus", "corpus"] = [{"id": "d1", "text": "another layout"}]
    with pytest.raises(UserError, match="BeIR/z, corpus, row 1 has no \"_id\", only 'id', 'text'"):
        list(texts_in(places.place("BeIR/z"), "corpus.jsonl"))
    # Grades are those of files: whole numbers, whatever their type.
    stored["BeIR/x-qrels", None, "test"] = [dict(row, score=float(row["score"])) for row in rows]
    assert list(places.place("BeIR/x").judgements("", "test")) == JUDGED
    stored["BeIR/x-qrels", None, "test"] = [dict(row, score=0.5) for row in rows]
    with pytest.raises(UserError) as caught:
        list(places.place("BeIR/x").judgements("qrels/test.tsv", "test"))
    assert str(caught.value) == (
        "BeIR/x, test, row 1: the grade is 0.5, and has to be a whole number."
    )

    def lost(*_: Any, **__: Any) -> Any:
        yield corpus[0]
        raise ConnectionError("Connection reset by peer")

    monkeypatch.setattr(datasets, "load_dataset", lost)
    with pytest.raises(UserError, match=r"cannot be read to its end .* Connection reset by peer"):
        list(texts_in(places.place("BeIR/x"), "corpus.jsonl"))
