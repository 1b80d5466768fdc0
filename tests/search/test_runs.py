"""Runs as arrays, their files, and the rule of ties."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trec import mapping, read_trec, run_of

from lion_sweep.search.runs import Hits, Run, drop_self_hits, write_trec

IDS = st.text(
    st.characters(exclude_categories=["Z", "C"]) | st.just("\U0001f600"), min_size=1, max_size=5
)
SCORES = st.floats(allow_nan=False, allow_infinity=False)
MAPPINGS = st.dictionaries(
    IDS, st.dictionaries(IDS, SCORES, max_size=6).map(lambda scores: list(scores.items())),
    max_size=4,
)  # fmt: skip


def ranked(hits: Hits) -> Hits:
    return sorted(hits, key=lambda hit: (-hit[1], hit[0]))


@given(hits=MAPPINGS)
def test_built_from_a_mapping_by_the_rule_of_ties(hits: dict[str, Hits]) -> None:
    run = run_of(hits)
    assert mapping(run) == {query_id: ranked(of_query) for query_id, of_query in hits.items()}
    assert run.document_ids == sorted({name for of_query in hits.values() for name, _ in of_query})
    assert run == run_of({query_id: ranked(of_query) for query_id, of_query in hits.items()})


@given(hits=MAPPINGS)
def test_files_round_trip(tmp_path_factory: pytest.TempPathFactory, hits: dict[str, Hits]) -> None:
    folder, run = tmp_path_factory.mktemp("runs"), run_of(hits)
    write_trec(run, folder / "run.trec", "tag")
    found = {query_id: own for query_id, own in mapping(run).items() if own}
    assert mapping(read_trec(folder / "run.trec")) == found
    run.save(folder / "run.npz")
    assert Run.load(folder / "run.npz") == run
    assert sorted(entry.name for entry in folder.iterdir()) == ["run.npz", "run.trec"]


def wide_run(dtype: type) -> Run:
    """Ten documents of which five are hits, a query without any, an unused column."""
    documents_QK = np.array([[9, 0, -1, -1], [-1] * 4, [3, 4, 7, -1]], dtype=np.int32)
    scores_QK = np.array([[0.7, 0.1, -np.inf, -np.inf], [-np.inf] * 4, [3, 2, 2, -np.inf]])
    names = [f"d{number}" for number in range(10)]
    return Run(["a", "d3", "c"], names, documents_QK, scores_QK.astype(dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_saved_without_documents_that_are_no_hits(tmp_path: Path, dtype: type) -> None:
    run = wide_run(dtype)
    run.save(tmp_path / "run.npz")
    loaded = Run.load(tmp_path / "run.npz")
    assert loaded == run
    assert loaded.document_ids == ["d0", "d3", "d4", "d7", "d9"]
    assert loaded.scores_QK.dtype == dtype
    assert loaded.documents_QK.shape == (3, 3)
    assert loaded.hits("c") == [("d3", 3.0), ("d4", 2.0), ("d7", 2.0)]
    assert run.rows(["c", "missing", "a"]).tolist() == [2, -1, 0]


def test_equality() -> None:
    run = wide_run(np.float64)
    assert run != "run"
    assert run != replace(run, query_ids=["a", "d3", "e"])
    assert run != replace(run, scores_QK=run.scores_QK + 1)
    assert run != replace(run, documents_QK=np.where(run.documents_QK == 4, 5, run.documents_QK))
    with pytest.raises(KeyError):
        run.hits("missing")


def test_trec_columns(tmp_path: Path) -> None:
    path = tmp_path / "run.trec"
    write_trec(run_of({"q": [("b", 0.1), ("a", -2.0)], "empty": []}), path, "lion")
    assert path.read_text() == "q Q0 b 1 0.1 lion\nq Q0 a 2 -2.0 lion\n"


def test_read_orders_by_score_then_id(tmp_path: Path) -> None:
    path = tmp_path / "run.trec"
    path.write_text("q Q0 d9 1 1 t\nq Q0 d10 2 1 t\nq Q0 z 3 2.5 t\n")
    assert mapping(read_trec(path)) == {"q": [("z", 2.5), ("d10", 1.0), ("d9", 1.0)]}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("q Q0 d 2 1.0", "5 columns"),
        ("", "0 columns"),
        ("q Q0 d e 2 1.0 t", "7 columns"),
        ("q Q0 d 2 high t", "score 'high' is not a finite number"),
        ("q Q0 d 2 nan t", "score 'nan' is not a finite number"),
        ("q Q0 a 2 1.0 t", "document a twice for query q"),
    ],
)
def test_malformed_line_names_file_and_line(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "broken.trec"
    path.write_text(f"q Q0 a 1 2.0 t\n{line}\n")
    with pytest.raises(ValueError, match=rf"broken\.trec:2: {message}"):
        read_trec(path)


@pytest.mark.parametrize(
    ("run", "tag"),
    [
        ({"q 1": [("d", 1.0)]}, "t"),
        ({"q": [("d\u00a01", 1.0)]}, "t"),
        ({"q": [("", 1.0)]}, "t"),
        ({"q": [("d", 1.0)]}, "two words"),
    ],
)
def test_unwritable_run_leaves_the_old_file(tmp_path: Path, run: dict, tag: str) -> None:
    path = tmp_path / "run.trec"
    path.write_text("old")
    with pytest.raises(ValueError, match="cannot be a TREC column"):
        write_trec(run_of(run), path, tag)
    infinite = wide_run(np.float32)
    infinite.scores_QK[0, 0] = np.inf
    with pytest.raises(ValueError, match="a score is not finite"):
        write_trec(infinite, path, "t")
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_drop_self_hits() -> None:
    run = drop_self_hits(wide_run(np.float32))
    assert run == wide_run(np.float32)  # query d3 has no hits, and c is no document
    hits = {"a": [("a", 3.0), ("b", 2.0)], "b": [("a", 1.0), ("c", 0.5), ("b", 0.2)], "c": []}
    expected = {"a": [("b", 2.0)], "b": [("a", 1.0), ("c", 0.5)], "c": []}
    assert mapping(drop_self_hits(run_of(hits))) == expected
    only = run_of({"a": [("a", 1.0)]})
    assert mapping(drop_self_hits(only)) == {"a": []}
    assert only.hits("a") == [("a", 1.0)]
