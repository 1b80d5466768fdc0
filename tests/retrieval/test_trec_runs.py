"""TREC files and the rule of ties."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lion_sweep.retrieval.runs import by_rule_of_ties, drop_self_hits, read_trec, write_trec

IDS = st.text(
    st.characters(exclude_categories=["Z", "C"]) | st.just("\U0001f600"), min_size=1, max_size=5
)
SCORES = st.floats(allow_nan=False, allow_infinity=False)
RUNS = st.dictionaries(
    IDS,
    st.dictionaries(IDS, SCORES, min_size=1, max_size=6).map(
        lambda scores: by_rule_of_ties(list(scores.items()))
    ),
    max_size=4,
)


@given(run=RUNS)
def test_trec_round_trip_is_lossless(tmp_path_factory: pytest.TempPathFactory, run: dict) -> None:
    path = tmp_path_factory.mktemp("trec") / "run.trec"
    write_trec(run, path, "tag")
    assert read_trec(path) == run
    assert [entry.name for entry in path.parent.iterdir()] == ["run.trec"]


def test_trec_columns(tmp_path: Path) -> None:
    path = tmp_path / "run.trec"
    write_trec({"q": [("b", 0.1), ("a", -2.0)], "empty": []}, path, "lion")
    assert path.read_text() == "q Q0 b 1 0.1 lion\nq Q0 a 2 -2.0 lion\n"


def test_read_orders_by_score_then_id(tmp_path: Path) -> None:
    path = tmp_path / "run.trec"
    path.write_text("q Q0 d9 1 1 t\nq Q0 d10 2 1 t\nq Q0 z 3 2.5 t\n")
    assert read_trec(path) == {"q": [("z", 2.5), ("d10", 1.0), ("d9", 1.0)]}


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
        ({"q": [("d", float("nan"))]}, "t"),
    ],
)
def test_unwritable_run_leaves_the_old_file(tmp_path: Path, run: dict, tag: str) -> None:
    path = tmp_path / "run.trec"
    path.write_text("old")
    with pytest.raises(ValueError):
        write_trec(run, path, tag)
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_drop_self_hits() -> None:
    run = {"a": [("a", 3.0), ("b", 2.0)], "b": [("a", 1.0)], "c": []}
    assert drop_self_hits(run) == {"a": [("b", 2.0)], "b": [("a", 1.0)], "c": []}
