"""A cell's vectors for other engines, against plain products and the engines' own commands."""

import json
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import run
from scipy import sparse
from support import TWIN_BUDGET, Shell, by_axes, results
from transformers import AutoTokenizer
from trec import mapping, read_trec, run_of

from lion_sweep import vectors
from lion_sweep.errors import UserError
from lion_sweep.search import anserini, anserini_files
from lion_sweep.search.parts import Stored

REASON = anserini.missing()
needs_lucene = pytest.mark.skipif(bool(REASON), reason=f"Lucene cannot run here: {REASON}")
TERMS = 5000  # more than a proxy's vocabulary


def exported(twin: Path, axes: str, folder: Path, *words: str) -> tuple[str, dict[str, Any]]:
    """(the cell's id, the folder's facts)."""
    cell = by_axes(twin)[axes]["id"]
    assert vectors.main([cell, str(folder), "--root", str(twin), *words]) == 0
    return cell, json.loads((folder / "lion_sweep.json").read_text())


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def matrix(rows: list[dict[str, float]], dtype: type) -> sparse.csr_matrix:
    """CSR of {term: weight} rows."""
    places = [(row, int(term)) for row, weights in enumerate(rows) for term in weights]
    values = [weight for weights in rows for weight in weights.values()]
    shape = (len(rows), TERMS)
    return sparse.csr_matrix((np.array(values, dtype), np.array(places).T), shape)


def ranked(
    queries: list[str], documents: list[str], scores_QN: np.ndarray, least: float = 0.0
) -> dict[str, list[tuple[str, float]]]:
    """Hits above `least`, by score and then id."""
    return {
        query: sorted(
            (
                (document, float(score))
                for document, score in zip(documents, row, strict=True)
                if score > least
            ),
            key=lambda hit: (-hit[1], hit[0]),
        )
        for query, row in zip(queries, scores_QN, strict=True)
    }


def commands(folder: Path) -> list[list[str]]:
    """Anserini's commands of the README, with the Java and the jar of this machine."""
    text = (folder / "README.md").read_text(encoding="utf-8").replace("\\\n", " ")
    words = [shlex.split(line) for line in text.splitlines() if line.startswith("    java ")]
    here = {
        "java": str(anserini.java_home() / "bin" / "java"),
        "anserini-fatjar.jar": anserini.jar(),
    }
    return [[str(here.get(word, word)) for word in line] for line in words]


def by_anserini(folder: Path) -> dict[str, list[tuple[str, float]]]:
    """What the README's commands find, in the order of their file."""
    for words in commands(folder):
        subprocess.run(words, cwd=folder, check=True, capture_output=True)
    found: dict[str, list[tuple[str, float]]] = {}
    for line in (folder / "run.txt").read_text(encoding="utf-8").splitlines():
        query, _, document, _, score, _ = line.split()
        found.setdefault(query, []).append((document, float(score)))
    return found


