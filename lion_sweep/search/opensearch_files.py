"""Vectors in the requests that OpenSearch takes.

mapping.json       body that makes the index: rank_features (sparse) or knn_vector (dense)
documents.ndjson   body of _bulk: an action, then a document, for every document
queries.ndjson     body of _msearch: a header, then a query, for every query
query_ids.txt      ids of the queries, in the order of that file and of its responses

Shapes: N documents, V vocabulary.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from lion_sweep.errors import UserError
from lion_sweep.files import write_json
from lion_sweep.search.encoded import Encoded, Row, as_json

MAPPING, DOCUMENTS = "mapping.json", "documents.ndjson"
QUERIES, QUERY_IDS = "queries.ndjson", "query_ids.txt"
LARGEST_QUERY_WEIGHT = 64  # of Lucene's FeatureField.newLinearQuery
_DROPPED_BITS = 15  # of a float32, by Lucene's FeatureField

_GUIDE = """\
    curl -X PUT "$URL/$INDEX" -H 'Content-Type: application/json' --data-binary @mapping.json
    split --lines 1000 --filter 'curl -sS -o /dev/null -X POST "$URL/$INDEX/_bulk" \\
      -H "Content-Type: application/x-ndjson" --data-binary @-' documents.ndjson
    curl -X POST "$URL/$INDEX/_refresh"
    split --lines 200 --filter 'curl -sS -X POST "$URL/$INDEX/_msearch" \\
      -H "Content-Type: application/x-ndjson" --data-binary @-; echo' \\
      queries.ndjson > responses.ndjson

with URL and INDEX exported. Responses come in the order of query_ids.txt; hits with equal scores
are ordered by document id. Drop a hit whose id is the query's, as the cell does.
"""

_SPARSE = """\

`neural_sparse` on `rank_features` adds up products of weights. Lucene keeps the top 9 significant
bits of a document's weight (relative error below 1/256) and takes query weights up to 64. Where a
query has more terms than indices.query.bool.max_clause_count (1,024), raise that. The same
documents fit a `sparse_vector` field, whose search is approximate.
"""

_DENSE = """\

`knn` is approximate (HNSW). For exact search, put this in the place of a query's "query":

    {"script_score": {"query": {"match_all": {}}, "script": {"lang": "knn", "source": "knn_score",
      "params": {"field": "vector", "query_value": [...], "space_type": "innerproduct"}}}}
"""


def write(encoded: Encoded, folder: Path, depth: int) -> str:
    """Write index, documents and queries; returns how to use them.

    Every sparse query has a term. Raises `UserError` for a query weight that Lucene refuses.
    """
    if encoded.is_sparse and encoded.queries.data.max(initial=0) > LARGEST_QUERY_WEIGHT:
        raise UserError(
            f"a query weight is {encoded.queries.data.max():.4g}, and OpenSearch takes no more "
            f"than {LARGEST_QUERY_WEIGHT}: export --for lucene."
        )
    write_json(folder / MAPPING, _mapping(encoded))
    with (folder / DOCUMENTS).open("w", encoding="utf-8") as file:
        for known, vector in as_json(encoded.document_ids, encoded.documents):
            file.write(f'{{"index": {{"_id": {known}}}}}\n{{"id": {known}, "vector": {vector}}}\n')
    form = '"neural_sparse": {"vector": {"query_tokens": %s}}'
    if not encoded.is_sparse:
        form = f'"knn": {{"vector": {{"vector": %s, "k": {depth}}}}}'
    rest = f'"size": {depth}, "_source": false, "sort": ["_score", {{"id": "asc"}}]'
    with (folder / QUERIES).open("w", encoding="utf-8") as file:
        for _, vector in as_json(encoded.query_ids, encoded.queries):
            file.write(f'{{}}\n{{"query": {{{form % vector}}}, {rest}}}\n')
    ids = "".join(f"{query_id}\n" for query_id in encoded.query_ids)
    (folder / QUERY_IDS).write_text(ids, encoding="utf-8")
    return _GUIDE + (_SPARSE if encoded.is_sparse else _DENSE)


def _mapping(encoded: Encoded) -> dict[str, Any]:
    """One shard, so that scores and their order do not depend on how documents are spread."""
    settings: dict[str, Any] = {"number_of_shards": 1, "number_of_replicas": 0}
    vector: dict[str, Any] = {"type": "rank_features"}
    if not encoded.is_sparse:
        settings["knn"] = True
        method = {"name": "hnsw", "engine": "faiss", "space_type": "innerproduct"}
        dimension = encoded.documents.shape[1]
        vector = {"type": "knn_vector", "dimension": dimension, "method": method}
    properties = {"id": {"type": "keyword"}, "vector": vector}
    return {"settings": {"index": settings}, "mappings": {"properties": properties}}


def read(folder: Path, is_sparse: bool) -> tuple[Iterator[Row], Iterator[Row]]:
    """The documents and queries that `write` wrote."""

    def every_second(name: str) -> Iterator[dict[str, Any]]:
        with (folder / name).open(encoding="utf-8") as lines:
            yield from map(json.loads, islice(lines, 1, None, 2))

    def queries() -> Iterator[Row]:
        query_ids = (folder / QUERY_IDS).read_text(encoding="utf-8").splitlines()
        for query_id, line in zip(query_ids, every_second(QUERIES), strict=True):
            ((_, of_field),) = line["query"].items()
            yield query_id, of_field["vector"]["query_tokens" if is_sparse else "vector"]

    return ((line["id"], line["vector"]) for line in every_second(DOCUMENTS)), queries()


def as_stored(encoded: Encoded) -> Encoded:
    """Sparse vectors with the document weights that Lucene's FeatureField keeps."""
    documents_NV = encoded.documents.astype(np.float32)  # a copy
    bits = documents_NV.data.view(np.uint32)
    documents_NV.data = (bits >> _DROPPED_BITS << _DROPPED_BITS).view(np.float32)
    return replace(encoded, documents=documents_NV)
