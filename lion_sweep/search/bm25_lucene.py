"""BM25 by Lucene itself, with Anserini's English analysis: Porter stems, Lucene's stop words.

Shapes: M hits of one query.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lion_sweep.search import anserini
from lion_sweep.search.runs import Run
from lion_sweep.search.topk import best, check_queries, sorted_documents

_CONTENTS, _ID = "contents", "id"  # fields of Anserini's indexes


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
        texts: Sequence[str],
        folder: Path,
        k1: float = 0.9,
        b: float = 0.4,
    ) -> None:
        self._ids, _ = sorted_documents(document_ids, len(texts))
        with anserini.to_index(folder) as (documents, index):
            with (documents / "documents.jsonl").open("w", encoding="utf-8") as file:
                for document_id, text in zip(document_ids, texts, strict=True):
                    file.write(json.dumps({_ID: document_id, _CONTENTS: text}) + "\n")
            anserini.index("JsonCollection", documents, index)
        java = anserini.java_class()
        path = java("java.nio.file.Paths").get(str(index))
        store = java("org.apache.lucene.store.FSDirectory").open(path)
        reader = java("org.apache.lucene.index.DirectoryReader").open(store)
        if not reader.getSumTotalTermFreq(_CONTENTS) > 0:
            raise ValueError("no document text holds a term to index")
        searcher = java("org.apache.lucene.search.IndexSearcher")(reader.getContext())
        searcher.setSimilarity(java("org.apache.lucene.search.similarities.BM25Similarity")(k1, b))
        fields = java("org.apache.lucene.search.SortField")
        by_id = fields(_ID, java("org.apache.lucene.search.SortField$Type").STRING_VAL)
        self._order = java("org.apache.lucene.search.Sort")(fields.FIELD_SCORE, by_id)
        self._searcher, stored = searcher, reader.storedFields()
        self._queries = java("io.anserini.search.query.BagOfWordsQueryGenerator")()
        self._analyser = java("io.anserini.analysis.DefaultEnglishAnalyzer").newDefaultInstance()
        numbers = {document_id: number for number, document_id in enumerate(self._ids)}
        # The place among the ids of a document that has another number in Lucene.
        self._number = functools.cache(lambda document: numbers[stored.document(document).get(_ID)])

    def search(self, query_ids: Sequence[str], texts: Sequence[str], k: int) -> Run:
        """Return the k documents of highest BM25 score above 0 for each query text."""
        check_queries(query_ids, len(texts), k)
        rows = []
        for text in texts:
            query = self._queries.buildQuery(_CONTENTS, self._analyser, text)
            # Lucene breaks ties by id itself, so that none is cut off at the k-th place.
            hits = self._searcher.search(query, k, self._order, True).scoreDocs
            documents_M = np.array([self._number(hit.doc) for hit in hits], dtype=np.int64)
            scores_M = np.array([hit.score for hit in hits], dtype=np.float32)
            rows.append(best(documents_M, scores_M, k))
        return Run.stacked(query_ids, self._ids, rows)
