"""Files that are not as they were written: read, or refused in a sentence that names the place.

LION_SWEEP_EXAMPLES=100000 tries as many damaged files of each kind, in some minutes.
"""

import gzip
import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutations import Change, changes, damaged, tried
from support import texts, texts_in

from lion_sweep.data import given as groups
from lion_sweep.data import texts as arrow
from lion_sweep.data.collection import Collection, judge
from lion_sweep.data.forms import TEXTS as TABLE
from lion_sweep.data.groups import MISSING
from lion_sweep.data.places import place
from lion_sweep.errors import UserError

PASSAGES = {f"d{n}": f"passage {n} of caf\u00e9 and \u96ea" for n in range(6)}
QUERIES = {f"q{n}": f"query {n}" for n in range(4)}
JUDGED = [("q0", "d0", 1), ("q0", "d1", 0), ("q1", "d1", 2), ("q2", "d2", 1), ("q3", "d0", -1)]


def objects(rows: list[dict[str, Any]]) -> bytes:
    """A JSON object on each line."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def columns(rows: list[tuple[Any, ...]], between: str = "\t") -> bytes:
    return "".join(between.join(map(str, row)) + "\n" for row in rows).encode()


TEXTS = {
    "corpus.jsonl": objects([{"_id": i, "title": "a", "text": t} for i, t in PASSAGES.items()]),
    "corpus.tsv": columns(list(PASSAGES.items())),
    "header.tsv": columns([("pid", "text", "title"), *((i, t, "a") for i, t in PASSAGES.items())]),
}
HEADS = set(" ".join(TABLE.names.values()).split())  # words that headers have
QRELS = {
    "qrels.tsv": columns([("query-id", "corpus-id", "score"), *JUDGED]),
    "bare.tsv": columns(list(JUDGED)),
    "qrels.txt": columns([(q, 0, d, grade) for q, d, grade in JUDGED], " "),
    "qrels.jsonl": objects([{"query-id": q, "corpus-id": d, "score": g} for q, d, g in JUDGED]),
    "qrels.json": json.dumps({q: {d: g for p, d, g in JUDGED if p == q} for q in QUERIES}).encode(),
}
GROUPS = objects(
    [
        {"question": "query 0", "pos_pid": "d0", "neg_pids": ["d2", "d3"], "pos_score": 3,
         "neg_scores": [2, 1.5]},
        {"query": "query 1", "docids": ["d1", "d0", "d3"], "scores": [3, 2, 1]},
        {"query_id": "q2", "document_ids": ["d2", "d0"], "scores": [3.5, 2]},
        {"query_id": "q3", "positive_passages": [{"docid": "d4", "score": 1}],
         "negative_passages": [{"docid": "d1", "score": 0.5}, {"docid": "d4", "score": 0.1}]},
    ]
) + objects([])  # fmt: skip
UNSCORED = objects(
    [
        {"qid": "q0", "pos": ["d0", "d1"], "neg": {"a": ["d2", "d1"], "b": ["d3"]}},
        {"question": "query 0", "pos_pid": "d2", "neg_pids": ["d0", "d5"]},
    ]
)


def refused_in(folder: Path, name: str, error: UserError) -> str:
    """What is said after the file's name; it can be printed, and is one line."""
    said = str(error)
    said.encode()
    assert said.startswith(str(folder / name)), said
    assert "\n" not in said and len(said) < 1000, said
    return said.removeprefix(str(folder / name))


def held(raw: bytes) -> list[bool]:
    """Of every line whether something stands there."""
    lines = io.BytesIO(raw.removeprefix(b"\xef\xbb\xbf")).readlines()
    return [bool(line.decode("utf-8", "replace").strip()) for line in lines]


def until_refused(rows: Iterator[Any], folder: Path, name: str) -> tuple[list[Any], str]:
    """(what was read, what was said then)."""
    found: list[Any] = []
    try:
        for row in rows:
            found.append(row)
    except UserError as error:
        return found, refused_in(folder, name, error)
    return found, ""


