"""Hard negatives by BM25.

Shapes: P training pairs, M mined negatives.
"""

import numpy as np

from lion_sweep.data.collection import Collection, Flaws
from lion_sweep.data.groups import MISSING, Groups
from lion_sweep.errors import UserError
from lion_sweep.search.bm25 import BM25Index
from lion_sweep.search.runs import drop_self_hits


def mine(collection: Collection, split: str, depth: int) -> tuple[Groups, Flaws]:
    """Negatives are the first `depth` BM25 hits of a query that are not judged relevant to it,
    nor the query itself, where queries are passages too.

    Pairs whose positive is not there, or whose query has no such hit, are left out, for every cell
    alike, and counted.
    """
    documents, queries, judged = collection.documents, collection.queries, collection.judged[split]
    row_of = {document_id: row for row, document_id in enumerate(documents.ids)}
    index, asked = BM25Index(documents.ids, documents.all()), judged.asked
    run = drop_self_hits(index.search(asked, queries.of(asked), depth))
    qrels = judged.qrels
    positive = {query: [d for d, grade in qrels[query].items() if grade > 0] for query in asked}
    relevant = {
        query: [d for d in positives if d in row_of] for query, positives in positive.items()
    }
    query_ids = [query for query, positives in relevant.items() for _ in positives]
    positive_ids = [document for positives in relevant.values() for document in positives]
    positive_scores = index.scores(queries.of(query_ids), positive_ids)
    negative_PM = np.full((len(query_ids), depth), MISSING, dtype=np.int32)
    score_PM = np.zeros((len(query_ids), depth), dtype=np.float32)
    for row, query in enumerate(query_ids):
        hits = [hit for hit in run.hits(query) if qrels[query].get(hit[0], 0) <= 0]
        negative_PM[row, : len(hits)] = [row_of[document] for document, _ in hits]
        score_PM[row, : len(hits)] = [score for _, score in hits]
    groups = Groups(
        query_P=queries.rows(query_ids).astype(np.int32),
        positive_P=documents.rows(positive_ids).astype(np.int32),
        negative_PM=negative_PM,
        positive_score_P=np.array(positive_scores, dtype=np.float32),
        negative_score_PM=score_PM,
    )
    usable_P = (negative_PM != MISSING).any(axis=1)
    if not usable_P.any():
        raise UserError(
            f"No query of the split {split!r} has a BM25 hit besides its positives, so there is "
            "nothing to train against: the collection is too small, or its texts share no words."
        )
    flaws = {
        "missing_positives": sum(map(len, positive.values())) - len(query_ids),
        "without_negatives": int((~usable_P).sum()),
    }
    return Groups(**{name: array_P[usable_P] for name, array_P in vars(groups).items()}), flaws
