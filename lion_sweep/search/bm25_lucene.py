"""BM25 by Lucene itself, with Anserini's English analysis: Porter stems, Lucene's stop words.

Shapes: N documents, M hits of one query.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lion_sweep.search import anserini
from lion_sweep.search.base import Engine, Where
from lion_sweep.search.runs import Run
from lion_sweep.search.topk import best, check_queries, sorted_documents

_CONTENTS, _ID = "contents", "id"  # fields of Anserini's indexes


class LuceneBM25Index(Engine):
    """The BM25 of Anserini and Pyserini, with the scores that Lucene computes.

    Lucene keeps document lengths in a byte, exact up to 40 terms, and counts only documents with a
    term. Pyserini's own runs have these hits in this order; it rounds scores to four decimals.

    Args:
        document_ids: [N] distinct ids.
        texts: [N] document texts.
        folder: where the index is written; an index already there is replaced.
        k1: saturation of term frequency.
        b: strength of length normalisation, 0 to 1.

    Raises:
        ValueError: no documents, repeated ids, lengths that disagree, or no term in any text.
        RuntimeError: Lucene is not available, or indexing failed.
    """

    @classmethod
    def missing(cls) -> str:
        """Java and Anserini."""
        return anserini.missing()

    @classmethod
    def over(
        cls, document_ids: Sequence[str], documents: Any, where: Where, **settings: Any
    ) -> LuceneBM25Index:
        """In the folder."""
        return cls(document_ids, documents, where.folder / "lucene", **settings)

    def __init__(
        self,
        document_ids: Sequence[str],
        texts: Sequence[str],
        folder: str | os.PathLike[str],
        k1: float = 0.9,
        b: float = 0.4,
    ) -> None:
        self._ids, _ = sorted_documents(document_ids, len(texts))
        index = Path(folder) / "index"
        documents = index.with_name("documents")
        shutil.rmtree(documents, ignore_errors=True)  # of a killed process
        documents.mkdir(parents=True)
        with (documents / "documents.jsonl").open("w", encoding="utf-8") as file:
            for document_id, text in zip(document_ids, texts, strict=True):
                file.write(json.dumps({_ID: document_id, _CONTENTS: text}) + "\n")
        anserini.index("JsonCollection", documents, index)
        shutil.rmtree(documents)
        java = anserini.java_class()
        paths, stores = java("java.nio.file.Paths"), java("org.apache.lucene.store.FSDirectory")
        reader = java("org.apache.lucene.index.DirectoryReader").open(
            stores.open(paths.get(str(index)))
        )
        if not reader.getSumTotalTermFreq(_CONTENTS) > 0:
            raise ValueError("no document text holds a term to index")
        searcher = java("org.apache.lucene.search.IndexSearcher")(reader.getContext())
        searcher.setSimilarity(java("org.apache.lucene.search.similarities.BM25Similarity")(k1, b))
        fields = java("org.apache.lucene.search.SortField")
        by_id = fields(_ID, java("org.apache.lucene.search.SortField$Type").STRING_VAL)
        self._order = java("org.apache.lucene.search.Sort")(fields.FIELD_SCORE, by_id)
        self._searcher, self._stored = searcher, reader.storedFields()
        self._queries = java("io.anserini.search.query.BagOfWordsQueryGenerator")()
        self._analyser = java("io.anserini.analysis.DefaultEnglishAnalyzer").newDefaultInstance()
        self._numbers = {document_id: number for number, document_id in enumerate(self._ids)}
        self._number_of: dict[int, int] = {}  # by Lucene's own numbers

    def search(self, query_ids: Sequence[str], texts: Sequence[str], k: int) -> Run:
        """Return the k documents of highest BM25 score above 0 for each query text.

        Raises:
            ValueError: k below 1, repeated ids, or lengths that disagree.
        """
        check_queries(query_ids, len(texts), k)
        rows = []
        for text in texts:
            query = self._queries.buildQuery(_CONTENTS, self._analyser, text)
            # Lucene breaks ties by id itself, so that none is cut off at the k-th place.
            hits = self._searcher.search(query, k, self._order, True).scoreDocs
            found = [(self._number(hit.doc), hit.score) for hit in hits]
            documents_M = np.array([document for document, _ in found], dtype=np.int64)
            scores_M = np.array([score for _, score in found], dtype=np.float32)
            rows.append(best(documents_M, scores_M, k))
        return Run.stacked(query_ids, self._ids, rows)

    def _number(self, document: int) -> int:
        """The place of one of Lucene's documents among the ids."""
        if document not in self._number_of:
            self._number_of[document] = self._numbers[self._stored.document(document).get(_ID)]
        return self._number_of[document]