@needs_lucene
def test_levels_for_lucene(twin: Path, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    cell, facts = exported(twin, "3b-sparse-clkd", folder, "--for", "lucene", "--bits", "3")
    documents = lines(folder / "documents" / "documents.jsonl")
    topics = [line.split("\t") for line in (folder / "topics.tsv").read_text().splitlines()]
    levels_NV = matrix([document["vector"] for document in documents], np.int64)
    counted = [{term: text.split().count(term) for term in text.split()} for _, text in topics]
    assert levels_NV.data.min() >= 1 and levels_NV.data.max() == 7
    products_QN = (matrix(counted, np.int64) @ levels_NV.T).toarray()
    ids = [document["id"] for document in documents]
    plain = ranked([query for query, _ in topics], ids, products_QN)
    lucene = by_anserini(folder)
    assert {q: [d for d, _ in hits] for q, hits in lucene.items()} == {
        q: [d for d, _ in hits] for q, hits in plain.items()
    }
    assert facts["checked"].startswith("Lucene finds")
    own = mapping(read_trec(twin / "cells" / cell / "runs" / "twin.trec"))
    shares = [
        len({d for d, _ in hits[:10]} & {d for d, _ in plain.get(query, [])[:10]}) / len(hits[:10])
        for query, hits in own.items()
    ]
    assert facts["top_10_kept"] == pytest.approx(np.mean(shares), abs=1e-12)
    assert 0.3 < facts["top_10_kept"] < 1
    # A weight is its level times the scale, to half the scale; no weight is lost but the least.
    stage = by_axes(twin)["3b-sparse-clkd"]["stages"]["encode passages twin"]["folder"]
    weights_NV = Stored(twin / "stages" / stage / "vectors").all()
    levels_NV.resize(weights_NV.shape)
    off = np.abs((levels_NV * facts["document_scale"] - weights_NV).toarray())
    assert off.max() <= facts["document_scale"] / 2 * (1 + 1e-6)


def test_without_java_levels_are_checked_by_exact_search(
    twin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(anserini, "missing", lambda: "no Java")
    _, facts = exported(twin, "1b-sparse-cl", tmp_path / "files", "--for", "lucene")
    assert "no Java to ask Lucene" in facts["checked"]
    assert facts["bits"] == 8


def test_weights_for_opensearch(twin: Path, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    cell, facts = exported(twin, "1b-sparse-clkd", folder, "--for", "opensearch")
    documents = lines(folder / "documents.ndjson")[1::2]
    asked = lines(folder / "queries.ndjson")[1::2]
    tokens = [body["query"]["neural_sparse"]["vector"]["query_tokens"] for body in asked]
    weights_NV = matrix([document["vector"] for document in documents], np.float32)
    ids = [document["id"] for document in documents]
    queries = (folder / "query_ids.txt").read_text().split()
    plain = ranked(queries, ids, (matrix(tokens, np.float32) @ weights_NV.T).toarray())
    own = mapping(read_trec(twin / "cells" / cell / "runs" / "twin.trec"))
    assert {query: hits for query, hits in plain.items() if hits} == own
    assert (facts["queries"], facts["queries_without_terms"]) == (40, 0)
    assert 0.9 < facts["top_10_kept"] <= 1
    result = by_axes(twin)["1b-sparse-clkd"]
    assert facts["score_of_cell"] == result["scores"]["twin"]["nDCG@10"]


def test_terms_have_their_tokens(twin: Path, tmp_path: Path) -> None:
    exported(twin, "1b-sparse-cl", tmp_path / "files", "--for", "opensearch")
    stages = by_axes(twin)["1b-sparse-cl"]["stages"]
    tokenizer = AutoTokenizer.from_pretrained(twin / "stages" / stages["backbone"]["folder"])
    known = {token: str(term) for token, term in tokenizer.get_vocab().items()}
    rows = (tmp_path / "files" / "terms.tsv").read_text(encoding="utf-8").splitlines()
    found = dict(row.split("\t") for row in rows)
    assert all(known[json.loads(token)] == term for term, token in found.items())
    documents = lines(tmp_path / "files" / "documents.ndjson")[1::2]
    assert {term for document in documents for term in document["vector"]} <= set(found)


@pytest.mark.parametrize("engine", ["lucene", "opensearch"])
def test_dense_vectors(twin: Path, tmp_path: Path, engine: str) -> None:
    folder = tmp_path / "files"
    cell, facts = exported(twin, "3b-dense-cl", folder, "--for", engine)
    if engine == "lucene":
        documents = lines(folder / "documents" / "documents.jsonl")
        asked, key = lines(folder / "topics.jsonl"), "docid"
        queries = [topic["qid"] for topic in asked]
        query_vectors = [topic["vector"] for topic in asked]
    else:
        documents, key = lines(folder / "documents.ndjson")[1::2], "id"
        queries = (folder / "query_ids.txt").read_text().split()
        bodies = lines(folder / "queries.ndjson")[1::2]
        query_vectors = [body["query"]["knn"]["vector"]["vector"] for body in bodies]
    vectors_ND = np.array([document["vector"] for document in documents])
    scores_QN = np.array(query_vectors) @ vectors_ND.T
    plain = ranked(queries, [document[key] for document in documents], scores_QN, -np.inf)
    own = mapping(read_trec(twin / "cells" / cell / "runs" / "twin.trec"))
    for query, hits in own.items():
        assert [score for _, score in hits] == pytest.approx([s for _, s in plain[query]], abs=1e-6)
    assert facts["top_10_kept"] == 1 and facts["score"] == facts["score_of_cell"]
    if engine == "lucene" and not REASON:
        for query, hits in by_anserini(folder).items():
            expected = [(1 + score) / 2 for _, score in own[query]]
            assert [score for _, score in hits] == pytest.approx(expected, abs=1e-5)


def test_another_set_and_vectors_that_are_gone(
    twin: Path, small_beir: Path, laptop: Shell, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    shutil.copytree(twin, root)
    known, other = (
        set(results(root)),
        f"+evaluation.sets.short={{path: {small_beir}, passage_length: 9}}",
    )
    words = ["model=1b", "paradigm=sparse", "loss=cl", *TWIN_BUDGET, f"paths.root={root}", other]
    assert laptop.run(*words)[0] == 0
    (cell,) = set(results(root)) - known
    result = results(root)[cell]
    for name in ("twin", "short"):
        folder = tmp_path / name
        words = [cell, str(folder), "--root", str(root), "--for", "opensearch", "--set", name]
        assert vectors.main(words) == 0
        facts = json.loads((folder / "lion_sweep.json").read_text())
        assert (facts["set"], facts["score_of_cell"]) == (name, result["scores"][name]["nDCG@10"])
    written = [(tmp_path / name / "documents.ndjson").read_text() for name in ("twin", "short")]
    assert written[0] != written[1]

    shutil.rmtree(root / "stages" / result["stages"]["encode passages twin"]["folder"])
    again = [cell, str(tmp_path / "again"), "--root", str(root), "--for", "opensearch"]
    with pytest.raises(UserError, match="its vectors are gone"):
        vectors.main(again)
    collection = ["data=beir", "data.name=twin", f"data.path={small_beir}"]
    assert (
        run(
            "lion_sweep.evaluate", f"checkpoint={cell}", *collection, f"paths.root={root}"
        ).returncode
        == 0
    )
    assert vectors.main(again) == 0
    assert (tmp_path / "again" / "documents.ndjson").read_text() == written[0]


ENGINES = {
    "exact": "lion_sweep.search.sparse.SparseIndex",
    "lucene": "lion_sweep.search.lucene.LuceneImpactIndex",
}


@pytest.mark.parametrize("searched_by", ENGINES)
def test_floats_are_compared_with_exact_search(
    twin: Path, tmp_path: Path, searched_by: str
) -> None:
    """Made again where the cell's own run is gone, or was found with levels."""
    root, result = tmp_path / "root", by_axes(twin)["1b-sparse-cl"]
    shutil.copytree(twin, root)
    config = root / "cells" / result["id"] / "config.yaml"
    text = config.read_text()
    assert ENGINES["exact"] in text
    config.write_text(text.replace(ENGINES["exact"], ENGINES[searched_by]))
    stage = root / "stages" / result["stages"]["search twin"]["folder"]
    gone = {"exact": stage / "done.json", "lucene": stage / "run.npz"}
    gone[searched_by].unlink()
    _, facts = exported(root, "1b-sparse-cl", tmp_path / "files", "--for", "opensearch")
    assert facts["score_of_cell"] == result["scores"]["twin"]["nDCG@10"]


def test_what_cannot_be_exported(twin: Path, tmp_path: Path) -> None:
    found = by_axes(twin)
    dense, sparse_cell = found["1b-dense-cl"]["id"], found["1b-sparse-cl"]["id"]
    (tmp_path / "there").mkdir()
    for words, why in (
        (["nothing", "x", "--for", "lucene"], "not the folder of a cell with a result"),
        ([dense, "there", "--for", "lucene"], "is there already"),
        ([dense, "x", "--for", "lucene", "--set", "other"], "--set is one of twin"),
        ([dense, "x", "--for", "lucene", "--bits", "8"], "is for sparse vectors"),
        ([sparse_cell, "x", "--for", "opensearch", "--bits", "8"], "is for sparse vectors"),
        ([sparse_cell, "x", "--for", "lucene", "--bits", "16"], "export with fewer --bits"),
    ):
        name, folder, *rest = words
        with pytest.raises(UserError, match=why):
            vectors.main([name, str(tmp_path / folder), *rest, "--root", str(twin)])
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_files_that_hold_or_find_something_else_are_refused(
    twin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell, read = by_axes(twin)["1b-sparse-cl"]["id"], anserini_files.read
    words = [cell, str(tmp_path / "x"), "--root", str(twin), "--for", "lucene"]

    def swapped(folder: Path, is_sparse: bool) -> tuple[Any, Any]:
        documents, queries = read(folder, is_sparse)
        ids, rows = zip(*documents, strict=True)
        return zip(ids, rows[::-1], strict=True), queries

    with monkeypatch.context() as patch:
        patch.setattr(anserini_files, "read", swapped)
        with pytest.raises(UserError, match="the files hold other vectors"):
            vectors.main(words)
    with monkeypatch.context() as patch:
        patch.setattr(vectors, "_of_queries", lambda run, ids: run_of({}))
        with pytest.raises(UserError, match="find other passages"):
            vectors.main([*words[:-1], "opensearch"])
    assert list(tmp_path.iterdir()) == []
