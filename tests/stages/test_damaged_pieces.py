"""Work that a killed process left, and that is not what it wrote: made again, to the same bytes."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from support import listed

from lion_sweep.cost.meter import Spending
from lion_sweep.data import texts as arrow
from lion_sweep.data import tokens
from lion_sweep.errors import Interrupted
from lion_sweep.machine import interruption
from lion_sweep.machine.progress import Progress
from lion_sweep.models.proxy import train_tokenizer
from lion_sweep.search import mining, postings
from lion_sweep.search.parts import Parts, Stored
from lion_sweep.search.postings import Postings
from lion_sweep.stages.workshop import Workshop

SEEDS = range(12)


def damage(folder: Path, drawn: random.Random) -> None:
    """A bit, or the end, of a file in it."""
    path = drawn.choice(sorted(path for path in folder.rglob("*") if path.is_file()))
    content = bytearray(path.read_bytes())
    if drawn.random() < 0.5:
        bit = drawn.randrange(8 * len(content))
        content[bit // 8] ^= 1 << bit % 8
    else:
        del content[drawn.randrange(len(content)) :]
    path.write_bytes(content)


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_vectors(tmp_path: Path, kind: str, seed: int) -> None:
    vectors_ND = np.random.default_rng(0).random((12, 6)).astype(np.float32)
    given: Any = (
        vectors_ND if kind == "dense" else sparse.csr_matrix(vectors_ND * (vectors_ND > 0.5))
    )

    def encode(parts: Parts) -> None:
        for start in range(0, 12, 3):
            rows = np.arange(start, start + 3)
            if not parts.done_N[rows].all():
                parts.add(rows, given[rows], Spending(tokens=1))
                parts.keep()

    encode(Parts(tmp_path, 12))
    known = bytes_of(tmp_path)
    damage(tmp_path, random.Random(seed))
    encode(Parts(tmp_path, 12))
    found = Stored(tmp_path, 12).all()
    assert bytes_of(tmp_path).keys() == known.keys()
    if kind == "dense":
        assert np.array_equal(found, vectors_ND)
    else:
        assert (found != given).nnz == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_texts(tmp_path: Path, seed: int) -> None:
    blocks = [[(f"d{n}", f"lion {n} roars") for n in range(k, k + 5)] for k in range(0, 20, 5)]
    known = arrow.write(blocks, tmp_path / "texts", "mine")
    whole = arrow.read(tmp_path / "texts", known["checksum"], []).all()
    damage(tmp_path / "texts", random.Random(seed))
    again = arrow.write(blocks, tmp_path / "texts", "mine")
    assert again == known
    assert arrow.read(tmp_path / "texts", again["checksum"], []).all() == whole


@pytest.mark.parametrize("seed", SEEDS)
def test_tokens(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "AT_ONCE", 8)
    texts = [f"lions roar {number} times" for number in range(100)]
    tokenizer = train_tokenizer(texts)

    def write(folder: Path, upto: int) -> list[int]:
        done: list[int] = []

        def told(count: int, total: int) -> None:
            done.append(count)
            monkeypatch.setattr(interruption, "requested", lambda *_: count >= upto)

        folder.mkdir(exist_ok=True)
        monkeypatch.setattr(interruption, "requested", lambda *_: False)
        try:
            tokens.write(folder, listed(*texts), tokenizer, 8, on_text=told)
        except Interrupted:
            assert upto < 100
        return done

    write(tmp_path / "whole", 200)
    assert write(tmp_path / "again", 48)[-1] == 48
    drawn = random.Random(seed)
    damage(tmp_path / "again", drawn)
    done = write(tmp_path / "again", 200)
    assert done[0] <= 56 and done[-1] == 100
    assert bytes_of(tmp_path / "again") == bytes_of(tmp_path / "whole")


def test_tokens_that_are_whole_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "AT_ONCE", 8)
    texts = [f"lions roar {number} times" for number in range(100)]
    tokenizer = train_tokenizer(texts)
    tokens.write(tmp_path, listed(*texts), tokenizer, 8)
    content = bytearray((tmp_path / "ids.npy").read_bytes())
    content[-1] ^= 1  # in the last batch
    (tmp_path / "ids.npy").write_bytes(content)
    done: list[int] = []
    tokens.write(tmp_path, listed(*texts), tokenizer, 8, on_text=lambda n, total: done.append(n))
    assert done == [100]


@pytest.mark.parametrize("seed", SEEDS)
def test_postings(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postings, "BLOCK", 10)
    generator = np.random.default_rng(0)
    vectors_NV = sparse.random(50, 12, 0.3, "csr", np.float32, generator)

    def write(folder: Path, stop: int | None = None) -> list[int]:
        made: list[int] = []

        def rows(first: int, last: int) -> sparse.csr_matrix:
            made.append(first)
            return vectors_NV[first:last]

        monkeypatch.setattr(interruption, "requested", lambda: len(made) == stop)
        try:
            Postings.write(folder, rows, vectors_NV.shape)
        except Interrupted:
            assert stop
        return made

    write(tmp_path / "whole")
    assert write(tmp_path / "again", 3) == [0, 10, 20]
    damage(tmp_path / "again", random.Random(seed))
    made = write(tmp_path / "again")
    assert made[-2:] == [30, 40] and len(made) == 3
    assert bytes_of(tmp_path / "again") == bytes_of(tmp_path / "whole")
    assert not list((tmp_path / "again").glob(".*"))


@pytest.mark.parametrize("seed", SEEDS)
def test_negatives(
    small_cell: Callable[..., Any], tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mining, "QUERIES", 40)
    stage = small_cell("loss=cl").stages.groups
    shop = Workshop(tmp_path / "outputs", Progress("cell", None))
    for one in stage.inputs:
        shop.run(one)
    known = tmp_path / "known"
    known.mkdir()
    stage.work(shop, known)

    partial = tmp_path / "partial"
    partial.mkdir()
    told: list[int] = []
    monkeypatch.setattr(shop.progress, "kept_step", lambda done, total: told.append(done))
    monkeypatch.setattr(interruption, "requested", lambda: len(told) == 3)
    with pytest.raises(Interrupted):
        stage.work(shop, partial)
    monkeypatch.setattr(interruption, "requested", lambda: False)
    damage(partial / "parts", random.Random(seed))
    stage.work(shop, partial)
    assert bytes_of(partial) == bytes_of(known)
