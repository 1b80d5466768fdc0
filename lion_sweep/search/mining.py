"""Hard negatives by BM25.

Shapes: P training pairs, M mined negatives.
"""

import numpy as np

from lion_sweep.data.collection import Collection
from lion_sweep.data.groups import MISSING, Groups
from lion_sweep.errors import UserError
from lion_sweep.search.bm25 import BM25Index


def mine(collection: Collection, split: str, depth: int) -> Groups:
    """Negatives are the first `depth` BM25 hits of a query that are not judged relevant to it.

    Pairs whose query has no such hit are left out, for every cell alike.
    """
    document_ids = collection.documents.ids
    document_row = {identifier: row for row, identifier in enumerate(document_ids)}
    qrels, asked = collection.qrels[split], collection.asked(split)
    text_of = dict(zip(asked, collection.queries.of(asked), strict=True))
    pairs = [
        (query, document)
        for query, grades in qrels.items()
        for document, grade in grades.items()
        if grade > 0
    ]
    index = BM25Index(document_ids, collection.documents.all())
    run = index.search(asked, list(text_of.values()), depth)
    positive_scores = index.scores(
        [text_of[query] for query, _ in pairs], [[document] for _, document in pairs]
    )
    negative_PM = np.full((len(pairs), depth), MISSING, dtype=np.int32)
    score_PM = np.zeros((len(pairs), depth), dtype=np.float32)
    for row, (query, _) in enumerate(pairs):
        hits = [(hit, score) for hit, score in run.hits(query) if qrels[query].get(hit, 0) <= 0]
        for place, (document, score) in enumerate(hits):
            negative_PM[row, place] = document_row[document]
            score_PM[row, place] = score
    groups = Groups(
        query_P=collection.queries.rows([query for query, _ in pairs]).astype(np.int32),
        positive_P=np.array([document_row[document] for _, document in pairs], dtype=np.int32),
        negative_PM=negative_PM,
        positive_score_P=np.array([scores[0] for scores in positive_scores], dtype=np.float32),
        negative_score_PM=score_PM,
    )
    usable_P = (negative_PM != MISSING).any(axis=1)
    if not usable_P.any():
        raise UserError(
            f"No query of the split {split!r} has a BM25 hit besides its positives, so there is "
            "nothing to train against: the collection is too small, or its texts share no words."
        )
    return Groups(**{name: array_P[usable_P] for name, array_P in vars(groups).items()})
