"""Typed schemas of what cells train on and are scored on, see schema.py."""

import re
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any

from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lion_sweep.config.section import Section, positive, require
from lion_sweep.errors import UserError

NAME = re.compile(r"[\w+-]([\w .+-]*[\w+-])?")
TOPK = re.compile(r"(\d+)/(\d+)")
LONGEST = 100
BM25 = ".bm25"  # ends the names of the reference's files
DataKind = StrEnum("DataKind", ["pydoc", "files"])  # where a collection comes from


def check_name(key: str, name: str) -> None:
    """Folders and files are called after it: of collections beside BM25's, of cells.

    Raises `UserError`.
    """
    fitting = re.sub(r"[^\w.+-]+", "-", name.removesuffix(BM25)).strip("-.")[:LONGEST] or "mine"
    require(
        bool(NAME.fullmatch(name)) and len(name) <= LONGEST and not name.endswith(BM25),
        f"{key} is {name!r}, and files have to be called after it: take letters, digits, spaces "
        f"and . _ + - inside, {LONGEST} at most, and no {BM25} at the end, such as {fitting}.",
    )


@dataclass
class Data(Section):
    """The collection that cells train on, and whose test split is the first to be scored."""

    name: str = MISSING
    kind: DataKind = MISSING
    packages: list[str] = field(default_factory=list)
    path: str | None = None
    corpus: str = MISSING
    queries: str = MISSING
    qrels: str = MISSING
    groups: str | None = None
    train_split: str = MISSING
    test_split: str = MISSING

    def check(self, key: str) -> None:
        check_name(f"{key}.name", self.name)
        if self.kind is DataKind.files:
            require(
                self.path is not None,
                f"data={self.name} needs a folder, a .zip or a Hugging Face id: {key}.path=FOLDER.",
            )
        else:
            require(bool(self.packages), f"{key}.packages is empty: name one, such as stdlib.")


@dataclass
class EvaluationSet(Section):
    """Another collection to score on; the defaults are BEIR's layout."""

    path: str = MISSING
    corpus: str = "corpus.jsonl"
    queries: str = "queries.jsonl"
    qrels: str = "qrels/{split}.tsv"
    split: str = "test"
    group: str | None = None
    measures: list[str] | None = None
    query_length: int | None = None
    passage_length: int | None = None


@dataclass
class Evaluation(Section):
    """How a trained cell is searched and scored, and on which collections besides its own."""

    measures: list[str] = MISSING
    sets: dict[str, Any] = field(default_factory=dict)  # of EvaluationSet, see below
    depth: int = MISSING
    query_length: int = MISSING
    passage_length: int = MISSING
    batch_tokens: int = MISSING
    kept_terms: int | None = None
    topk: list[str] = field(default_factory=list)  # terms of a query/of a passage
    permutations: int = MISSING

    def __post_init__(self) -> None:
        """Type the sets. omegaconf could, but then refuses new ones from the command line."""
        for name, values in self.sets.items():
            try:
                typed = OmegaConf.merge(OmegaConf.structured(EvaluationSet), values)
                self.sets[name] = OmegaConf.to_object(typed)
            except OmegaConfBaseException as error:
                known = ", ".join(entry.name for entry in fields(EvaluationSet))
                reason = str(error).splitlines()[0]
                raise UserError(
                    f"evaluation.sets.{name}={values}: {reason} It needs path=, and may have: "
                    f"{known}."
                ) from None

    def check(self, key: str) -> None:
        lengths = "query_length", "passage_length"
        positive(self, key, "depth", *lengths, "batch_tokens", "kept_terms")
        for name, chosen in self.sets.items():
            check_name(f"a name in {key}.sets", name)
            for length in lengths:
                value = getattr(chosen, length)
                require(
                    value is None or value > 0,
                    f"{key}.sets.{name}.{length}={value} must be greater than 0, or null.",
                )

        for word in self.topk:
            terms = TOPK.fullmatch(word)
            require(
                terms is not None and min(map(int, terms.groups())) > 0,
                f"{key}.topk has {word}: say QUERY/PASSAGE, so many terms of each, as in "
                f"{key}.topk=[10/100,40/400].",
            )
        require(
            len(set(self.topk)) == len(self.topk),
            f"{key}.topk={self.topk} names a point twice.",
        )

    @property
    def points(self) -> dict[str, tuple[int, int]]:
        """Of `topk`: terms of a query and of a passage."""
        found = {word: word.split("/") for word in self.topk}
        return {word: (int(query), int(passage)) for word, (query, passage) in found.items()}

    def own(self, name: str) -> EvaluationSet:
        """What differs for the set `name`: nothing for a cell's own collection."""
        return self.sets.get(name) or EvaluationSet()

    def lengths_of(self, name: str) -> tuple[int, int]:
        """Tokens kept of a query and of a passage on the set `name`."""
        own = self.own(name)
        return own.query_length or self.query_length, own.passage_length or self.passage_length

    def measures_of(self, name: str) -> list[str]:
        """The measures of the set `name`."""
        return self.own(name).measures or self.measures
