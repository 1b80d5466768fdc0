"""Vectors in the files that Anserini and Pyserini index and search.

documents/documents.jsonl   sparse: JsonVectorCollection, a line {"id", "content", "vector": {term:
                            level}}; dense: JsonDenseVectorCollection, {"docid", "vector": [...]}
topics.tsv                  sparse: query id TAB terms, each as often as its level says
topics.jsonl                dense: {"qid", "vector": [...]}

Shapes: N documents, V vocabulary, D dimensions.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from scipy import sparse

from lion_sweep.search.encoded import Encoded, Row, as_json, weights_of
from lion_sweep.search.encoding import Vectors

DOCUMENTS, FILE = "documents", "documents.jsonl"
TSV, JSONL = "topics.tsv", "topics.jsonl"

_SPARSE = """\
    python -m pyserini.index.lucene --collection JsonVectorCollection \\
      --generator DefaultLuceneDocumentGenerator --threads 1 --input documents --index index \\
      --impact --pretokenized --optimize
    python -m pyserini.search.lucene --index index --topics topics.tsv --impact --min-idf -1 \\
      --hits {depth} --remove-query --output run.txt

or with Anserini alone:

    java -cp anserini-fatjar.jar io.anserini.index.IndexCollection \\
      -collection JsonVectorCollection -generator DefaultLuceneDocumentGenerator -threads 1 \\
      -input documents -index index -impact -pretokenized -optimize
    java -cp anserini-fatjar.jar io.anserini.search.SearchCollection -index index \\
      -topics topics.tsv -topicReader TsvString -impact -pretokenized -hits {depth} -removeQuery \\
      -output run.txt

Pyserini needs a JDK of 21 or up, and asks for a key of OpenAI when it is imported:
OPENAI_API_KEY=unused will do. `--min-idf -1` keeps terms that every document
has. Pyserini reads query ids of digits as integers, so ids lose their leading zeros, which Anserini
alone keeps. Both refuse queries of more than 1,024 distinct terms.
"""

_DENSE = """\
    java -cp anserini-fatjar.jar io.anserini.index.IndexFlatDenseVectors \\
      -collection JsonDenseVectorCollection -generator DenseVectorDocumentGenerator -threads 1 \\
      -input documents -index index
    java -cp anserini-fatjar.jar io.anserini.search.SearchFlatDenseVectors -index index \\
      -topics topics.jsonl -topicReader JsonStringVector -topicField vector -hits {depth} \\
      -removeQuery -output run.txt

This is Anserini's exact search. It scores (1 + dot product) / 2 in float32, so passages that are
all but tied may change places. IndexHnswDenseVectors and SearchHnswDenseVectors take the same files
and are approximate.
"""


def write_documents(folder: Path, document_ids: Sequence[str], documents: Vectors) -> None:
    """Write a line per document, [N, V] CSR of levels or [N, D], to a file in `folder`."""
    head = '"id": %s, "content": ""' if sparse.issparse(documents) else '"docid": %s'
    with (folder / FILE).open("w", encoding="utf-8") as file:
        for known, vector in as_json(document_ids, documents):
            file.write(f'{{{head % known}, "vector": {vector}}}\n')


def write(encoded: Encoded, folder: Path, depth: int) -> str:
    """Write documents and topics; returns how to index and search them.

    Sparse vectors are integer levels, and every query has a term.
    """
    (folder / DOCUMENTS).mkdir()
    write_documents(folder / DOCUMENTS, encoded.document_ids, encoded.documents)
    with (folder / (TSV if encoded.is_sparse else JSONL)).open("w", encoding="utf-8") as file:
        if encoded.is_sparse:
            for row, query_id in enumerate(encoded.query_ids):
                terms = Counter(weights_of(encoded.queries, row)).elements()
                file.write(f"{query_id}\t{' '.join(terms)}\n")
        else:
            for known, vector in as_json(encoded.query_ids, encoded.queries):
                file.write(f'{{"qid": {known}, "vector": {vector}}}\n')
    return (_SPARSE if encoded.is_sparse else _DENSE).format(depth=depth)


def read(folder: Path, is_sparse: bool) -> tuple[Iterator[Row], Iterator[Row]]:
    """The documents and queries that `write` wrote."""

    def rows(path: Path, key: str) -> Iterator[Row]:
        with path.open(encoding="utf-8") as lines:
            for line in map(json.loads, lines):
                yield line[key], line["vector"]

    def topics() -> Iterator[Row]:
        with (folder / TSV).open(encoding="utf-8") as lines:
            for line in lines:
                query_id, _, text = line.partition("\t")
                yield query_id, dict(Counter(text.split()))

    documents = folder / DOCUMENTS / FILE
    if is_sparse:
        return rows(documents, "id"), topics()
    return rows(documents, "docid"), rows(folder / JSONL, "qid")