@tried
@given(name=st.sampled_from(sorted(TEXTS)), steps=changes)
def test_texts(tmp_path: Path, name: str, steps: list[Change]) -> None:
    """Every line is read, refused by its number, or holds nothing."""
    raw = damaged(TEXTS[name], steps)
    (tmp_path / name).write_bytes(raw)
    found, said = until_refused(texts_in(place(str(tmp_path)), name), tmp_path, name)
    lines = held(raw)
    if said:
        number = re.match(r":(\d+)[: ]", said)
        assert number, said
        lines = lines[: int(number[1]) - 1]
    header = sum(lines) - len(found)
    assert header in (0, 1)
    if header:
        first = next(line for line, holds in zip(raw.split(b"\n"), lines, strict=False) if holds)
        fields = first.decode().removeprefix("\ufeff").lower().split("\t")
        assert {field.strip().lstrip("#") for field in fields} & HEADS, first
    try:
        facts = arrow.write([found], tmp_path / "x", name)
    except UserError as error:
        assert re.match(rf"{name} (repeats the id '|is empty\.)", str(error)), error
        return
    assert facts["texts"] == len(found)
    stored = arrow.read(tmp_path / "x", facts["checksum"], facts["flaws"].items())
    halves = re.compile("[\ud800-\udfff]")
    assert stored.all() == [halves.sub("\ufffd", text) for _, text in found]
    assert facts["flaws"]["mended"] == sum(bool(halves.search(text)) for _, text in found)


@tried
@given(name=st.sampled_from(sorted(QRELS)), steps=changes)
def test_judgements(tmp_path: Path, name: str, steps: list[Change]) -> None:
    """Every line is kept, counted, or refused."""
    raw = damaged(QRELS[name], steps)
    (tmp_path / name).write_bytes(raw)
    where = place(str(tmp_path))
    listed, said = until_refused(where.judgements(name, "test"), tmp_path, name)
    if said:
        assert name == "qrels.json" or re.match(r":\d+[: ]", said), said
    else:
        assert name == "qrels.json" or sum(held(raw)) - len(listed) in (0, 1)
    try:
        found = judge(where, name, "test", texts(PASSAGES), texts(QUERIES))
    except UserError as error:
        refused_in(tmp_path, name, error)
        return
    qrels, counted = found.qrels, found.flaws
    kept = sum(map(len, qrels.values()))
    left_out = ("judged_twice", "missing_queries", "nothing_relevant")
    assert kept + sum(counted[flaw] for flaw in left_out) == len(listed)
    best: dict[tuple[str, str], int] = {}
    for query, passage, grade in listed:
        best[query, passage] = max(grade, best.get((query, passage), grade))
    assert all(g == best[q, d] for q, grades in qrels.items() for d, g in grades.items())
    assert set(qrels) <= set(QUERIES)


@tried
@given(raw=st.sampled_from([GROUPS, UNSCORED]), steps=changes)
def test_groups(tmp_path: Path, raw: bytes, steps: list[Change]) -> None:
    """What is read can be trained on: every number finite, no positive among the negatives."""
    name = "groups.jsonl"
    (tmp_path / name).write_bytes(damaged(raw, steps))
    collection = Collection("tiny", texts(PASSAGES), texts(QUERIES), {})
    try:
        found, flaws = groups.read(place(str(tmp_path)).lines(name), collection, 2)
    except UserError as error:
        if not str(error).startswith("data.groups holds no group with a negative"):
            assert re.match(r":\d+[: ]", refused_in(tmp_path, name, error)), error
        return
    assert len(found) >= 1 and all(count >= 0 for count in flaws.values())
    assert np.isfinite(found.negative_score_PM).all() or np.isnan(found.positive_score_P).all()
    positives = set(zip(found.query_P.tolist(), found.positive_P.tolist(), strict=True))
    for query, negatives in zip(found.query_P.tolist(), found.negative_PM.tolist(), strict=True):
        left = [negative for negative in negatives if negative != MISSING]
        assert left and all(0 <= negative < len(PASSAGES) for negative in left)
        assert not any((query, negative) in positives for negative in left)


def archived() -> bytes:
    """A collection in a .zip."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mine/corpus.jsonl", TEXTS["corpus.jsonl"])
    return packed.getvalue()


ZIP, GZ = archived(), gzip.compress(TEXTS["corpus.jsonl"])


@tried
@given(steps=changes, packed=st.sampled_from(["mine.zip", "corpus.jsonl.gz"]))
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_packed_files(tmp_path: Path, steps: list[Change], packed: str) -> None:
    """A checksum tells what is damaged, wherever it is."""
    path = tmp_path / packed
    raw = damaged(ZIP if packed == "mine.zip" else GZ, steps)
    path.write_bytes(raw)
    where = path if packed == "mine.zip" else tmp_path
    try:
        found = list(texts_in(place(str(where)), "corpus.jsonl"))
    except UserError as error:
        said = str(error)
        said.encode()
        assert said.startswith(str(where)), said
        return
    # A .gz may be several one after the other, or none: importing refuses empty files and repeats.
    expected = [(i, f"a {text}") for i, text in PASSAGES.items()]
    assert found == expected * (len(found) // len(expected)) and bool(found) == bool(raw)
