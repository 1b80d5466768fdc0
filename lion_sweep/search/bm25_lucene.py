"""BM25 by Lucene itself, with Anserini's English analysis: Porter stems, Lucene's stop words."""

import json
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from lion_sweep.data.texts import Texts
from lion_sweep.search import anserini
from lion_sweep.search.base import check_queries, sorted_documents
from lion_sweep.search.runs import Run


class LuceneBM25Index(anserini.LuceneIndex):
    """The BM25 of Anserini and Pyserini, with the scores that Lucene computes.

    Lucene keeps document lengths in a byte, exact up to 40 terms, and counts only documents with a
    term. Pyserini's own runs have these hits in this order; it rounds scores to four decimals.

    k1 is the saturation of term frequency, b the strength of length normalisation, 0 to 1. A text
    has to hold a term.
    """

    def __init__(
        self,
        document_ids: Sequence[str],
        texts: Texts | Sequence[str],
        folder: Path,
        k1: float = 0.9,
        b: float = 0.4,
    ) -> None:
        self._ids, _ = sorted_documents(document_ids, len(texts))
        with anserini.to_index(folder) as (documents, index):
            with (documents / "documents.jsonl").open("w", encoding="utf-8") as file:
                batches = texts.batches() if isinstance(texts, Texts) else [texts]
                each = chain.from_iterable(batches)
                for document_id, text in zip(document_ids, each, strict=True):
                    known = {anserini.ID: document_id, anserini.CONTENTS: text}
                    file.write(json.dumps(known) + "\n")
            anserini.index("JsonCollection", documents, index)
        java = anserini.java_class()
        similarity = java("org.apache.lucene.search.similarities.BM25Similarity")(k1, b)
        self._searcher = anserini.Searcher(index, self._ids, similarity)
        if not self._searcher.reader.getSumTotalTermFreq(anserini.CONTENTS) > 0:
            raise ValueError("no document text holds a term to index")
        self._analyser = java("io.anserini.analysis.DefaultEnglishAnalyzer").newDefaultInstance()

    def search(self, query_ids: Sequence[str], texts: Sequence[str], k: int) -> Run:
        """Return the k documents of highest BM25 score above 0 for each query text."""
        check_queries(query_ids, len(texts), k)
        rows = [self._searcher.hits(k, self._analyser, text) for text in texts]
        return Run.stacked(query_ids, self._ids, rows)
