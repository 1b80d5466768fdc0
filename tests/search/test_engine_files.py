"""Vectors as files of Anserini and of OpenSearch: read back exactly; what Lucene keeps."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from lion_sweep.errors import UserError
from lion_sweep.search import anserini, anserini_files, opensearch_files
from lion_sweep.search.encoded import Encoded
from lion_sweep.search.lucene import quantise

REASON = anserini.missing()
needs_lucene = pytest.mark.skipif(bool(REASON), reason=f"Lucene cannot run here: {REASON}")
IDS = ['d \u00e9"\\', "d\U0001f600", "d/2", "007", "e", "f"]


def numbers(seed: int, rows: int, columns: int, *, positive: bool) -> np.ndarray:
    """Float32 of all magnitudes, so that many need nine digits."""
    generator = np.random.default_rng(seed)
    found = generator.normal(size=(rows, columns)) * 10.0 ** generator.integers(
        -30, 1, (rows, columns)
    )
    return np.abs(found).astype(np.float32) if positive else found.astype(np.float32)


def sparse_vectors(seed: int = 0) -> Encoded:
    """With a document and a query that have no term."""
    documents, queries = (
        numbers(seed, 6, 40, positive=True),
        numbers(seed + 1, 3, 40, positive=True),
    )
    documents[:, ::3], queries[:, ::2] = 0, 0
    documents[4], queries[1] = 0, 0
    as_csr = sparse.csr_matrix
    return Encoded(IDS, as_csr(documents), ["q1", "007", "q\u00e9"], as_csr(queries))


def levels() -> Encoded:
    found = sparse_vectors()
    documents, queries = (quantise(vectors, 8)[0] for vectors in (found.documents, found.queries))
    return Encoded(IDS, documents, found.query_ids, queries).with_terms()


def dense_vectors() -> Encoded:
    documents, queries = numbers(3, 6, 12, positive=False), numbers(4, 3, 12, positive=False)
    return Encoded(IDS, documents, ["q1", "007", "q\u00e9"], queries)


@pytest.mark.parametrize(
    ("form", "encoded"),
    [
        (anserini_files, levels()),
        (anserini_files, dense_vectors()),
        (opensearch_files, sparse_vectors().with_terms()),
        (opensearch_files, dense_vectors()),
    ],
)
def test_files_read_back_exactly(form, encoded: Encoded, tmp_path: Path) -> None:
    form.write(encoded, tmp_path, 10)

    def matches(other: Encoded) -> bool:
        return other.matches(*form.read(tmp_path, encoded.is_sparse))

    assert matches(encoded)
    assert not matches(replace(encoded, documents=encoded.documents * 2))
    assert not matches(replace(encoded, queries=encoded.queries[::-1]))
    assert not matches(replace(encoded, document_ids=IDS[::-1]))
    assert not matches(replace(encoded, query_ids=encoded.query_ids[:-1]))
    longer = [*encoded.query_ids, "more"]
    assert not matches(replace(encoded, query_ids=longer))


def test_queries_without_terms_are_left_out() -> None:
    encoded = sparse_vectors()
    asked = encoded.with_terms()
    assert asked.query_ids == ["q1", "q\u00e9"]
    assert np.array_equal(asked.queries.toarray(), encoded.queries.toarray()[[0, 2]])


def test_anserinis_lines(tmp_path: Path) -> None:
    documents, queries = sparse.csr_matrix([[0, 3, 2], [0, 0, 0]]), sparse.csr_matrix([[1, 0, 3]])
    encoded = Encoded(["a", "b"], documents, ["q"], queries)
    anserini_files.write(encoded, tmp_path, 10)
    lines = (tmp_path / "documents" / "documents.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"id": "a", "content": "", "vector": {"1": 3, "2": 2}},
        {"id": "b", "content": "", "vector": {}},
    ]
    assert (tmp_path / "topics.tsv").read_text() == "q\t0 2 2 2\n"


def test_opensearchs_requests(tmp_path: Path) -> None:
    documents = sparse.csr_matrix(np.array([[0, 0.5, 0.1]], np.float32))
    encoded = Encoded(["a"], documents, ["q"], documents)
    opensearch_files.write(encoded, tmp_path, 10)
    action, document = (tmp_path / "documents.ndjson").read_text().splitlines()
    assert json.loads(action) == {"index": {"_id": "a"}}
    assert json.loads(document) == {"id": "a", "vector": {"1": 0.5, "2": 0.1}}
    header, query = (tmp_path / "queries.ndjson").read_text().splitlines()
    assert json.loads(header) == {}
    assert json.loads(query) == {
        "query": {"neural_sparse": {"vector": {"query_tokens": {"1": 0.5, "2": 0.1}}}},
        "size": 10,
        "_source": False,
        "sort": ["_score", {"id": "asc"}],
    }
    mapping = json.loads((tmp_path / "mapping.json").read_text())["mappings"]
    assert mapping["properties"]["vector"] == {"type": "rank_features"}


def test_opensearchs_requests_of_dense_vectors(tmp_path: Path) -> None:
    vectors = np.array([[0.5, -0.1]], np.float32)
    opensearch_files.write(Encoded(["a"], vectors, ["q"], vectors), tmp_path, 10)
    assert json.loads((tmp_path / "documents.ndjson").read_text().splitlines()[1]) == {
        "id": "a",
        "vector": [0.5, -0.1],
    }
    query = json.loads((tmp_path / "queries.ndjson").read_text().splitlines()[1])
    assert query["query"] == {"knn": {"vector": {"vector": [0.5, -0.1], "k": 10}}}
    body = json.loads((tmp_path / "mapping.json").read_text())
    vector = body["mappings"]["properties"]["vector"]
    assert (vector["type"], vector["dimension"]) == ("knn_vector", 2)
    assert vector["method"]["space_type"] == "innerproduct"
    assert body["settings"]["index"]["knn"] is True


def test_a_query_weight_that_lucene_refuses(tmp_path: Path) -> None:
    documents = sparse.csr_matrix(np.array([[65.0, 1.0]], np.float32))
    with pytest.raises(UserError, match=r"a query weight is 65, .* no more than 64"):
        opensearch_files.write(Encoded(["a"], documents, ["q"], documents), tmp_path, 10)


@needs_lucene
def test_what_lucenes_feature_field_keeps_of_a_weight() -> None:
    """OpenSearch's rank_features are FeatureFields, its neural_sparse adds up linear queries."""
    java = anserini.java_class()
    store = java("org.apache.lucene.store.ByteBuffersDirectory")()
    settings = java("org.apache.lucene.index.IndexWriterConfig")()
    writer = java("org.apache.lucene.index.IndexWriter")(store, settings)
    feature = java("org.apache.lucene.document.FeatureField")
    generator = np.random.default_rng(0)
    weights = np.exp(generator.normal(scale=3, size=(20, 1))).astype(np.float32)
    for weight in weights[:, 0].tolist():
        document = java("org.apache.lucene.document.Document")()
        document.add(feature("vector", "0", weight))
        writer.addDocument(document)
    writer.commit()
    reader = java("org.apache.lucene.index.DirectoryReader").open(store)
    searcher = java("org.apache.lucene.search.IndexSearcher")(reader.getContext())
    hits = searcher.search(feature.newLinearQuery("vector", "0", 2.0), 20).scoreDocs
    found = np.zeros(20, np.float32)
    for hit in hits:
        found[hit.doc] = hit.score
    encoded = Encoded(list(map(str, range(20))), sparse.csr_matrix(weights), [], weights[:0])
    kept = opensearch_files.as_stored(encoded).documents.toarray()[:, 0]
    assert np.array_equal(found, 2 * kept)
    assert (kept <= weights[:, 0]).all() and (kept > weights[:, 0] * (1 - 1 / 256)).all()
    assert (kept != weights[:, 0]).any()
    largest = opensearch_files.LARGEST_QUERY_WEIGHT
    feature.newLinearQuery("vector", "0", float(largest))
    with pytest.raises(Exception, match="weight must be in"):
        feature.newLinearQuery("vector", "0", largest + 0.1)
