"""BM25 by Lucene itself, with Anserini's English analysis: Porter stems, Lucene's stop words.

Shapes: Q queries, K hits, M hits of one query, P pairs.
"""

import json
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lion_sweep.data.texts import Texts
from lion_sweep.search import anserini
from lion_sweep.search.base import WordsIndex, checked_ids
from lion_sweep.search.runs import NO_HIT


class LuceneBM25Index(anserini.LuceneIndex, WordsIndex):
    """The BM25 of Anserini and Pyserini, with the scores that Lucene computes.

    Lucene keeps document lengths in a byte, exact up to 40 terms, and counts only documents with a
    term. Pyserini's own runs have these hits in this order; it rounds scores to four decimals.

    k1 is the saturation of term frequency, b the strength of length normalisation, 0 to 1. A text
    has to hold a term. An index that is in the folder is taken for that of these documents.
    """

    def __init__(
        self,
        document_ids: Sequence[str],
        texts: Texts | Sequence[str],
        folder: Path,
        k1: float = 0.9,
        b: float = 0.4,
    ) -> None:
        self.ids, index = checked_ids(document_ids, len(texts)), folder / "index"
        if not index.is_dir() or (folder / anserini.DOCUMENTS).is_dir():  # or somebody was at it
            with anserini.to_index(folder) as (documents, index):
                _write(documents / "documents.jsonl", document_ids, texts)
                anserini.index("JsonCollection", documents, index)
        java = anserini.java_class()
        similarity = java("org.apache.lucene.search.similarities.BM25Similarity")(k1, b)
        self._searcher = anserini.Searcher(index, self.ids.ascending, similarity)
        if not self._searcher.reader.getSumTotalTermFreq(anserini.CONTENTS) > 0:
            raise ValueError("no document text holds a term to index")
        self._analyser = java("io.anserini.analysis.DefaultEnglishAnalyzer").newDefaultInstance()

    def found(
        self, texts: Sequence[str], k: int
    ) -> tuple[NDArray[np.int32], NDArray[np.floating[Any]]]:
        shape = len(texts), min(k, len(self.ids))
        rank_QK = np.full(shape, NO_HIT, dtype=np.int32)
        score_QK = np.full(shape, -np.inf, dtype=np.float32)
        for row, text in enumerate(texts):
            rank_M, score_M = self._searcher.hits(k, self._analyser, text)
            rank_QK[row, : len(rank_M)], score_QK[row, : len(score_M)] = rank_M, score_M
        return rank_QK, score_QK

    def scores(
        self, texts: Sequence[str], query_P: NDArray[np.integer], document_P: NDArray[np.integer]
    ) -> NDArray[np.floating[Any]]:
        """One at a time, as Lucene explains them; 0 of a document without a term."""
        pairs = zip(query_P.tolist(), document_P.tolist(), strict=True)
        found = [
            self._searcher.score(self.ids[document], self._analyser, texts[query])
            for query, document in pairs
        ]
        return np.array(found, dtype=np.float32)


def _write(path: Path, document_ids: Sequence[str], texts: Texts | Sequence[str]) -> None:
    """Documents as Anserini reads them."""
    batches = texts.batches() if isinstance(texts, Texts) else [texts]
    with path.open("w", encoding="utf-8") as file:
        for document_id, text in zip(document_ids, chain.from_iterable(batches), strict=True):
            file.write(json.dumps({anserini.ID: document_id, anserini.CONTENTS: text}) + "\n")
