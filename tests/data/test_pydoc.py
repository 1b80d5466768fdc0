"""Docstrings to queries and passages."""

from pathlib import Path

import pytest

from lion_sweep.data import pydoc
from lion_sweep.errors import UserError

REST = " ".join(f"word{number}" for number in range(20))


def words(count: int, prefix: str = "w") -> str:
    return " ".join(f"{prefix}{number}" for number in range(count))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # one paragraph: the first sentence, then what follows it
        (f"Return the number of files. {REST.capitalize()}", "Return the number of files."),
        # the first paragraph is one sentence
        (f"Return the number of files.\n\n{REST}", "Return the number of files."),
        # no full stop: the whole first paragraph, white space folded
        (f"Return the\n   number of files\n\n{REST}", "Return the number of files"),
        # a full stop before a lower-case letter ends no sentence
        (f"Return e.g. the number of files.\n\n{REST}", "Return e.g. the number of files."),
        (f"Is this a file name? {REST.capitalize()}", "Is this a file name?"),
    ],
)
def test_split_docstring(text: str, expected: str) -> None:
    pair = pydoc.split_docstring(text)
    assert pair is not None
    query, passage = pair
    assert query == expected
    assert passage.lower() == REST


def test_both_parts_of_the_docstring_reach_the_passage() -> None:
    pair = pydoc.split_docstring(f"Return the number of files. More on it.\n\n{REST}")
    assert pair == ("Return the number of files.", f"More on it. {REST}")


@pytest.mark.parametrize(
    ("query", "passage", "kept"),
    [(4, 20, False), (5, 20, True), (40, 20, True), (41, 20, False), (6, 14, False), (6, 15, True)],
)
def test_short_and_long_parts_are_refused(query: int, passage: int, kept: bool) -> None:
    pair = pydoc.split_docstring(f"{words(query)}\n\n{words(passage, 'p')}")
    assert (pair is not None) == kept


def test_passages_are_cut() -> None:
    pair = pydoc.split_docstring(f"{words(6)}\n\n{words(300, 'p')}")
    assert pair == (words(6), words(200, "p"))


def test_a_single_paragraph_without_a_second_sentence_is_refused() -> None:
    assert pydoc.split_docstring("Return the number of files below.") is None


def test_near_duplicates_are_dropped() -> None:
    base = words(20)
    pairs = [
        ("First query", base),
        ("same passage other name", f"{words(19)} other"),  # 19 shared of 21: above 0.8
        ("half the passage", f"{words(10)} {words(10, 'x')}"),  # 10 shared of 30
        ("just below", f"{words(17)} {words(3, 'y')}"),  # 17 shared of 23
    ]
    assert pydoc.drop_near_duplicates(pairs) == [pairs[0], pairs[2], pairs[3]]


def test_of_the_same_query_the_first_is_kept() -> None:
    pairs = [("A query", words(20)), ("Another", words(20, "x")), ("a QUERY", words(20, "z"))]
    assert sorted(pydoc.drop_near_duplicates(pairs)) == pairs[:2]


def test_a_repeated_query_keeps_its_place() -> None:
    pairs = [
        ("A query", words(20)),
        ("nearly the same passage", f"{words(19)} other"),
        ("a QUERY", words(20, "z")),
    ]
    assert pydoc.drop_near_duplicates(pairs) == [pairs[0]]


def test_a_dropped_passage_drops_no_other() -> None:
    # Each is near the one before it; the third is not near the first, which is the one kept.
    chain = [(f"query {shift}", words(40).split()[shift : shift + 30]) for shift in (0, 3, 6)]
    pairs = [(query, " ".join(passage)) for query, passage in chain]
    assert pydoc.drop_near_duplicates(pairs) == [pairs[0], pairs[2]]


def test_splits_have_their_shares() -> None:
    texts = [f"Query number {number}." for number in range(2000)]
    splits = [pydoc.split_of(text) for text in texts]
    assert 0.09 < splits.count("test") / 2000 < 0.13
    assert 0.035 < splits.count("dev") / 2000 < 0.065
    assert splits.count("train") == 2000 - splits.count("test") - splits.count("dev")
    assert splits == [pydoc.split_of(text.upper()) for text in texts]


@pytest.mark.parametrize(
    ("query", "split"),
    [
        ("Query number 0.", "dev"),
        ("Query number 1.", "train"),
        ("Query number 2.", "test"),
        ("Query number 3.", "dev"),
        ("Query number 9.", "test"),
        ("Query number 10.", "train"),
    ],
)
def test_splits_never_move(query: str, split: str) -> None:
    assert pydoc.split_of(query) == split


def test_docstrings_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "b.py").write_text(
        '"""module b"""\n\nclass B:\n    """class B"""\n\n'
        '    async def method(self):\n        """method"""\n\n    x = "not one"\n'
    )
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "first.py").write_text('def f():\n    """function f"""\n')
    (tmp_path / "broken.py").write_text('"""lost"""\ndef f(:\n')
    (tmp_path / "null.py").write_bytes(b'"""lost"""\n\0')
    (tmp_path / "latin.py").write_bytes(b'"""caf\xe9"""\n')
    (tmp_path / "notes.txt").write_text('"""lost"""')
    for folder in ("tests", "test", "site-packages"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "c.py").write_text('"""lost"""\n')
    expected = ["function f", "module b", "class B", "method", "caf\N{REPLACEMENT CHARACTER}"]
    assert list(pydoc.docstrings(tmp_path)) == expected


def test_a_root_below_a_skipped_name_is_read(tmp_path: Path) -> None:
    root = tmp_path / "site-packages" / "package"
    root.mkdir(parents=True)
    (root / "module.py").write_text('"""found"""\n')
    assert list(pydoc.docstrings(root)) == ["found"]


def test_an_installed_package_is_found() -> None:
    assert (pydoc.package_root("lion_sweep") / "errors.py").is_file()
    assert (pydoc.package_root("stdlib") / "argparse.py").is_file()


def test_collect_joins_packages() -> None:
    pairs = pydoc.collect(["json"])
    assert pairs == pydoc.collect(["json", "json"])
    assert len(pairs) >= 3
    assert all(len(query.split()) >= pydoc.MIN_QUERY_WORDS for query, _ in pairs)


@pytest.mark.parametrize("name", ["no_such_package", "no_such_package.below"])
def test_an_unknown_package_is_named(name: str) -> None:
    with pytest.raises(UserError, match=r"data\.packages.*no_such_package"):
        pydoc.package_root(name)
