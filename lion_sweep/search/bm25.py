"""BM25 over raw texts, with bm25s: Lucene's variant, English stop words, Snowball stems.

Shapes: N documents, M candidates.
"""

import logging
from collections.abc import Sequence

import bm25s
import numpy as np
import Stemmer

from lion_sweep.search.base import Engine, best, check_queries, sorted_documents
from lion_sweep.search.runs import Run

# bm25s sets its logger to DEBUG when imported.
logging.getLogger("bm25s").setLevel(logging.WARNING)


class BM25Index(Engine):
    """BM25 as Lucene computes it, with exact document lengths (Kamphuis et al., ECIR 2020).

    Terms are lower-cased runs of two or more word characters, and a text has to hold one. k1, the
    saturation of term frequency, and b, the strength of length normalisation (0 to 1), default to
    the values of the MS MARCO baselines of Anserini and BEIR.
    """

    def __init__(
        self, document_ids: Sequence[str], texts: Sequence[str], k1: float = 0.9, b: float = 0.4
    ) -> None:
        self._ids, order_N = sorted_documents(document_ids, len(texts))
        self._numbers = {document_id: number for number, document_id in enumerate(self._ids)}
        self._stemmer = Stemmer.Stemmer("english")
        tokens = self._tokens([texts[row] for row in order_N])
        if not any(tokens):
            raise ValueError("no document text holds a term to index")
        self._bm25 = bm25s.BM25(k1=k1, b=b, method="lucene")
        self._bm25.index(tokens, show_progress=False)

    def _tokens(self, texts: Sequence[str]) -> list[list[str]]:
        return bm25s.tokenize(
            list(texts),
            stopwords="english",
            stemmer=self._stemmer,
            return_ids=False,
            show_progress=False,
        )

    def _scores_N(self, tokens: list[str]) -> np.ndarray:
        return self._bm25.get_scores_from_ids(self._bm25.get_tokens_ids(tokens))

    def search(self, query_ids: Sequence[str], texts: Sequence[str], k: int) -> Run:
        """Return the k documents of highest BM25 score above 0 for each query text."""
        check_queries(query_ids, len(texts), k)
        rows = []
        for scores_N in map(self._scores_N, self._tokens(texts)):
            documents_M = np.flatnonzero(scores_N)
            rows.append(best(documents_M, scores_N[documents_M], k))
        return Run.stacked(query_ids, self._ids, rows)

    def scores(self, texts: Sequence[str], document_ids: Sequence[str]) -> list[float]:
        """Return the BM25 score of each query text and the document beside it."""
        numbers = [self._numbers[document_id] for document_id in document_ids]
        pairs = zip(self._tokens(texts), numbers, strict=True)
        return [float(self._scores_N(tokens)[number]) for tokens, number in pairs]
