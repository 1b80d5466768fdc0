"""A made-up collection of MS MARCO's shape and of any size, in files like its own.

Words are Zipf's, the most frequent ones those that BM25 drops; passages have 50 words on average,
and a query 6 words out of the passage that is relevant to it.

Shapes: N passages, Q queries, V vocabulary, W words one after the other.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from bm25s.stopwords import STOPWORDS_EN
from numpy.typing import NDArray

VOCABULARY = 300_000
LENGTHS = 25, 76  # words of a passage
QUERY = 6
CHUNK = 50_000  # passages made at once
SYLLABLES = [one + two for one in "bcdfghklmnprstvz" for two in ("a", "e", "i", "o", "u", "er")]


def vocabulary() -> pa.Array:
    """Words from the most frequent one on; frequent ones are short."""
    made, base = list(STOPWORDS_EN), len(SYLLABLES)
    for number in range(base, base + VOCABULARY - len(made)):
        word = ""
        while number:
            number, place = divmod(number, base)
            word += SYLLABLES[place]
        made.append(word)
    return pa.array(made)


def collection(folder: Path, passages: int, queries: int, dev: int) -> Path:
    """A folder of this size below `folder`, made where it is not there yet."""
    whole = folder / f"made-{passages}-{queries}-{dev}"
    if whole.is_dir():
        return whole
    partial = whole.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    positive_Q = np.random.default_rng(0).integers(passages, size=queries + dev)
    asked = []
    with (partial / "collection.tsv").open("wb") as file:
        for lines, rows, texts in _chunks(passages, positive_Q):
            file.write(lines)
            asked.append((rows, texts))
    order_Q = np.argsort(np.concatenate([rows for rows, _ in asked]))
    text_Q = pa.concat_arrays([texts for _, texts in asked]).take(pa.array(order_Q))
    for split, own in {"train": slice(0, queries), "dev": slice(queries, None)}.items():
        ids, relevant = _text(np.arange(queries + dev)[own]), _text(positive_Q[own])
        (partial / f"queries.{split}.tsv").write_bytes(_lines(ids, text_Q[own]))
        (partial / f"qrels.{split}.tsv").write_bytes(_lines(ids, "0", relevant, "1"))
    partial.replace(whole)
    return whole


def _chunks(
    passages: int, positive_Q: NDArray[np.int64]
) -> Iterator[tuple[bytes, NDArray[np.int64], pa.Array]]:
    """(lines of some passages, numbers and texts of the queries that they are relevant to)."""
    random, listed = np.random.default_rng(1), vocabulary()
    share_V = 1 / np.arange(1, len(listed) + 1)
    cumulative_V = np.cumsum(share_V / share_V.sum())[:-1]
    for first in range(0, passages, CHUNK):
        length_N = random.integers(*LENGTHS, size=min(CHUNK, passages - first))
        start_N = np.concatenate([[0], np.cumsum(length_N)])
        word_W = np.searchsorted(cumulative_V, random.random(start_N[-1]))
        ids = _text(np.arange(first, first + len(length_N)))
        rows = np.flatnonzero((positive_Q >= first) & (positive_Q < first + len(length_N)))
        places = positive_Q[rows, None] - first
        chosen = (random.random((len(rows), QUERY)) * length_N[places]).astype(np.int64)
        asked = word_W[start_N[places] + chosen].ravel()
        texts = _joined(listed, asked, np.arange(len(rows) + 1) * QUERY)
        yield _lines(ids, _joined(listed, word_W, start_N)), rows, texts


def _text(numbers: NDArray[np.int64]) -> pa.Array:
    return pa.array(numbers).cast(pa.string())


def _joined(listed: pa.Array, word_W: NDArray[np.int64], start_N: NDArray[np.int64]) -> pa.Array:
    words = listed.take(pa.array(word_W))
    return pc.binary_join(pa.ListArray.from_arrays(pa.array(start_N, pa.int32()), words), " ")


def _lines(*columns: pa.Array | str) -> bytes:
    lines = pc.binary_join_element_wise(*columns, "\t")
    whole = pa.ListArray.from_arrays(pa.array([0, len(lines)], pa.int32()), lines)
    return pc.binary_join(whole, "\n")[0].as_py().encode() + b"\n"
